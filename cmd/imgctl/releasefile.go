package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

// releaseFile is release.yaml. Paths are relative to the file.
type releaseFile struct {
	strict.Header `yaml:",inline"`
	Image         string               `yaml:"image"`   // directory of an image spec and its lock
	Bundles       []string             `yaml:"bundles"` // directories of bundle specs, pinned to the image
	Destinations  []releaseDestination `yaml:"destinations"`
	Quorum        int                  `yaml:"quorum"` // how many required destinations make a release; 0: all
	Tags          []string             `yaml:"tags"`   // templates: {version} tags the index, {version}-{arch} each platform; a variant's name follows the version
	Signers       []signerFile         `yaml:"signers"`
	Formats       []string             `yaml:"formats"` // absent: bundle and legacy
	Policy        string               `yaml:"policy"`
	Validity      string               `yaml:"validity"` // of the release statement, from when it is issued; absent: 90 days; "none": no statement
}

type releaseDestination struct {
	Repository string `yaml:"repository"`
	BestEffort bool   `yaml:"bestEffort"`
}

// release is a release.yaml with everything that it names loaded and checked.
type release struct {
	file    releaseFile
	dir     string
	spec    *build.Spec
	lock    *build.Lock
	targets []build.Target // what is released of the spec: all of it
	bundles []*bundle.Config
	policy  *verify.Policy
	signers []sign.Signer // none in a dry run: a plan needs no password
	formats signFormats
	to      []oci.Destination

	validity time.Duration // of the release statement; 0: none is made
}

// loadRelease reads everything before anything is done, so that a mistake in
// the last file costs no more than one in the first.
func (a *app) loadRelease(ctx context.Context, path string, withKeys bool) (*release, error) {
	r := &release{dir: filepath.Dir(path)}
	if err := strict.DecodeFile(path, "Release", &r.file); err != nil {
		return nil, err
	}
	if err := r.file.check(path); err != nil {
		return nil, err
	}
	var err error
	if r.spec, r.lock, err = loadImage(r.path(r.file.Image)); err != nil {
		return nil, err
	}
	r.targets = r.spec.Targets(r.lock)
	for _, dir := range r.file.Bundles {
		b, err := bundle.Load(r.path(dir))
		if err != nil {
			return nil, err
		}
		if _, err := r.target(b); err != nil {
			return nil, usage(err)
		}
		r.bundles = append(r.bundles, b)
	}
	if r.policy, err = verify.LoadPolicy(r.path(r.file.Policy)); err != nil {
		return nil, err
	}
	if r.validity, err = r.file.validity(path); err != nil {
		return nil, err
	}
	for _, d := range r.file.Destinations {
		r.to = append(r.to, oci.Destination{Repository: r.repository(d.Repository), BestEffort: d.BestEffort})
	}
	if !withKeys {
		return r, nil
	}
	return r, a.loadSigners(ctx, r)
}

// target returns the image that a bundle is pinned to: the default variant of its version.
func (r *release) target(b *bundle.Config) (build.Target, error) {
	var have []string
	for _, t := range r.targets {
		if t.Default && t.Version == b.Kubernetes {
			return t, nil
		}
		if t.Default {
			have = append(have, t.Version)
		}
	}
	return build.Target{}, fmt.Errorf("bundle %s is written for Kubernetes %s, the image has %s", b.Name, b.Kubernetes, strings.Join(have, ", "))
}

