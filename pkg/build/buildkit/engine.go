// Package buildkit makes images on BuildKit daemons.
//
// [Engine] is the second, independent way from a spec and its lock to an image:
// packages are installed by dpkg with their own maintainer scripts, natively on a
// machine of the platform or emulated, and nothing of the layer engine has a part
// in the root file system. Where two builders that share so little agree, neither
// has forgotten something or been tampered with.
//
// A worker is given the locked packages and programs as files, and a graph of
// steps (LLB). No step has a network. What comes back are layers; how they are
// compressed, the image's config and its annotations are made here, as those of
// every engine are.
package buildkit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// Version changes whenever the same input gives other bytes on the same worker.
const Version = 1

// Materials is where an engine gets what a lock names. [build.Materials] is one.
type Materials interface {
	Packages(ctx context.Context, in build.Input) ([]rootfs.Package, error)
	Published(ctx context.Context, in build.Input) ([]*upstream.Blob, error)
	Programs(ctx context.Context, in build.Input, published []*upstream.Blob) ([]rootfs.OnDisk, error)
}

// Engine is a [build.Engine] on BuildKit workers. An image has the same two
// layers as that of [build.Layers].
//
// Do not copy one that has been used.
type Engine struct {
	Materials Materials
	// Workers are asked in this order, those for the very platform first; several
	// platforms are spread over them. One that is lost is replaced by the next.
	Workers  []Worker
	TLS      TLS          // for workers on tcp://
	Cache    string       // directory in which "layers" are kept, and what travels for as long as it does
	Jobs     int          // how many things are done at once on this machine; 0: one for each core
	Progress Progress     // what the workers do
	Log      *slog.Logger // nil: silent

	connect func(context.Context, Worker) (daemon, error) // nil: a real one

	mu      sync.Mutex
	busy    map[string]int // solves by the worker's address
	display *display
}

// Build implements [build.Engine].
//
// When a step fails, the error is a [*StepError]; when no worker is left, a
// [*WorkersError]. Packages that cannot be installed by their own scripts are a
// [*ClosureError].
func (e *Engine) Build(ctx context.Context, in build.Input) (v1.Image, attest.Record, error) {
	if err := os.MkdirAll(filepath.Join(e.Cache, "buildkit"), 0o755); err != nil {
		return nil, attest.Record{}, err
	}
	dir, err := os.MkdirTemp(filepath.Join(e.Cache, "buildkit"), in.Platform.Architecture+"-")
	if err != nil {
		return nil, attest.Record{}, err
	}
	img, record, err := e.build(ctx, in, dir)
	return img, record, errors.Join(err, os.RemoveAll(dir))
}

// build makes the image, with what only lasts as long in dir.
func (e *Engine) build(ctx context.Context, in build.Input, dir string) (v1.Image, attest.Record, error) {
	compression := in.Spec.Compression
	made := build.Made{Engine: map[string]any{"engine": "buildkit", "scripts": Version, "compatibility-version": compatibility,
		"compression": []string{compression.Packages.Version(), compression.Programs.Version()}}}
	j, err := e.job(ctx, in, dir, &made)
	if err != nil {
		return nil, attest.Record{}, err
	}
	r, err := e.solve(ctx, j)
	if err != nil {
		return nil, attest.Record{}, err
	}
	defer r.Close()
	parts, err := e.parts(ctx, in, r, &made)
	if err != nil {
		return nil, attest.Record{}, err
	}
	img, err := build.Assemble(in, parts...)
	if err != nil {
		return nil, attest.Record{}, err
	}
	record, err := in.Record(made)
	return img, record, err
}

// job fetches everything and says what is to be made of it.
func (e *Engine) job(ctx context.Context, in build.Input, dir string, made *build.Made) (job, error) {
	g := newGraph(in.Platform)
	var layers []llb.State
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if !in.HasSystem() {
			return nil
		}
		system, err := e.system(groupCtx, in, g, dir)
		layers = append(layers, system)
		return err
	})
	var files []rootfs.OnDisk
	group.Go(func() (err error) {
		files, err = e.programs(groupCtx, in, made)
		return err
	})
	if err := group.Wait(); err != nil {
		return job{}, err
	}
	if len(files) > 0 {
		layers = append(layers, g.programs(withDigests(files, made.Binaries)))
	}
	if len(layers) == 0 {
		return job{}, errors.New("nothing to build: the spec has no packages, programs or files")
	}
	def, err := g.marshal(ctx, llb.Merge(layers, llb.WithCustomName("merge")))
	return job{platform: in.Platform, def: def, mounts: g.mounts, epoch: in.Lock.Created, layers: len(layers), dir: dir}, err
}

