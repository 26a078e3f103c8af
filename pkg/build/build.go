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
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// BuilderID is the URI of who builds, as it stands in the provenance.
const BuilderID = "https://github.com/imgctl/imgctl"

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
	// Contents are the file systems of the images, as they were checked.
	Contents map[string]*inspect.FS
	// Records say what each image was made of. The keys, as those of Images and Contents, are platforms: "linux/amd64".
	Records map[string]attest.Record
}

// Builder builds, and remembers what it found in layers.
type Builder struct {
	Engine   Engine
	Listings *inspect.Cache // nil: every layer is read each time
}

// Build is [Builder.Build] of a builder that remembers nothing.
func Build(ctx context.Context, e Engine, s *Spec, l *Lock, t Target) (*Result, error) {
	return Builder{Engine: e}.Build(ctx, s, l, t)
}

// Build makes the image of every platform of t, which is one of the spec's
// targets, and an index of them. l must answer s, else the error is a
// [*StaleError]. When one platform fails there is no index.
//
// Whatever the engine says that it made is read and checked: it must be for the
// platform, and have nothing that the spec's gates do not let through ([*GateError]).
//
// The time in the image is l.Created; set that field to use another one, such as
// that of SOURCE_DATE_EPOCH (see [ParseEpoch]).
func (b Builder) Build(ctx context.Context, s *Spec, l *Lock, t Target) (*Result, error) {
	if err := l.Check(s); err != nil {
		return nil, err
	}
	platforms := s.platforms()
	r := &Result{Target: t, Images: make(map[string]v1.Image), Contents: make(map[string]*inspect.FS), Records: make(map[string]attest.Record)}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range platforms {
		g.Go(func() error {
			in := newInput(s, l, t, p)
			img, contents, record, err := b.one(ctx, in)
			if err != nil {
				return fmt.Errorf("build %s: %w", in.name(), err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.Images[p.String()], r.Contents[p.String()], r.Records[p.String()] = img, contents, record
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, r.assemble(s, l, platforms)
}

// one makes the image of one platform and checks it.
func (b Builder) one(ctx context.Context, in Input) (v1.Image, *inspect.FS, attest.Record, error) {
	img, record, err := b.Engine.Build(ctx, in)
	if err != nil {
		return nil, nil, attest.Record{}, err
	}
	if err := checkImage(img, in.Platform); err != nil {
		return nil, nil, attest.Record{}, err
	}
	contents, err := in.Check(ctx, img, b.Listings)
	return img, contents, record, err
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

// assemble makes the index of the images, and the record of all of them.
func (r *Result) assemble(s *Spec, l *Lock, platforms []v1.Platform) error {
	images, records := make([]v1.Image, len(platforms)), make([]attest.Record, len(platforms))
	for i, p := range platforms {
		images[i], records[i] = r.Images[p.String()], r.Records[p.String()]
	}
	index, err := makeIndex(s, l, r.Target, platforms, images)
	if err != nil {
		return err
	}
	r.Index = index
	r.Record = attest.Union(attest.Record{Builder: BuilderID, Created: l.Created, Parameters: s.parameters(l, r.Target), Internal: internal(platforms, records)}, records...)
	return nil
}

// internal is what every engine says of itself, by platform: what decided the
// bytes of the index beside its input.
func internal(platforms []v1.Platform, records []attest.Record) map[string]any {
	each := make(map[string]any)
	for i, p := range platforms {
		each[p.String()] = records[i].Internal
	}
	return each
}
