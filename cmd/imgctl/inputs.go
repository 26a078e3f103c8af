package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// inputs are the places that everything in an image comes from.
type inputs struct {
	upstream *upstream.Client
	debian   build.Archives
}

func (a *app) inputs(from inputFlags, spec *build.Spec, p *printer) (inputs, error) {
	d := a.downloader(p)
	up, err := a.upstreamClient(from, spec.Upstream, d)
	if err != nil {
		return inputs{}, err
	}
	archives, err := a.debianArchives(from, spec, d)
	return inputs{up, archives}, err
}

// materials are the inputs as engines take them.
func (a *app) materials(in inputs) *build.Materials {
	return &build.Materials{Upstream: in.upstream, Debian: in.debian, Cache: a.cache}
}

// fetchedFile is one input, in the cache and checked.
type fetchedFile struct {
	Path   string           `json:"path"` // relative to its archive or base
	Size   int64            `json:"size"`
	Proofs []upstream.Proof `json:"proofs"`
	URL    string           `json:"url,omitempty"` // where it came from; absent when the cache had it
}

// fetch brings what the lock has for the targets into the cache: upstream's files beside Debian's.
func (in inputs) fetch(ctx context.Context, spec *build.Spec, lock *build.Lock, targets []build.Target, p *printer) ([]fetchedFile, error) {
	pins := lock.Pins(targets)
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
	packages := lock.Packages(targets)
	for name, locked := range packages {
		g.Go(func() error {
			if err := in.debian.Fetch(ctx, lock, name, locked); err != nil {
				return err
			}
			var size int64
			for _, f := range locked {
				size += f.Size
			}
			p.line("fetch", "%d packages of %s  %s  %s", len(locked), name, bytesText(size), proofsText([]upstream.Proof{upstream.Pinned}))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(packages) {
		for _, f := range packages[name] {
			files = append(files, fetchedFile{Path: f.Path, Size: f.Size, Proofs: []upstream.Proof{upstream.Pinned}})
		}
	}
	return files, nil
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
	im, err := c.fetchImage(ctx, c.from, c.dir, targetFlags{})
	if err != nil || c.output != "json" {
		return err
	}
	return printJSON(c.stdout, struct {
		strict.Header
		Files []fetchedFile `json:"files"`
	}{header("Fetched"), im.files})
}

// targetFlags narrow down which of a spec's images are meant.
type targetFlags struct {
	version string
	variant string
}

func (t *targetFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.version, "kubernetes", "", "only the images of this `version` of Kubernetes (default: every one in the lock)")
	f.StringVar(&t.variant, "variant", "", "only the images of this `variant` (default: every one in the spec)")
}

// lockedImage is what a spec and its lock mean, with every input in the cache, checked.
type lockedImage struct {
	spec    *build.Spec
	lock    *build.Lock
	targets []build.Target
	inputs  inputs
	files   []fetchedFile
}

// fetchImage reads the spec and the lock in dir and brings what they name for the targets.
func (a *app) fetchImage(ctx context.Context, from inputFlags, dir string, only targetFlags) (*lockedImage, error) {
	spec, lock, err := loadImage(dir)
	if err != nil {
		return nil, err
	}
	targets, err := build.Select(spec.Targets(lock), only.version, only.variant)
	if err != nil {
		return nil, usage(err)
	}
	in, files, err := a.fetchLocked(ctx, from, spec, lock, targets)
	return &lockedImage{spec, lock, targets, in, files}, err
}

// fetchLocked brings what the lock has for the targets into the cache.
func (a *app) fetchLocked(ctx context.Context, from inputFlags, spec *build.Spec, lock *build.Lock, targets []build.Target) (inputs, []fetchedFile, error) {
	in, err := a.inputs(from, spec, a.printer())
	if err != nil {
		return inputs{}, nil, err
	}
	files, err := in.fetch(ctx, spec, lock, targets, a.printer())
	return in, files, err
}
