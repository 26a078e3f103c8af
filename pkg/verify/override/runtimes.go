package override

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// podmanFiles say it to podman, skopeo and CRI-O: for what is pulled by digest
// from the repository that the machine names, ask the verified ones first.
func podmanFiles(images []Image) []File {
	var conf, signed strings.Builder
	signed.WriteString("docker:\n")
	var told []string // repositories that were written
	attach := func(repository string) {
		if !slices.Contains(told, repository) {
			told = append(told, repository)
			fmt.Fprintf(&signed, "  %s: {use-sigstore-attachments: true}\n", repository)
		}
	}
	for _, im := range images {
		registryTable(&conf, im, im.Repository)
		for _, source := range im.Sources {
			attach(source)
			if source == im.Repository {
				continue
			}
			fmt.Fprintf(&conf, "[[registry.mirror]]\nlocation = %q\npull-from-mirror = \"digest-only\"\n", source)
			if im.plain(source) {
				conf.WriteString("insecure = true\n")
			}
			conf.WriteString("\n")
		}
		attach(im.Repository)
		for _, source := range im.Sources {
			if source != im.Repository && im.plain(source) {
				registryTable(&conf, im, source)
			}
		}
	}
	return []File{
		{"etc/containers/registries.conf.d/50-imgctl-override.conf", 0o644, []byte(strings.TrimRight(conf.String(), "\n") + "\n")},
		{"etc/containers/registries.d/50-imgctl-override.yaml", 0o644, []byte(signed.String())},
	}
}

func registryTable(b *strings.Builder, im Image, repository string) {
	fmt.Fprintf(b, "[[registry]]\nprefix = %q\nlocation = %q\n", repository, repository)
	if im.plain(repository) {
		b.WriteString("insecure = true\n")
	}
	b.WriteString("\n")
}

// requirement is a signature that policy.json asks for (containers-policy.json(5)).
type requirement struct {
	Type     string    `json:"type"`
	KeyData  []byte    `json:"keyData,omitempty"`
	KeyDatas [][]byte  `json:"keyDatas,omitempty"`
	Identity *identity `json:"signedIdentity,omitempty"`
}

type identity struct {
	Type       string `json:"type"`
	Repository string `json:"dockerRepository"`
}

// requirements are those of an image; none where policy.json cannot say them.
func (im Image) requirements() []requirement {
	if im.SignedAs == "" || len(im.Keys) == 0 {
		return nil
	}
	by := &identity{"exactRepository", im.SignedAs}
	if !im.AllKeys && len(im.Keys) > 1 {
		return []requirement{{Type: "sigstoreSigned", KeyDatas: im.Keys, Identity: by}}
	}
	var list []requirement
	for _, k := range im.Keys {
		list = append(list, requirement{Type: "sigstoreSigned", KeyData: k, Identity: by})
	}
	return list
}

// policyFile is a policy.json that admits the images if they are signed, and
// nothing else. An image of which it cannot say who must have signed it has no
// part in it, and so is refused.
func policyFile(images []Image) ([]File, error) {
	docker := make(map[string][]requirement)
	for _, im := range images {
		list := im.requirements()
		if list == nil {
			continue
		}
		for _, repository := range append([]string{im.Repository}, im.Sources...) {
			docker[repository] = list
		}
	}
	if len(docker) == 0 {
		return nil, nil
	}
	body, err := json.MarshalIndent(map[string]any{
		"default":    []requirement{{Type: "reject"}},
		"transports": map[string]any{"docker": docker},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("policy.json: %w", err)
	}
	return []File{{"etc/containers/policy.json", 0o644, append(body, '\n')}}, nil
}

// containerdFiles say it to containerd, which can ask another host but not for
// another name there: only sources with the same path, or with it at their end,
// are of use. They are trusted with digests alone; a tag is still the registry's own.
func containerdFiles(images []Image) []File {
	tables := make(map[string][]string) // by registry
	for _, im := range images {
		host, path := split(im.Repository)
		for _, source := range im.Sources {
			if table := hostTable(im, source, path); source != im.Repository && table != "" && !slices.Contains(tables[host], table) {
				tables[host] = append(tables[host], table)
			}
		}
	}
	var files []File
	for host, list := range tables {
		server := "https://" + endpoint(host)
		if slices.ContainsFunc(images, func(im Image) bool { return im.plain(host) }) {
			server = "http://" + host
		}
		body := fmt.Sprintf("server = %q\n\n%s", server, strings.Join(list, "\n"))
		files = append(files, File{"etc/containerd/certs.d/" + host + "/hosts.toml", 0o644, []byte(body)})
	}
	return files
}

// hostTable is the part of hosts.toml about a source, "" when containerd cannot use it.
func hostTable(im Image, source, path string) string {
	host, there := split(source)
	scheme := "https://"
	if im.plain(source) {
		scheme = "http://"
	}
	address, extra := scheme+endpoint(host), ""
	if there != path {
		prefix, ok := strings.CutSuffix(there, "/"+path)
		if !ok {
			return ""
		}
		address, extra = address+"/v2/"+prefix, "  override_path = true\n"
	}
	return fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\"]\n%s", address, extra)
}

// endpoint is where the registry is asked.
func endpoint(host string) string {
	if host == "docker.io" {
		return "registry-1.docker.io"
	}
	return host
}
