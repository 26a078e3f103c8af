package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
	"github.com/imgctl/imgctl/pkg/verify/override"
)

// checkOverride refuses a directory that is there: what it holds may be in use.
func checkOverride(dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return usage(fmt.Errorf("--override: %s is there, want a directory that does not exist", dir))
	}
	return nil
}

// writeOverride writes what moves a machine to where the references were verified.
// Where one was not, nothing is written.
func (c *verifyCmd) writeOverride(ctx context.Context, v *verify.Verifier, found []*verify.Inspection) error {
	if c.override == "" {
		return nil
	}
	var images []override.Image
	for _, in := range found {
		if in.Verified == nil {
			c.printer().line("override", "not written: %s is not verified anywhere", in.Reference)
			return nil
		}
		im, err := c.overrideOf(ctx, v, in)
		if err != nil {
			return wrapRef("override", in.Reference, err)
		}
		images = append(images, im)
	}
	files, err := override.Render(images)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := writeBelow(c.override, f.Path, fs.FileMode(f.Mode), f.Body); err != nil {
			return err
		}
	}
	c.printer().line("override", "%s  %d files; sh %s/apply.sh puts them in place, undo.sh takes them away", c.override, len(files), c.override)
	return nil
}

// overrideOf gathers what an override says about one reference.
func (c *verifyCmd) overrideOf(ctx context.Context, v *verify.Verifier, in *verify.Inspection) (override.Image, error) {
	ref, err := oci.ParseReference(in.Reference)
	if err != nil {
		return override.Image{}, err
	}
	if isBundle(in.Verified.Manifest()) {
		return override.Image{}, usage(errors.New("it is a bundle, which nothing runs: imgctl pull asks all sources of the policy itself"))
	}
	im := override.Image{Name: path.Base(ref.Repository), Repository: ref.Repository, Digest: in.Digest}
	for _, s := range in.Sources {
		if s.Verdict == verify.VerdictVerified && !strings.HasPrefix(s.Source, "oci:") {
			im.Sources = append(im.Sources, s.Source)
		}
	}
	if len(im.Sources) == 0 {
		return im, errors.New("no registry has it whole: imgctl sync copies it from a directory to one")
	}
	for _, repository := range append([]string{im.Repository}, im.Sources...) {
		if host, _, _ := strings.Cut(repository, "/"); v.Registry.Plain(host) && !slices.Contains(im.Plain, host) {
			im.Plain = append(im.Plain, host)
		}
	}
	return im, c.keysOf(ctx, v, in, &im)
}

// isBundle reports whether a manifest, or an index, is that of a bundle.
func isBundle(m *oci.Manifest) bool {
	var typed struct {
		ArtifactType string `json:"artifactType"`
	}
	return json.Unmarshal(m.Body, &typed) == nil && typed.ArtifactType == bundle.ArtifactType
}

// keysOf finds out what podman can be told about who must have signed it.
func (c *verifyCmd) keysOf(ctx context.Context, v *verify.Verifier, in *verify.Inspection, im *override.Image) error {
	rule, ok := v.Policy.Rule(im.Repository)
	if !ok {
		return errors.New("no rule of the policy names it") // cannot happen: it was verified
	}
	keys, all, err := rule.Keys(c.now())
	if err != nil {
		c.printer().line("override", "%s: no policy.json: %v", im.Name, err)
		return nil
	}
	best, err := v.Registry.Repository(im.Sources[0])
	if err != nil {
		return err
	}
	im.Keys, im.AllKeys = keys, all
	im.SignedAs, err = v.SignedAs(ctx, verify.Subject{Repository: im.Repository, Digest: in.Verified.Digest()}, best)
	return err
}
