package main

import (
	"context"
	"fmt"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
)

type buildCmd struct {
	*app
	from inputFlags
	dir  string
	out  string
}

// builtImage is what `imgctl build --json` prints.
type builtImage struct {
	strict.Header
	Version   string          `json:"version"`
	Digest    string          `json:"digest"` // of the index
	Platforms []builtPlatform `json:"platforms"`
}

type builtPlatform struct {
	Platform string       `json:"platform"`
	Digest   string       `json:"digest"`
	Layers   []builtLayer `json:"layers"`
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
		Long: `Build one image for each platform of the spec in DIR and an index of them, and
write them as an OCI layout. Only image.yaml and image.lock.json decide what goes in:
the same two give the same digests on any machine. No root, daemon, chroot or
emulation is needed.`,
		Example: `  imgctl build images/kubelet -o dist
  SOURCE_DATE_EPOCH=1780000000 imgctl build images/kubelet -o dist --json`,
		Args: exactArgs(1, "the directory of an image spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("build "+c.dir, c.run(cmd.Context()))
		},
	}
	cmd.Flags().StringVarP(&c.out, "output", "o", "", "`directory` of the OCI layout (required)")
	c.from.register(cmd.Flags())
	return cmd
}

func (c *buildCmd) run(ctx context.Context) error {
	if c.out == "" {
		return usage(fmt.Errorf("--output: got nothing, want a directory"))
	}
	im, err := c.fetchImage(ctx, c.from, c.dir)
	if err != nil {
		return err
	}
	result, err := c.buildImage(ctx, im.inputs, im.spec, im.lock, c.printer())
	if err != nil {
		return err
	}
	version := im.lock.Upstream.Version
	to := oci.Destination{Repository: "oci:" + c.out}
	if _, err := c.registries().Publish(ctx, oci.Release{Subject: result.Index, Tags: []string{version}, Overwrite: true}, to); err != nil {
		return err
	}
	return c.print(version, result)
}

// buildImage makes the images of all platforms and the index.
func (a *app) buildImage(ctx context.Context, in inputs, spec *build.Spec, lock *build.Lock, p *printer) (*build.Result, error) {
	if err := a.applyEpoch(lock); err != nil {
		return nil, err
	}
	began := a.now()
	engine := &build.Layers{Upstream: in.upstream, Debian: in.debian, Cache: a.cache, Jobs: a.jobs}
	result, err := build.Build(ctx, engine, spec, lock)
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
	p.line("build", "%s  in %s", imageName(spec), tookText(a.now().Sub(began)))
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

func (c *buildCmd) print(version string, result *build.Result) error {
	digest, err := result.Index.Digest()
	if err != nil {
		return err
	}
	if c.output != "json" {
		_, err := fmt.Fprintf(c.stdout, "oci:%s@%s\n", c.out, digest)
		return err
	}
	b := builtImage{Header: header("Built"), Version: version, Digest: digest.String()}
	for _, platform := range sortedKeys(result.Images) {
		h, err := result.Images[platform].Digest()
		if err != nil {
			return err
		}
		layers, err := layersOf(result.Images[platform])
		if err != nil {
			return err
		}
		b.Platforms = append(b.Platforms, builtPlatform{platform, h.String(), layers})
	}
	return printJSON(c.stdout, b)
}
