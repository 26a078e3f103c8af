package build

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// Target names one of the images of a spec.
type Target struct {
	Version string // of Kubernetes: "v1.36.2"; "" when the spec has nothing from there
	Variant string // "" when the spec has no variants
	Default bool   // it is the first variant, whose tag does not name it
}

// Tag returns the tag of the target's index: "v1.36.2", or "v1.36.2-full" for a
// variant that is not the default. Without a version it is "latest", or the variant's name.
func (t Target) Tag() string {
	var parts []string
	if t.Version != "" {
		parts = append(parts, t.Version)
	}
	if t.Variant != "" && !t.Default {
		parts = append(parts, t.Variant)
	}
	if len(parts) == 0 {
		return "latest"
	}
	return strings.Join(parts, "-")
}

// Targets returns every image that s and its lock l mean: the versions in the
// spec's order, and of each the variants in theirs.
func (s *Spec) Targets(l *Lock) []Target {
	versions := []string{""}
	if len(l.Upstream) > 0 {
		versions = nil
		for _, u := range l.Upstream {
			versions = append(versions, u.Version)
		}
	}
	var targets []Target
	for _, version := range versions {
		for i, variant := range s.variants() {
			targets = append(targets, Target{Version: version, Variant: variant, Default: i == 0})
		}
	}
	return targets
}

// Select returns the targets of the version, when that is not "", and of the
// variant, when that is not. That there is none is an error which lists those that there are.
func Select(targets []Target, version, variant string) ([]Target, error) {
	selected := slices.DeleteFunc(slices.Clone(targets), func(t Target) bool {
		return version != "" && t.Version != version || variant != "" && t.Variant != variant
	})
	if len(selected) > 0 {
		return selected, nil
	}
	var have []string
	for _, t := range targets {
		have = append(have, strings.TrimSpace(t.Version+" "+t.Variant))
	}
	return nil, fmt.Errorf("version %q, variant %q: no such image, want one of: %s", version, variant, strings.Join(have, ", "))
}

// Input is what an engine makes one image of.
type Input struct {
	Spec     *Spec // of the target's variant: what that adds stands with the rest
	Lock     *Lock
	Target   Target
	Platform v1.Platform
}

// newInput returns the input for one platform of a target.
func newInput(s *Spec, l *Lock, t Target, p v1.Platform) Input {
	return Input{Spec: s.variant(t.Variant), Lock: l, Target: t, Platform: p}
}

// Packages returns the Debian packages of the image, sorted by name.
func (in Input) Packages() []LockedPackage {
	return in.Lock.Debian.Packages[lockKey(in.Target.Variant)][in.Platform.String()]
}

// Rootfs returns what the spec says about the layer of packages.
func (in Input) Rootfs() rootfs.Config {
	s := in.Spec
	return rootfs.Config{Arch: in.Platform.Architecture, Created: in.Lock.Created.UTC(), Exclude: s.Packages.Exclude, Keep: s.Packages.Keep,
		Groups: s.Groups, Users: s.Users, Directories: s.Directories, Files: s.Files, Links: s.Links, Alternatives: s.Alternatives}
}

// name says which image it is: "v1.36.2-full linux/arm64".
func (in Input) name() string { return in.Target.Tag() + " " + in.Platform.String() }
