package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/oci"
)

func newBundle(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Work with what makes a machine a node",
		Args:  exactArgs(0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(newBundleRender(a), newBundleBuild(a), newBundleLock(a), newBundleDiff(a), newBundleAudit(a), newBundleLint(a))
	return cmd
}

// bundleSpec is the bundle that a command renders, and what its kubelet is pinned to.
type bundleSpec struct {
	dir, image string
}

func (s *bundleSpec) register(f *pflag.FlagSet) {
	f.StringVar(&s.image, "image", "", "`reference` with a digest that the kubelet is pinned to (default: what bundle.lock.json says)")
}

// kubelet is what the kubelet is pinned to; "" when the lock says so.
func (s *bundleSpec) kubelet() (string, error) {
	if s.image == "" {
		return "", nil
	}
	ref, err := oci.ParseReference(s.image)
	if err != nil {
		return "", err
	}
	if ref.Digest.Hex == "" {
		return "", fmt.Errorf("--image: got %s, want a reference with a digest", s.image)
	}
	return ref.Repository + "@" + ref.Digest.String(), nil
}

// load reads the bundle and warns of what works and is still not to be wanted.
func (a *app) loadBundle(from *bundleSpec) (config *bundle.Config, kubelet string, err error) {
	if kubelet, err = from.kubelet(); err != nil {
		return nil, "", usage(err)
	}
	if config, err = bundle.Load(from.dir); err != nil {
		return nil, "", err
	}
	for _, w := range config.Warnings() {
		a.printer().line("warning", "%s", w)
	}
	return config, kubelet, nil
}

type bundleRenderCmd struct {
	*app
	from bundleSpec
	out  string
}

func newBundleRender(a *app) *cobra.Command {
	c := &bundleRenderCmd{app: a}
	cmd := &cobra.Command{
		Use:   "render DIR",
		Short: "Write the files of a bundle, pinned to an image, into a directory",
		Long: `Write the files of a bundle into a directory, for people to look at. Every image is
pinned: the kubelet to --image, and all others, or without --image all, to what
bundle.yaml or bundle.lock.json says by digest. Of a bundle for several kinds of
machines each has a directory of its own: FAMILY-ROLE.`,
		Example: `  imgctl bundle render bundles/typhoon --image quay.io/poseidon/kubelet@sha256:… -o out
  imgctl bundle render bundles/typhoon --image $(imgctl verify -o name quay.io/poseidon/kubelet:v1.36.2) -o out`,
		Args: exactArgs(1, "the directory of a bundle spec"),
		RunE: func(_ *cobra.Command, args []string) error {
			c.from.dir = args[0]
			return wrap("bundle render "+args[0], c.run())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "output", "o", "", "directory that is written; it must not exist")
	c.from.register(f)
	return cmd
}

func (c *bundleRenderCmd) run() error {
	if c.out == "" {
		return usage(errors.New("--output: got none, want a directory that does not exist"))
	}
	config, kubelet, err := c.loadBundle(&c.from)
	if err != nil {
		return err
	}
	lock, err := bundle.LoadLock(config)
	if err != nil {
		return err
	}
	trees, err := bundle.RenderAll(config, config.Pin(kubelet, lock))
	if err != nil {
		return err
	}
	if len(trees) == 1 {
		return writeTree(c.out, trees[0])
	}
	if err := os.Mkdir(c.out, 0o755); err != nil {
		return err
	}
	for _, t := range trees {
		if err := writeTree(filepath.Join(c.out, t.Machine.String()), t); err != nil {
			return err
		}
	}
	return nil
}

// writeTree writes a rendered tree for people to look at: as the caller's own files.
func writeTree(out string, tree bundle.Tree) error {
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	for _, f := range tree.Files {
		if err := writeBelow(out, f.Path, f.Mode, f.Body); err != nil {
			return err
		}
	}
	return nil
}

// writeBelow writes a file below dir, whole or not at all, with the directories on
// the way to it. name has slashes and is clean.
func writeBelow(dir, name string, mode fs.FileMode, body []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, mode, body)
}