// system is the layer of packages, and of what the spec puts beside them.
func (e *Engine) system(ctx context.Context, in build.Input, g *graph, dir string) (llb.State, error) {
	if len(in.Packages()) > 0 {
		p, essential, err := e.packages(ctx, in, dir)
		if err != nil {
			return llb.State{}, err
		}
		return g.system(in.Rootfs(), p, essential)
	}
	archive, err := writeBare(in.Rootfs())
	if err != nil {
		return llb.State{}, err
	}
	file, err := newUpload(dir, "spec", ".tar", func(w io.Writer) error {
		_, err := w.Write(archive)
		return err
	})
	return g.bare(file), err
}

// packages fetches the packages and puts them in order.
func (e *Engine) packages(ctx context.Context, in build.Input, dir string) (*plan, upload, error) {
	files, err := e.Materials.Packages(ctx, in)
	if err != nil {
		return nil, upload{}, err
	}
	var digests []string
	for _, p := range in.Packages() {
		digests = append(digests, p.SHA256)
	}
	all, err := readPackages(ctx, files, digests, e.jobs())
	if err != nil {
		return nil, upload{}, err
	}
	p, err := newPlan(all)
	if err != nil {
		return nil, upload{}, err
	}
	essential, err := writeEssential(ctx, p.essential, dir)
	return p, essential, err
}

// programs fetches the programs and says what they are.
func (e *Engine) programs(ctx context.Context, in build.Input, made *build.Made) (files []rootfs.OnDisk, err error) {
	if made.Published, err = e.Materials.Published(ctx, in); err != nil {
		return nil, err
	}
	if files, err = e.Materials.Programs(ctx, in, made.Published); err != nil {
		return nil, err
	}
	made.Binaries, err = build.Inspect(files)
	return files, err
}

// withDigests pairs each program with its digest.
func withDigests(files []rootfs.OnDisk, binaries []build.Binary) []program {
	programs := make([]program, len(files))
	for i, f := range files {
		programs[i] = program{upload: upload{name: binaries[i].SHA256, file: f.File}, path: f.Path, mode: os.FileMode(f.Mode)}
	}
	return programs
}

// parts keeps the layers of the result, which lasts no longer than the build.
func (e *Engine) parts(ctx context.Context, in build.Input, r *result, made *build.Made) ([]build.Part, error) {
	var parts []build.Part
	for i := range r.layers {
		system := i == 0 && in.HasSystem()
		compression := in.Spec.Compression.Programs
		if system {
			compression = in.Spec.Compression.Packages
		}
		l, notes, err := r.layer(ctx, e.store(compression), i, in.Lock.Created)
		if err != nil {
			return nil, err
		}
		if system {
			made.Licenses = notes.Licenses
			parts = append(parts, in.SystemPart(l))
			continue
		}
		parts = append(parts, in.ProgramsPart(l))
	}
	return parts, nil
}

func (e *Engine) jobs() int {
	if e.Jobs > 0 {
		return e.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

func (e *Engine) store(c layer.Compression) *layer.Store {
	return &layer.Store{Dir: filepath.Join(e.Cache, "layers"), Compression: c, Jobs: e.jobs()}
}

func (e *Engine) log() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

// dial connects to a worker.
func (e *Engine) dial(ctx context.Context, w Worker) (daemon, error) {
	if e.connect != nil {
		return e.connect(ctx, w)
	}
	return dialBuildkit(ctx, w, e.TLS)
}

// screen joins the one display of the engine. The caller leaves it.
func (e *Engine) screen() (*display, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.display == nil {
		e.display = &display{Progress: e.Progress}
	}
	return e.display, e.display.join()
}
