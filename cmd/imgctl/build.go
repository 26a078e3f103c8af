package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/inspect"
	"github.com/imgctl/imgctl/pkg/oci"
)

type buildCmd struct {
	*app
	from    inputFlags
	only    targetFlags
	workers buildkitFlags
	dir     string
	out     string
	report  bool
	compare bool
}

// builtImages is what `imgctl build --json` prints.
type builtImages struct {
	strict.Header
	Images []builtIndex `json:"images"`
}

type builtIndex struct {
	Tag       string          `json:"tag"`
	Version   string          `json:"version"`
	Variant   string          `json:"variant,omitempty"`
	Digest    string          `json:"digest"` // of the index
	Platforms []builtPlatform `json:"platforms"`
}

type builtPlatform struct {
	Platform string       `json:"platform"`
	Digest   string       `json:"digest"`
	Layers   []builtLayer `json:"layers"`
	// Report is what is in the image, with --report.
	Report *inspect.Report `json:"report,omitempty"`
}

type builtLayer struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes, compressed
}

func newBuild(a *app) *cobra.Command {
	c := &buildCmd{app: a}
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Build an image from its spec and lock into an OCI layout directory",
		Long: `Build one image for each platform of the spec in DIR and an index of them, for
every version and variant, and write them as an OCI layout. Only image.yaml and
image.lock.json decide what goes in: the same two give the same digests on any
machine. No root, daemon, chroot or emulation is needed.

With --builder buildkit the packages are installed by dpkg, with their own scripts, on
BuildKit workers. --compare builds with both engines and compares what they made file
by file; what may differ stands in compare.yaml beside the spec.`,
		Example: `  imgctl build images/kubelet -o dist
  imgctl build images/kubelet --variant slim --report
  imgctl build images/kubelet --compare --addr unix:///run/buildkit/buildkitd.sock
  SOURCE_DATE_EPOCH=1780000000 imgctl build images/kubelet -o dist --json`,
		Args: exactArgs(1, "the directory of an image spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("build "+c.dir, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "output", "o", "", "`directory` of the OCI layout (required, unless --report or --compare says what else it is for)")
	f.BoolVar(&c.report, "report", false, "print what is in each image, and what takes the space")
	f.BoolVar(&c.compare, "compare", false, "build with both engines and compare every file; exit code 3 when one differs")
	c.workers.register(f)
	c.only.register(f)
	c.from.register(f)
	return cmd
}

func (c *buildCmd) run(ctx context.Context) error {
	if c.out == "" && !c.report && !c.compare {
		return usage(fmt.Errorf("--output: got nothing, want a directory"))
	}
	if err := c.workers.check(c.app, c.compare); err != nil {
		return err
	}
	im, err := c.fetchImage(ctx, c.from, c.dir, c.only)
	if err != nil {
		return err
	}
	if err := c.applyEpoch(im.lock); err != nil {
		return err
	}
	if c.compare {
		return c.compareEngines(ctx, im)
	}
	engine := c.engine(im.inputs)
	var built []builtIndex
	for _, t := range im.targets {
		result, err := c.buildImage(ctx, engine, im.spec, im.lock, t, c.printer())
		if err != nil {
			return err
		}
		b, err := c.finish(ctx, result)
		if err != nil {
			return err
		}
		built = append(built, b)
	}
	return c.print(built)
}

// engine is the one that --builder names.
func (c *buildCmd) engine(in inputs) build.Engine {
	if c.workers.builder == "buildkit" {
		return c.workers.engine(c.app, in)
	}
	return c.layers(in)
}

// finish writes an image to where it was asked for, and describes it.
func (c *buildCmd) finish(ctx context.Context, result *build.Result) (builtIndex, error) {
	if c.out != "" {
		if err := c.write(ctx, result); err != nil {
			return builtIndex{}, err
		}
	}
	b, err := describeBuilt(result)
	if err != nil || !c.report {
		return b, err
	}
	for i, p := range b.Platforms {
		report := result.Contents[p.Platform].Report()
		b.Platforms[i].Report = &report
	}
	return b, nil
}

// write puts an index into the layout.
func (c *buildCmd) write(ctx context.Context, result *build.Result) error {
	to := oci.Destination{Repository: "oci:" + c.out}
	_, err := c.registries().Publish(ctx, oci.Release{Subject: result.Index, Tags: []string{result.Target.Tag()}, Overwrite: "a build replaces the one before"}, to)
	return err
}

// layers is the engine in Go. One serves every image of a command, so that
// together they use no more than --jobs.
func (a *app) layers(in inputs) build.Engine {
	return &build.Layers{Materials: a.materials(in), Jobs: a.jobs}
}

// listings remember what was found in layers, so that gates cost nothing the second time.
func (a *app) listings() *inspect.Cache {
	return &inspect.Cache{Dir: filepath.Join(a.cache, "listings")}
}

// buildImage makes the images of all platforms of a target, and the index.
func (a *app) buildImage(ctx context.Context, e build.Engine, spec *build.Spec, lock *build.Lock, t build.Target, p *printer) (*build.Result, error) {
	began := a.now()
	builder := build.Builder{Engine: e, Listings: a.listings()}
	result, err := builder.Build(ctx, spec, lock, t)
	var gate *build.GateError
	if errors.As(err, &gate) {
		for _, v := range gate.Violations {
			p.line("gate", "%s", oneLine(v.String()))
		}
	}
	if err != nil {
		return nil, err
	}
	for _, platform := range spec.Platforms {
		layers, err := layersOf(result.Images[platform])
		if err != nil {
			return nil, err
		}
		line := platform
		for _, l := range layers {
			line += "  " + bytesText(l.Size)
		}
		p.line("build", "%s", line)
	}
	p.line("build", "%s %s  in %s", imageName(spec), t.Tag(), tookText(a.now().Sub(began)))
	return result, nil
}

// applyEpoch lets SOURCE_DATE_EPOCH replace the time of the lock.
func (a *app) applyEpoch(lock *build.Lock) error {
	text := a.getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return nil
	}
	t, err := build.ParseEpoch(text)
	if err != nil {
		return usage(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
	}
	lock.Created = t
	return nil
}

// imageName is what an image is called: the name of its spec's directory.
func imageName(spec *build.Spec) string {
	abs, err := filepath.Abs(spec.Dir())
	if err != nil {
		return filepath.Base(spec.Dir())
	}
	return filepath.Base(abs)
}

func layersOf(img v1.Image) ([]builtLayer, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var layers []builtLayer
	for _, l := range m.Layers {
		layers = append(layers, builtLayer{l.Digest.String(), l.Size})
	}
	return layers, nil
}

// describeBuilt is what is printed about one image.
func describeBuilt(result *build.Result) (builtIndex, error) {
	digest, err := result.Index.Digest()
	if err != nil {
		return builtIndex{}, err
	}
	t := result.Target
	b := builtIndex{Tag: t.Tag(), Version: t.Version, Variant: t.Variant, Digest: digest.String()}
	for _, platform := range sortedKeys(result.Images) {
		h, err := result.Images[platform].Digest()
		if err != nil {
			return builtIndex{}, err
		}
		layers, err := layersOf(result.Images[platform])
		if err != nil {
			return builtIndex{}, err
		}
		b.Platforms = append(b.Platforms, builtPlatform{Platform: platform, Digest: h.String(), Layers: layers})
	}
	return b, nil
}

func (c *buildCmd) print(built []builtIndex) error {
	if c.output == "json" {
		return printJSON(c.stdout, builtImages{header("Built"), built})
	}
	for _, b := range built {
		if !c.report {
			fmt.Fprintf(c.stdout, "oci:%s@%s\n", c.out, b.Digest)
			continue
		}
		for _, p := range b.Platforms {
			if err := printReport(c.stdout, b.Tag+" "+p.Platform, *p.Report); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout)
		}
	}
	return nil
}
