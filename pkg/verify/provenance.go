package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// provenance is the part of SLSA provenance, version 1, that policies are about.
type provenance struct {
	builder    string
	sources    []string // URIs of what it was made of
	parameters []string // names of what whoever asked for it could choose, sorted
	err        error    // it is not what the specification says
}

// provenance returns what a statement says of how its subject was made, nil when
// it is of another type.
func (s *statement) provenance() *provenance {
	if s.PredicateType != predicateProvenance {
		return nil
	}
	var p struct {
		BuildDefinition struct {
			ExternalParameters   map[string]json.RawMessage `json:"externalParameters"`
			ResolvedDependencies []struct {
				URI string `json:"uri"`
			} `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		return &provenance{err: oneLine(err)} // and so nothing in it is what a policy wants
	}
	out := &provenance{builder: p.RunDetails.Builder.ID, parameters: slices.Sorted(maps.Keys(p.BuildDefinition.ExternalParameters))}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		out.sources = append(out.sources, d.URI)
	}
	return out
}

// requirement is an attestation that must be there. What is empty is not asked for.
type requirement struct {
	predicateType string

	// Of provenance:
	builder    string
	source     string   // a URI that something it was made of has, up to an "@"
	parameters []string // no parameter but these
}

// String is how explanations write it.
func (want requirement) String() string {
	text := want.predicateType
	if want.builder != "" {
		text += ", by builder " + want.builder
	}
	if want.source != "" {
		text += ", from " + want.source
	}
	if len(want.parameters) > 0 {
		text += ", with no parameters but " + join(slices.Clone(want.parameters))
	}
	return text
}

// unmet returns in what f, which counts, is not what is wanted; nil when it is.
func (want requirement) unmet(f finding) error {
	if f.predicateType != want.predicateType {
		return errors.New("another type")
	}
	p := f.provenance
	if p == nil { // not provenance, of which nothing more can be asked
		return nil
	}
	if want.builder != "" && p.builder != want.builder {
		return fmt.Errorf("builder: got %q, want %s", printable(p.builder), want.builder)
	}
	if want.source != "" && !slices.ContainsFunc(p.sources, want.from) {
		return fmt.Errorf("source: got %s, want %s", printable(some(p.sources)), want.source)
	}
	if len(want.parameters) == 0 {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("parameters: %w", p.err)
	}
	for _, name := range p.parameters {
		if !slices.Contains(want.parameters, name) {
			return fmt.Errorf("parameter %q: want no other than %s", printable(name), join(slices.Clone(want.parameters)))
		}
	}
	return nil
}

// from reports whether the URI is the source that is wanted, at any version.
func (want requirement) from(uri string) bool {
	return uri == want.source || strings.HasPrefix(uri, want.source+"@")
}

// some lists a few of what may be many.
func some(list []string) string {
	const few = 3
	switch n := len(list); {
	case n == 0:
		return "none"
	case n > few:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), n-few)
	}
	return strings.Join(list, ", ")
}
