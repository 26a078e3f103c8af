package convert

import (
	"strings"

	"github.com/goccy/go-yaml"
)

// object is a mapping whose keys stay in the order in which they are written.
type object = yaml.MapSlice

// item is one entry of an object.
func item(key string, value any) yaml.MapItem { return yaml.MapItem{Key: key, Value: value} }

// documents writes a YAML stream.
func documents(docs ...object) (string, error) {
	var parts []string
	for _, d := range docs {
		body, err := yaml.MarshalWithOptions(d, yaml.UseLiteralStyleIfMultiline(true), yaml.Indent(2))
		if err != nil {
			return "", err
		}
		parts = append(parts, string(body))
	}
	return strings.Join(parts, "---\n"), nil
}

// kubernetes is the head of an object in a cluster.
func kubernetes(version, kind, name string, more ...yaml.MapItem) object {
	meta := append(object{item("name", name)}, more...)
	return object{item("apiVersion", version), item("kind", kind), item("metadata", meta)}
}
