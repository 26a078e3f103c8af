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

Every registry that is listed must have that digest: one that does not is an error, one
that cannot be asked a warning, and so is an image for one platform only.

stdout is repository@digest, one a line.`,
		Example: `  imgctl bundle lock bundles/typhoon
  imgctl bundle lock bundles/typhoon -o json | jq -r '.images.kubelet.digest'`,
		Args: exactArgs(1, "the directory of a bundle spec"),
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
	lock, err := bundle.NewLock(ctx, config, lockRegistries{c.app, c.registries()})
	if err != nil {
		return err
	}
	for _, w := range lock.Warnings() {
		c.printer().line("warning", "%s", w)
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

// lockRegistries answers what a lock asks.
type lockRegistries struct {
	*app
	client *oci.Client
}

// Ask reads the manifest that ref stands for.
func (r lockRegistries) Ask(ctx context.Context, ref string) (digest string, index bool, err error) {
	repo, h, err := r.resolve(ctx, r.client, ref)
	if err != nil {
		return "", false, err
	}
	m, err := repo.Manifest(ctx, h)
	if err != nil {
		return "", false, err
	}
	return h.String(), m.IsIndex(), nil
}

// Outage counts a registry that wants other credentials: it said nothing about the image.
func (lockRegistries) Outage(err error) bool { return oci.Unreachable(err) || oci.Denied(err) }
