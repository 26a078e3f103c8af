// Package build says what exactly goes into the image, and makes it.
//
// What a user writes is an image.yaml ([LoadSpec]). A [Locker] resolves it once
// to an image.lock.json: every package and upstream file by digest. [Build] makes
// of both, and of nothing else, one image per platform and an index of them. The
// same spec and lock give the same digests on any machine.
//
// How one platform is made is an [Engine]'s matter. [Layers] does it in Go,
// without root, daemon or emulation.
package build

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/attest"
)

// Builder is the URI of who builds, as it stands in the provenance.
const Builder = "https://github.com/imgctl/imgctl"

// Engine makes the image of one platform, and says what it was made of. It must
// be safe for concurrent use: platforms are built side by side.
type Engine interface {
	Build(ctx context.Context, in Input) (v1.Image, attest.Record, error)
}

// Result is what was built.
type Result struct {
	Target Target
	Index  v1.ImageIndex
	Record attest.Record // what the index was made of: all that its images were made of
	Images map[string]v1.Image
	// Records say what each image was made of. The keys, as those of Images, are platforms: "linux/amd64".
	Records map[string]attest.Record
}

// Build makes the image of every platform of t, which is one of the spec's
// targets, and an index of them. l must answer s, else the error is a
// [*StaleError]. When one platform fails there is no index.
//
// The time in the image is l.Created; set that field to use another one, such as
// that of SOURCE_DATE_EPOCH (see [ParseEpoch]).
func Build(ctx context.Context, e Engine, s *Spec, l *Lock, t Target) (*Result, error) {
	if err := l.Check(s); err != nil {
		return nil, err
	}
	platforms := s.platforms()
	images := make([]v1.Image, len(platforms))
	records := make([]attest.Record, len(platforms))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range platforms {
		g.Go(func() error {
			var err error
			if images[i], records[i], err = e.Build(ctx, newInput(s, l, t, p)); err != nil {
				return fmt.Errorf("build %s %s: %w", t.Tag(), p, err)
			}
			return at(checkImage(images[i], p), "build %s %s", t.Tag(), p)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return assemble(s, l, t, platforms, images, records)
}

// checkImage compares what an engine made with what was asked for.
func checkImage(img v1.Image, want v1.Platform) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	got := config.Platform()
	if got == nil || got.String() != want.String() {
		return fmt.Errorf("the image says it is for %v", got)
	}
	return nil
}

// assemble makes the index. Platforms are sorted.
func assemble(s *Spec, l *Lock, t Target, platforms []v1.Platform, images []v1.Image, records []attest.Record) (*Result, error) {
	r := &Result{Target: t, Images: make(map[string]v1.Image), Records: make(map[string]attest.Record)}
	for i, p := range platforms {
		r.Images[p.String()], r.Records[p.String()] = images[i], records[i]
	}
	index, err := makeIndex(s, l, t, platforms, images)
	if err != nil {
		return nil, err
	}
	r.Index = index
	r.Record = attest.Union(attest.Record{Builder: Builder, Created: l.Created, Parameters: s.parameters(t)}, records...)
	return r, nil
}
