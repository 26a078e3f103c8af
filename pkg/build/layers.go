package build

import (
	"context"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// Layers is the [Engine] in Go. An image has two layers, split by how often they
// change: Debian's packages with what makes them a system, and the files of Kubernetes.
// Both are files in the cache, keyed by what they are made of.
//
// Do not copy one that has been used.
type Layers struct {
	Materials *Materials // its cache holds "layers", and unpacked packages for as long as they are needed
	// Jobs is how many packages are unpacked, and how many blocks of each layer
	// are compressed, at once; 0: one for each core.
	Jobs int

	once  sync.Once
	slots chan struct{}
}

// Build implements [Engine].
func (e *Layers) Build(ctx context.Context, in Input) (v1.Image, attest.Record, error) {
	e.once.Do(func() { e.slots = make(chan struct{}, e.jobs()) })
	made := Made{Engine: map[string]any{"engine": "layers", "rootfs": rootfs.Version,
		"compression": []string{in.Spec.Compression.Packages.Version(), in.Spec.Compression.Programs.Version()}}}
	var system, programs *layer.Layer
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if in.HasSystem() {
			system, made.Licenses, err = e.systemLayer(ctx, in)
		}
		return err
	})
	g.Go(func() (err error) {
		if !in.HasPrograms() {
			return nil
		}
		programs, err = e.programsLayer(ctx, in, &made)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, attest.Record{}, err
	}
	var parts []Part
	if system != nil {
		parts = append(parts, in.SystemPart(system))
	}
	if programs != nil {
		parts = append(parts, in.ProgramsPart(programs))
	}
	img, err := Assemble(in, parts...)
	if err != nil {
		return nil, attest.Record{}, err
	}
	record, err := in.Record(made)
	return img, record, err
}

func (e *Layers) jobs() int {
	if e.Jobs > 0 {
		return e.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

func (e *Layers) store(c layer.Compression) *layer.Store {
	return &layer.Store{Dir: filepath.Join(e.Materials.Cache, "layers"), Compression: c, Jobs: e.jobs()}
}

// systemNotes is what is known about the layer of packages once it has been made.
type systemNotes struct {
	Licenses map[string]string `json:"licenses"` // SPDX expression by package, where it is known
}

// layerKey makes the key of a layer of everything that decides its bytes.
func layerKey(c layer.Compression, parts ...any) string {
	return strings.TrimPrefix(digestJSON(append([]any{rootfs.Version, c.Version()}, parts...)), "sha256:")
}

// systemLayer returns the layer of packages with their licenses. Only when it is
// not in the cache are the packages fetched.
func (e *Layers) systemLayer(ctx context.Context, in Input) (*layer.Layer, map[string]string, error) {
	config, compression := in.Rootfs(), in.Spec.Compression.Packages
	var notes systemNotes
	l, err := e.store(compression).Get(ctx, layerKey(compression, "system", config, in.packageDigests()), &notes, func(w io.Writer) (any, error) {
		tree, err := e.assemble(ctx, in, config)
		if err != nil {
			return nil, err
		}
		defer tree.Close()
		if err := tree.WriteTar(w); err != nil {
			return nil, err
		}
		return systemNotes{Licenses: expressions(tree.Licenses)}, nil
	})
	return l, notes.Licenses, err
}

// packageDigests says which packages the image has. What else a lock knows of
// them, such as what they were before, is in no layer.
func (in Input) packageDigests() []string {
	var digests []string
	for _, p := range in.Packages() {
		digests = append(digests, p.Name+" "+p.SHA256)
	}
	return digests
}

// expressions returns the SPDX license expressions of copyright files, as far as they have any.
func expressions(texts map[string][]byte) map[string]string {
	licenses := make(map[string]string)
	for name, text := range texts {
		if expression := deb.License(text); expression != "" {
			licenses[name] = expression
		}
	}
	return licenses
}

// assemble fetches the packages and makes the file system of them.
func (e *Layers) assemble(ctx context.Context, in Input, config rootfs.Config) (*rootfs.Tree, error) {
	packages, err := e.Materials.Packages(ctx, in)
	if err != nil {
		return nil, err
	}
	return rootfs.Assemble(ctx, config, packages, e.Materials.Cache, e.slots)
}

// programsNotes is what is known about the layer of programs.
type programsNotes struct {
	Files []Binary `json:"files"` // in the order of [Materials.Programs]
}

// programsLayer returns the layer of the programs. What was published is proved
// each time, and local files are compared with the lock; only when the layer is not
// in the cache are its files taken out of what was published. Their times are 1970,
// so that the layer stays the same when only Debian's packages change: nobody
// pulls it again for that.
func (e *Layers) programsLayer(ctx context.Context, in Input, made *Made) (*layer.Layer, error) {
	published, err := e.Materials.Published(ctx, in)
	if err != nil {
		return nil, err
	}
	local, err := e.Materials.local(in)
	if err != nil {
		return nil, err
	}
	digests := make(map[string]string)
	for _, b := range published {
		digests[b.Path] = b.SHA256
	}
	var notes programsNotes
	compression := in.Spec.Compression.Programs
	key := layerKey(compression, "node", in.Platform.String(), in.Target.Version, in.Spec.Upstream.Files, digests, in.Spec.Local, in.Lock.Local)
	l, err := e.store(compression).Get(ctx, key, &notes, func(w io.Writer) (any, error) {
		files, err := e.Materials.extract(ctx, in, published)
		if err != nil {
			return nil, err
		}
		files = append(files, local...)
		binaries, err := Inspect(files)
		if err != nil {
			return nil, err
		}
		return programsNotes{binaries}, rootfs.WriteFiles(w, files, time.Unix(0, 0))
	})
	made.Published, made.Binaries = published, notes.Files
	return l, err
}
