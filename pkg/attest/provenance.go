package attest

import (
	"fmt"
	"maps"
	"time"
)

// provenance is the predicate of SLSA provenance, version 1
// (https://slsa.dev/spec/v1.1/provenance).
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string         `json:"buildType"`
	ExternalParameters   map[string]any `json:"externalParameters"`
	InternalParameters   map[string]any `json:"internalParameters,omitempty"`
	ResolvedDependencies []descriptor   `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder  builder   `json:"builder"`
	Metadata *metadata `json:"metadata,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type metadata struct {
	InvocationID string     `json:"invocationId,omitempty"`
	StartedOn    *time.Time `json:"startedOn,omitempty"`
	FinishedOn   *time.Time `json:"finishedOn,omitempty"`
}

// annotations say about a dependency what a ResourceDescriptor has no field for.
type annotations struct {
	Location string   `json:"location,omitempty"` // relative to the archive or base that it came from
	Proofs   []string `json:"proofs,omitempty"`   // how it was checked
	Source   string   `json:"source,omitempty"`   // what it was taken out of or built from
}

// Provenance returns the SLSA provenance of the artifact that r records, as the
// predicate of a statement. Every material is a resolved dependency; one
// without a digest is an error. Metadata appear only as far as r has them: a
// reproducible build has no start time.
func Provenance(r Record) ([]byte, error) {
	if r.Builder == "" {
		return nil, fmt.Errorf("provenance: no builder")
	}
	deps, err := dependencies(r.Materials)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	p := provenance{
		BuildDefinition: buildDefinition{
			BuildType:            r.BuildType,
			ExternalParameters:   r.parameters(),
			InternalParameters:   r.Internal,
			ResolvedDependencies: deps,
		},
		RunDetails: runDetails{Builder: builder{ID: r.Builder}, Metadata: r.metadata()},
	}
	if r.BuildType == "" {
		p.BuildDefinition.BuildType = BuildType
	}
	if r.Version != "" {
		p.RunDetails.Builder.Version = map[string]string{"imgctl": r.Version}
	}
	data, err := encode(p)
	if err != nil {
		return nil, fmt.Errorf("encode provenance: %w", err)
	}
	return data, nil
}

// parameters are what the user asked for. The platform is part of that.
func (r Record) parameters() map[string]any {
	p := maps.Clone(r.Parameters)
	if p == nil {
		p = make(map[string]any) // the specification requires an object
	}
	if _, ok := p["platform"]; !ok && r.Platform != "" {
		p["platform"] = r.Platform
	}
	return p
}

func (r Record) metadata() *metadata {
	if r.Invocation == "" && r.Started.IsZero() && r.Finished.IsZero() {
		return nil
	}
	return &metadata{InvocationID: r.Invocation, StartedOn: instant(r.Started), FinishedOn: instant(r.Finished)}
}

// instant is t in UTC, to the second, or nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func dependencies(materials []Material) ([]descriptor, error) {
	deps := []descriptor{} // never null
	for _, m := range sorted(materials) {
		if err := m.check(); err != nil {
			return nil, err
		}
		purl, err := m.purl()
		if err != nil {
			return nil, err
		}
		d := descriptor{Name: m.Name, URI: purl, Digest: m.Digests}
		if d.URI == "" {
			d.URI = m.URI
		}
		a := annotations{Proofs: m.Proofs, Source: m.Source}
		if d.URI != m.URI {
			a.Location = m.URI
		}
		if len(a.Proofs) > 0 || a.Source != "" || a.Location != "" {
			d.Annotations = &a
		}
		deps = append(deps, d)
	}
	return deps, nil
}
