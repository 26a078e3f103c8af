// Package rebuild says whether an image was made of what its provenance names.
//
// A [Claim] is what signed provenance says about how to make the image again. A
// [Source] is the part of its inputs that nobody else publishes, the spec with its
// lock and keyring, as an artifact beside the image. [Load] reads these, checked
// against the claim, so that they can be built; [Compare] then compares what was
// published with what was built, down to the first byte that differs.
//
// Nothing here verifies a signature or talks to a registry: both are the caller's concern.
package rebuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// Claim is what provenance says about how an image was made.
type Claim struct {
	Builder string            // URI of who built
	Imgctl  string            // version of imgctl; "" when it does not say
	Target  build.Target      // version and variant; Default is not known
	Created time.Time         // the time in the image
	Engines map[string]Engine // what made each platform

	inputs map[string][]string // sha256, by the name of the input
}

// Engine is what decided the bytes of an image beside its inputs.
type Engine struct {
	Name        string   `json:"engine"`      // "layers"
	Rootfs      int      `json:"rootfs"`      // version of the rules by which packages become files
	Compression []string `json:"compression"` // of each layer, as package layer names it
}

// provenance is the part of the SLSA predicate that is looked at.
type provenance struct {
	BuildDefinition struct {
		BuildType          string `json:"buildType"`
		ExternalParameters struct {
			Created time.Time `json:"created"`
			Version string    `json:"version"`
			Variant string    `json:"variant"`
		} `json:"externalParameters"`
		InternalParameters   map[string]Engine `json:"internalParameters"`
		ResolvedDependencies []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// ParseClaim reads the predicate of SLSA provenance that imgctl made. That of
// another builder or another type of build is an error: what its parameters mean is not known here.
func ParseClaim(predicate []byte) (*Claim, error) {
	var p provenance
	if err := json.Unmarshal(predicate, &p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	d := p.BuildDefinition
	if got := d.BuildType; got != attest.BuildType {
		return nil, fmt.Errorf("provenance: build type: got %.200q, want %s", got, attest.BuildType)
	}
	if got := p.RunDetails.Builder.ID; got != build.BuilderID {
		return nil, fmt.Errorf("provenance: builder: got %.200q, want %s", got, build.BuilderID)
	}
	c := &Claim{Builder: p.RunDetails.Builder.ID, Imgctl: p.RunDetails.Builder.Version["imgctl"], Created: d.ExternalParameters.Created.UTC(),
		Target:  build.Target{Version: d.ExternalParameters.Version, Variant: d.ExternalParameters.Variant},
		Engines: d.InternalParameters, inputs: make(map[string][]string)}
	if c.Created.Unix() < 0 {
		return nil, errors.New("provenance: created: missing: it is of an imgctl that did not say how to rebuild")
	}
	for _, input := range d.ResolvedDependencies {
		if sum := input.Digest["sha256"]; sum != "" {
			c.inputs[input.Name] = append(c.inputs[input.Name], sum)
		}
	}
	for _, name := range []string{build.SpecFile, build.LockFile} {
		if len(c.inputs[name]) != 1 {
			return nil, fmt.Errorf("provenance: %s: got %d digests, want one", name, len(c.inputs[name]))
		}
	}
	return c, nil
}

// Inputs is how many inputs the provenance names.
func (c *Claim) Inputs() int {
	n := 0
	for _, sums := range c.inputs {
		n += len(sums)
	}
	return n
}

// check compares an input with the claim. The error is an [*InputError].
func (c *Claim) check(name, sha256 string) error {
	if slices.Contains(c.inputs[name], sha256) {
		return nil
	}
	return &InputError{Name: name, Got: sha256, Want: strings.Join(c.inputs[name], " or ")}
}

// An InputError says that an input is not the one that the image was made of.
type InputError struct {
	Name      string
	Got, Want string // sha256; no Want: the provenance does not name it
}

// Error is one line.
func (e *InputError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("%.200q: the provenance names no such input", e.Name)
	}
	return fmt.Sprintf("%s: sha256: got %s, want %.200s (provenance)", e.Name, e.Got, e.Want)
}

// CheckEngine reports whether this imgctl makes the bytes that the image's did,
// of the same inputs. If not, the error is an [*EngineError].
func (c *Claim) CheckEngine(s *build.Spec) error {
	want := Engine{Name: "layers", Rootfs: rootfs.Version, Compression: []string{s.Compression.Packages.Version(), s.Compression.Programs.Version()}}
	for _, platform := range s.Platforms {
		got, ok := c.Engines[platform]
		switch {
		case !ok:
			return fmt.Errorf("provenance: internalParameters: nothing about %s", platform)
		case got.Name != want.Name:
			return &EngineError{c.Imgctl, "the engine", got.Name, want.Name}
		case got.Rootfs != want.Rootfs:
			return &EngineError{c.Imgctl, "version", fmt.Sprint(got.Rootfs), fmt.Sprintf("%d of the rules for packages", want.Rootfs)}
		case !slices.Equal(got.Compression, want.Compression):
			return &EngineError{c.Imgctl, "compression", strings.Join(got.Compression, " and "), strings.Join(want.Compression, " and ")}
		}
	}
	return nil
}

// An EngineError says that another imgctl made the image, in a way that gives other bytes.
type EngineError struct {
	Imgctl       string // the version that made it; "" when that is not known
	What         string
	Theirs, Ours string
}

// Error is one line.
func (e *EngineError) Error() string {
	by := "an imgctl of unknown version"
	if e.Imgctl != "" {
		by = fmt.Sprintf("imgctl %.100s", e.Imgctl)
	}
	return fmt.Sprintf("made by %s with %s %.200s; this imgctl has %s, and makes other bytes of the same inputs", by, e.What, e.Theirs, e.Ours)
}

// Hint is what to do about it.
func (e *EngineError) Hint() string {
	if e.Imgctl == "" {
		return "use the imgctl that made the image"
	}
	return fmt.Sprintf("use imgctl %.100s", e.Imgctl)
}
