package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/oci"
)

type bundleRenderCmd struct {
	*app
	dir, out, image string
}

func newBundle(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Work with what makes a machine a node",
		Args:  exactArgs(0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	c := &bundleRenderCmd{app: a}
	render := &cobra.Command{
		Use:   "render DIR",
		Short: "Write the files of a bundle, pinned to an image, into a directory",
		Long: `Write the files of a bundle into a directory, for people to look at. Every image is
pinned: the kubelet to --image, and all others, or without --image all, to what
bundle.yaml or bundle.lock.json says by digest.`,
		Example: `  imgctl bundle render bundles/typhoon --image quay.io/poseidon/kubelet@sha256:… -o out
  imgctl bundle render bundles/typhoon --image $(imgctl verify -o name quay.io/poseidon/kubelet:v1.36.2) -o out`,
		Args: exactArgs(1, "the directory of a bundle spec"),
		RunE: func(_ *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("bundle render "+c.dir, c.run())
		},
	}
	f := render.Flags()
	f.StringVarP(&c.out, "output", "o", "", "directory that is written; it must not exist")
	f.StringVar(&c.image, "image", "", "`reference` with a digest that the kubelet is pinned to (default: what bundle.lock.json says)")
	cmd.AddCommand(render, newBundleLock(a), newBundleDiff(a), newBundleAudit(a), newBundleLint(a))
	return cmd
}

func (c *bundleRenderCmd) run() error {
	if c.out == "" {
		return usage(errors.New("--output: got none, want a directory that does not exist"))
	}
	kubelet, err := c.kubelet()
	if err != nil {
		return usage(err)
	}
	config, err := bundle.Load(c.dir)
	if err != nil {
		return err
	}
	for _, w := range config.Warnings() {
		c.printer().line("warning", "%s", w)
	}
	lock, err := bundle.LoadLock(config)
	if err != nil {
		return err
	}
	tree, err := bundle.Render(config, config.Pin(kubelet, lock))
	if err != nil {
		return err
	}
	return writeTree(c.out, tree)
}

// kubelet is what the kubelet is pinned to; "" when the lock says so.
func (c *bundleRenderCmd) kubelet() (string, error) {
	if c.image == "" {
		return "", nil
	}
	ref, err := oci.ParseReference(c.image)
	if err != nil {
		return "", err
	}
	if ref.Digest.Hex == "" {
		return "", fmt.Errorf("--image: got %s, want a reference with a digest", c.image)
	}
	return ref.Repository + "@" + ref.Digest.String(), nil
}

// writeTree writes a rendered tree for people to look at: as the caller's own files.
func writeTree(out string, tree bundle.Tree) error {
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	for _, f := range tree.Files {
		path := filepath.Join(out, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(path, f.Mode, f.Body); err != nil {
			return err
		}
	}
	return nil
}