func (f *releaseFile) check(path string) error {
	fail := func(format string, args ...any) error {
		return &strict.Error{File: path, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case f.Image == "":
		return fail("image: got nothing, want the directory of an image spec")
	case len(f.Destinations) == 0:
		return fail("destinations: got none, want at least one repository")
	case len(f.Tags) == 0:
		return fail("tags: got none, want at least one template")
	case f.Policy == "":
		return fail("policy: got nothing, want a policy file: a release is read back and verified before a tag moves")
	case len(f.Signers) == 0:
		return fail("signers: got none, want at least one")
	}
	for i, s := range f.Signers {
		if err := s.check(); err != nil {
			return fail("signers[%d]: %v", i, err)
		}
	}
	if _, err := parseFormats(f.Formats); err != nil {
		return fail("%v", err)
	}
	required := 0
	for i, d := range f.Destinations {
		if _, err := oci.ParseReference(d.Repository); err != nil {
			return fail("destinations[%d].repository: %v", i, err)
		}
		if !d.BestEffort {
			required++
		}
	}
	if required == 0 {
		return fail("destinations: every one is bestEffort, want one that is required")
	}
	if f.Quorum < 0 || f.Quorum > required {
		return fail("quorum: got %d, want 1 to %d, the required destinations; without it all must be done", f.Quorum, required)
	}
	for i, t := range f.Tags {
		rest := strings.NewReplacer("{version}", "v", "{arch}", "a").Replace(t)
		if strings.ContainsAny(rest, "{}") || !strings.Contains(t, "{version}") {
			return fail("tags[%d]: got %q, want a template of {version} and {arch}", i, t)
		}
	}
	return nil
}

// validity is how long a release statement counts; 0: none is made.
func (f *releaseFile) validity(path string) (time.Duration, error) {
	switch f.Validity {
	case "":
		return defaultValidity, nil
	case noStatement:
		return 0, nil
	}
	d, err := time.ParseDuration(f.Validity)
	if err != nil || d < time.Hour {
		return 0, &strict.Error{File: path, Msg: fmt.Sprintf("validity: got %q, want an hour or more, such as 720h, or %s", f.Validity, noStatement)}
	}
	return d, nil
}

// path resolves a path of the release file.
func (r *release) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(r.dir, p)
}

// repository resolves the directory of a layout; other names are as written.
func (r *release) repository(name string) string {
	if dir, ok := strings.CutPrefix(name, "oci:"); ok {
		return "oci:" + r.path(dir)
	}
	return name
}

// loadSigners opens every signer of the file.
func (a *app) loadSigners(ctx context.Context, r *release) error {
	var err error
	if r.formats, err = parseFormats(r.file.Formats); err != nil {
		return err
	}
	for i, s := range r.file.Signers {
		signer, err := a.openSigner(ctx, s, r.path)
		if err != nil {
			return fmt.Errorf("signers[%d]: %w", i, err)
		}
		r.signers = append(r.signers, signer)
	}
	return nil
}

// repositories are those to which the release goes.
func (r *release) repositories() []string {
	var names []string
	for _, to := range r.to {
		names = append(names, to.Repository)
		if len(r.bundles) > 0 {
			names = append(names, bundleDestination(to).Repository)
		}
	}
	return names
}

// loadImage reads an image spec and the lock beside it.
func loadImage(dir string) (*build.Spec, *build.Lock, error) {
	spec, err := build.LoadSpec(dir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := build.LoadLock(dir)
	return spec, lock, err
}

// tagsFor returns the tags of a target's index and, by architecture, of each platform.
func tagsFor(templates []string, t build.Target, arches []string) (index []string, platform map[string][]string) {
	platform = map[string][]string{}
	for _, tag := range templates {
		tag = strings.ReplaceAll(tag, "{version}", t.Tag())
		if !strings.Contains(tag, "{arch}") {
			index = append(index, tag)
			continue
		}
		for _, arch := range arches {
			platform[arch] = append(platform[arch], strings.ReplaceAll(tag, "{arch}", arch))
		}
	}
	return index, platform
}

// bundleDestination is where the bundles of an image go: beside it.
func bundleDestination(d oci.Destination) oci.Destination {
	return oci.Destination{Repository: d.Repository + "-bundle", BestEffort: d.BestEffort}
}

// primary is the repository whose name the release goes by: the first on a
// registry, or the first layout where there is none.
func primary(to []oci.Destination) string {
	for _, d := range to {
		if !strings.HasPrefix(d.Repository, "oci:") {
			return d.Repository
		}
	}
	return to[0].Repository
}
