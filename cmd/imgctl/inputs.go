package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// inputs are the two places that everything in an image comes from.
type inputs struct {
	upstream *upstream.Client
	debian   *deb.Archive
}

func (a *app) inputs(from inputFlags, spec *build.Spec, p *printer) (inputs, error) {
	d := a.downloader(p)
	up, err := a.upstreamClient(from, spec.Upstream, d)
	return inputs{up, a.debianArchive(from, spec, d)}, err
}

// fetchedFile is one input, in the cache and checked.
type fetchedFile struct {
	Path   string           `json:"path"` // relative to its archive or base
	Size   int64            `json:"size"`
	Proofs []upstream.Proof `json:"proofs"`
	URL    string           `json:"url,omitempty"` // where it came from; absent when the cache had it
}

// fetch brings every locked input into the cache: upstream's files beside Debian's.
func (in inputs) fetch(ctx context.Context, spec *build.Spec, lock *build.Lock, p *printer) ([]fetchedFile, error) {
	pins := lockedPins(lock)
	files := make([]fetchedFile, len(pins))
	g, ctx := errgroup.WithContext(ctx)
	for i, pin := range pins {
		g.Go(func() error {
			blob, err := in.upstream.Fetch(ctx, pin, spec.Upstream.Require)
			if err != nil {
				return err
			}
			files[i] = fetchedFile{Path: pin.Path, Size: blob.Size, Proofs: blob.Proofs, URL: blob.URL}
			p.line("fetch", "%s  %s  %s  %s", filepath.Base(pin.Path), bytesText(blob.Size), proofsText(blob.Proofs), cachedText(blob.URL))
			return nil
		})
	}
	packages := lockedPackages(lock)
	g.Go(func() error {
		if _, err := in.debian.FetchAll(ctx, 0, packages...); err != nil {
			return err
		}
		var size int64
		for _, f := range packages {
			size += f.Size
		}
		p.line("fetch", "%d packages of %s  %s  %s", len(packages), lock.Debian.Codename, bytesText(size), proofsText([]upstream.Proof{upstream.Pinned}))
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, f := range packages {
		files = append(files, fetchedFile{Path: f.Filename, Size: f.Size, Proofs: []upstream.Proof{upstream.Pinned}})
	}
	return files, nil
}

// lockedPins lists upstream's files, each once.
func lockedPins(lock *build.Lock) []upstream.Pin {
	var pins []upstream.Pin
	for _, files := range lock.Upstream.Files {
		pins = append(pins, files...)
	}
	slices.SortFunc(pins, func(a, b upstream.Pin) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(pins, func(a, b upstream.Pin) bool { return a.Path == b.Path })
}

// lockedPackages lists Debian's files, each once: those for all architectures
// are in the lock of every platform.
func lockedPackages(lock *build.Lock) []deb.File {
	var files []deb.File
	for _, packages := range lock.Debian.Packages {
		for _, p := range packages {
			files = append(files, deb.File{Filename: p.Path, Size: p.Size, SHA256: p.SHA256})
		}
	}
	slices.SortFunc(files, func(a, b deb.File) int { return strings.Compare(a.Filename, b.Filename) })
	return slices.Compact(files)
}

func proofsText(proofs []upstream.Proof) string {
	var words []string
	for _, p := range proofs {
		words = append(words, string(p)+" ✓")
	}
	return strings.Join(words, " ")
}

func cachedText(url string) string {
	if url == "" {
		return "cached"
	}
	return "from " + url
}

type fetchCmd struct {
	*app
	from inputFlags
	dir  string
}

func newFetch(a *app) *cobra.Command {
	c := &fetchCmd{app: a}
	cmd := &cobra.Command{
		Use:   "fetch DIR",
		Short: "Bring every locked input of an image into the cache, checked",
		Long: `Bring every input that image.lock.json names into the cache. Upstream's files must
be proven as the spec's "require" says: by the pin in the lock, by Kubernetes'
signature, or by both. A checksum from the same server proves nothing and is never
called verified.`,
		Example: `  imgctl fetch images/kubelet
  imgctl fetch images/kubelet --upstream https://mirror.example.com/kubernetes`,
		Args: exactArgs(1, "the directory of an image spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("fetch "+c.dir, c.run(cmd.Context()))
		},
	}
	c.from.register(cmd.Flags())
	return cmd
}

func (c *fetchCmd) run(ctx context.Context) error {
	im, err := c.fetchImage(ctx, c.from, c.dir)
	if err != nil || c.output != "json" {
		return err
	}
	return printJSON(c.stdout, struct {
		strict.Header
		Files []fetchedFile `json:"files"`
	}{header("Fetched"), im.files})
}

// lockedImage is an image whose inputs are all in the cache, checked.
type lockedImage struct {
	spec   *build.Spec
	lock   *build.Lock
	inputs inputs
	files  []fetchedFile
}

// fetchImage reads the spec and the lock in dir and brings what they name.
func (a *app) fetchImage(ctx context.Context, from inputFlags, dir string) (*lockedImage, error) {
	spec, lock, err := loadImage(dir)
	if err != nil {
		return nil, err
	}
	in, files, err := a.fetchLocked(ctx, from, spec, lock)
	return &lockedImage{spec, lock, in, files}, err
}

// fetchLocked brings what the lock names into the cache.
func (a *app) fetchLocked(ctx context.Context, from inputFlags, spec *build.Spec, lock *build.Lock) (inputs, []fetchedFile, error) {
	in, err := a.inputs(from, spec, a.printer())
	if err != nil {
		return inputs{}, nil, err
	}
	files, err := in.fetch(ctx, spec, lock, a.printer())
	return in, files, err
}
