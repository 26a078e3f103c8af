package build

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// Layers is the [Engine] in Go. An image has two layers, split by how often they
// change: Debian's packages with what makes them a system, and the files of Kubernetes.
// Both are files in the cache, keyed by what they are made of.
//
// Do not copy one that has been used.
type Layers struct {
	Upstream *upstream.Client
	Debian   *deb.Archive
	// Cache is the directory below which "layers" and unpacked packages are kept.
	Cache string
	// Jobs is how many packages are unpacked, and how many blocks of each layer
	// are compressed, at once; 0: one for each core.
	Jobs int
	// Report, when set, is told what a reader of the image should know. It may be called concurrently.
	Report func(platform string, f rootfs.Finding)

	once  sync.Once
	slots chan struct{}
}

// Build implements [Engine].
func (e *Layers) Build(ctx context.Context, in Input) (v1.Image, attest.Record, error) {
	e.once.Do(func() { e.slots = make(chan struct{}, e.jobs()) })
	var system, node *layer.Layer
	var systemNotes systemNotes
	var nodeNotes nodeNotes
	var blobs []*upstream.Blob
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		system, systemNotes, err = e.systemLayer(ctx, in)
		return err
	})
	g.Go(func() (err error) {
		if blobs, err = e.fetchUpstream(ctx, in); err == nil && len(blobs) > 0 {
			node, nodeNotes, err = e.nodeLayer(ctx, in, blobs)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, attest.Record{}, err
	}
	if e.Report != nil {
		for _, f := range systemNotes.Findings {
			e.Report(in.Platform.String(), f)
		}
	}
	parts := []part{{system, fmt.Sprintf("Debian %s, %d packages", in.Lock.Debian.Codename, len(in.packages()))}}
	if node != nil {
		parts = append(parts, part{node, "Kubernetes " + in.Lock.Upstream.Version})
	}
	img, err := makeImage(in, parts...)
	if err != nil {
		return nil, attest.Record{}, err
	}
	record, err := in.record(systemNotes, nodeNotes, blobs)
	return img, record, err
}

func (e *Layers) jobs() int {
	if e.Jobs > 0 {
		return e.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

func (e *Layers) store() *layer.Store {
	return &layer.Store{Dir: filepath.Join(e.Cache, "layers"), Jobs: e.jobs()}
}

func (in Input) packages() []LockedPackage { return in.Lock.Debian.Packages[in.Platform.String()] }

// systemNotes is what is known about the layer of packages once it has been made.
type systemNotes struct {
	Licenses map[string]string `json:"licenses"` // SPDX expression by package, where it is known
	Findings []rootfs.Finding  `json:"findings"`
}

// rootfsConfig is what the spec says about the layer of packages.
func (in Input) rootfsConfig() rootfs.Config {
	s := in.Spec
	return rootfs.Config{Arch: in.Platform.Architecture, Created: in.Lock.Created.UTC(), Exclude: s.Packages.Exclude, Keep: s.Packages.Keep,
		Groups: s.Groups, Users: s.Users, Directories: s.Directories, Files: s.Files, Links: s.Links, Alternatives: s.Alternatives}
}

// layerKey makes the key of a layer of everything that decides its bytes.
func layerKey(parts ...any) string {
	return strings.TrimPrefix(digestJSON(append([]any{rootfs.Version, layer.Version}, parts...)), "sha256:")
}

// systemLayer returns the layer of packages. Only when it is not in the cache are they fetched.
func (e *Layers) systemLayer(ctx context.Context, in Input) (*layer.Layer, systemNotes, error) {
	config := in.rootfsConfig()
	var notes systemNotes
	l, err := e.store().Get(ctx, layerKey("system", config, in.packages()), &notes, func(w io.Writer) (any, error) {
		tree, err := e.assemble(ctx, in, config)
		if err != nil {
			return nil, err
		}
		defer tree.Close()
		if err := tree.WriteTar(w); err != nil {
			return nil, err
		}
		made := systemNotes{Licenses: make(map[string]string), Findings: tree.Findings}
		for name, text := range tree.Licenses {
			if expression := deb.License(text); expression != "" {
				made.Licenses[name] = expression
			}
		}
		return made, nil
	})
	return l, notes, err
}

// assemble fetches the packages and makes the file system of them.
func (e *Layers) assemble(ctx context.Context, in Input, config rootfs.Config) (*rootfs.Tree, error) {
	locked := in.packages()
	files := make([]deb.File, len(locked))
	for i, p := range locked {
		files[i] = p.file()
	}
	paths, err := e.Debian.FetchAll(ctx, 0, files...)
	if err != nil {
		return nil, err
	}
	packages := make([]rootfs.Package, len(locked))
	for i, p := range locked {
		packages[i] = rootfs.Package{Name: p.Name, Version: p.Version, File: paths[i]}
	}
	return rootfs.Assemble(ctx, config, packages, e.Cache, e.slots)
}

// fetchUpstream fetches what the platform needs from Kubernetes, each file once,
// and has it proved. That is done for every build, also when the layer is in the
// cache: a proof that is only remembered is none.
func (e *Layers) fetchUpstream(ctx context.Context, in Input) ([]*upstream.Blob, error) {
	paths := in.Spec.sources(in.Lock.Upstream.Version, in.Platform.Architecture)
	blobs := make([]*upstream.Blob, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	for i, path := range paths {
		g.Go(func() (err error) {
			pin, _ := in.Lock.pin(in.Platform.String(), path) // it is there: see Lock.Check
			if blobs[i], err = e.Upstream.Fetch(ctx, pin, in.Spec.Upstream.Require); err != nil {
				return fmt.Errorf("%w (%s)", err, filepath.Join(in.Spec.dir, LockFile))
			}
			return nil
		})
	}
	return blobs, g.Wait()
}

// nodeNotes is what is known about the layer of Kubernetes' files, in the spec's order.
type nodeNotes struct {
	Files []binary `json:"files"`
}

// nodeLayer returns the layer of Kubernetes' files. Its times are 1970, so that
// it stays the same when only Debian's packages change: nobody pulls it again for that.
func (e *Layers) nodeLayer(ctx context.Context, in Input, blobs []*upstream.Blob) (*layer.Layer, nodeNotes, error) {
	digests := make(map[string]string)
	for _, b := range blobs {
		digests[b.Path] = b.SHA256
	}
	var notes nodeNotes
	key := layerKey("node", in.Platform.String(), in.Lock.Upstream.Version, in.Spec.Upstream.Files, digests)
	l, err := e.store().Get(ctx, key, &notes, func(w io.Writer) (any, error) {
		files, err := e.extract(ctx, in, blobs)
		if err != nil {
			return nil, err
		}
		var made nodeNotes
		for _, f := range files {
			b, err := inspectBinary(f)
			if err != nil {
				return nil, err
			}
			made.Files = append(made.Files, b)
		}
		return made, rootfs.WriteFiles(w, files, time.Unix(0, 0))
	})
	return l, notes, err
}

// extract returns the files of the image as they are in the cache, each checked to
// be for the platform and of the version. Members of one tarball are extracted in one pass.
func (e *Layers) extract(ctx context.Context, in Input, blobs []*upstream.Blob) ([]rootfs.OnDisk, error) {
	version, arch := in.Lock.Upstream.Version, in.Platform.Architecture
	files := make([]rootfs.OnDisk, len(in.Spec.Upstream.Files))
	for _, b := range blobs {
		var members []string
		var wanted []int
		for i, f := range in.Spec.Upstream.Files {
			if f.source(version, arch) != b.Path {
				continue
			}
			files[i] = rootfs.OnDisk{Path: f.Path, File: b.File, Mode: 0o755}
			if f.Member != "" {
				members, wanted = append(members, f.Member), append(wanted, i)
			}
		}
		if len(members) == 0 {
			continue
		}
		paths, err := e.Upstream.ExtractAll(ctx, b, members...)
		if err != nil {
			return nil, err
		}
		for j, i := range wanted {
			files[i].File = paths[j]
		}
	}
	for i, f := range files {
		if err := upstream.CheckELF(f.File, arch); err != nil {
			return nil, fmt.Errorf("%s: %w", in.Spec.Upstream.Files[i].Path, err)
		}
		if err := upstream.CheckVersion(f.File, version); err != nil {
			return nil, fmt.Errorf("%s: %w", in.Spec.Upstream.Files[i].Path, err)
		}
	}
	return slices.Clip(files), nil
}
