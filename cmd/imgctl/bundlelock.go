package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/oci"
)

type bundleLockCmd struct {
	*app
	dir string
}

func newBundleLock(a *app) *cobra.Command {
	c := &bundleLockCmd{app: a}
	cmd := &cobra.Command{
		Use:   "lock DIR",
		Short: "Resolve every image of a bundle once, to a digest",
		Long: `Ask the registries of each image in bundle.yaml, in their order, what its tag points
at, and write the first answer into bundle.lock.json beside it. From then on the
bundle means these bytes, from whichever of the registries they come. The kubelet's
tag is the bundle's version of Kubernetes where none is written.

stdout is repository@digest, one a line.`,
		Example: `  imgctl bundle lock bundles/typhoon
  imgctl bundle lock bundles/typhoon -o json | jq -r '.images.kubelet.digest'`,
		Args:    exactArgs(1, "the directory of a bundle spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("bundle lock "+c.dir, c.run(cmd.Context()))
		},
	}
	a.registerOutput(cmd.Flags())
	return cmd
}

func (c *bundleLockCmd) run(ctx context.Context) error {
	config, err := bundle.Load(c.dir)
	if err != nil {
		return err
	}
	reg := c.registries()
	lock, err := bundle.NewLock(config, func(ref string) (string, error) {
		_, h, err := c.resolve(ctx, reg, ref)
		return h.String(), err
	})
	if err != nil {
		return err
	}
	if err := lock.Save(config); err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, lock)
	}
	for _, name := range sortedKeys(lock.Images) {
		i := lock.Images[name]
		ref, err := oci.ParseReference(i.From)
		if err != nil {
			return err
		}
		c.printer().line("lock", "%s  %s  %s", name, i.From, shortDigest(i.Digest))
		fmt.Fprintf(c.stdout, "%s@%s\n", ref.Repository, i.Digest)
	}
	return nil
}
