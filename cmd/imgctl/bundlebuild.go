package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
)

type bundleBuildCmd struct {
	*app
	from bundleSpec
	by   signerFlags
	out  string
}

// builtBundle is what `imgctl bundle build --json` prints.
type builtBundle struct {
	strict.Header
	Tag    string            `json:"tag"`
	Digest string            `json:"digest"` // of the index
	Parts  []builtBundlePart `json:"parts"`
}

type builtBundlePart struct {
	Name   string `json:"name"` // family and role: "fcos-worker", and "fcos-worker-flux"
	Tag    string `json:"tag"`
	Digest string `json:"digest"`
}

func newBundleBuild(a *app) *cobra.Command {
	c := &bundleBuildCmd{app: a}
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Make the artifact of a bundle in an OCI layout directory",
		Long: `Render a bundle for every family and role that it is for, and write the artifact as
an OCI layout: an index that has, for each kind of machine, a manifest with one layer
a file, and one with a single tar for Flux. With --key, --kms or --keyless it is signed,
and the signatures lie beside it: the directory can be carried to where no registry
is, and "imgctl verify" and "imgctl pull" take it as oci:DIR.

"imgctl release" publishes the same. Its time is that of SOURCE_DATE_EPOCH, else 1970.`,
		Example: `  imgctl bundle build bundles/typhoon --image quay.io/poseidon/kubelet@sha256:… -o dist/bundle
  IMGCTL_KEY_PASSWORD=… imgctl bundle build bundles/typhoon -o dist/bundle --key release.key`,
		Args: exactArgs(1, "the directory of a bundle spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.from.dir = args[0]
			return wrap("bundle build "+args[0], c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "output", "o", "", "`directory` of the OCI layout")
	c.from.register(f)
	c.by.register(f)
	return cmd
}

func (c *bundleBuildCmd) run(ctx context.Context) error {
	if c.out == "" {
		return usage(errors.New("--output: got nothing, want a directory"))
	}
	created, err := c.epoch()
	if err != nil {
		return err
	}
	config, kubelet, err := c.loadBundle(&c.from)
	if err != nil {
		return err
	}
	pr, err := packBundle(config, kubelet, created)
	if err != nil {
		return err
	}
	if err := c.write(ctx, pr, created); err != nil {
		return err
	}
	return c.print(pr)
}

// epoch is the time in the artifact. There is no other that two builds would agree on.
func (c *bundleBuildCmd) epoch() (time.Time, error) {
	text := c.getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	t, err := build.ParseEpoch(text)
	if err != nil {
		return time.Time{}, usage(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
	}
	return t, nil
}

// write signs the artifact, if there is a signer, and puts both into the layout.
func (c *bundleBuildCmd) write(ctx context.Context, pr *product, created time.Time) error {
	pr.to = []oci.Destination{{Repository: "oci:" + c.out}}
	r := &oci.Release{Subject: pr.subject, Tags: pr.tags[pr.digest], PartTags: pr.partTags()}
	if c.by.given() {
		claims, err := bundleClaims(pr)
		if err != nil {
			return err
		}
		if r, err = c.by.release(ctx, c.app, pr, created, claims); err != nil {
			return err
		}
	}
	r.Overwrite = "a build replaces the one before"
	_, err := c.registries().Publish(ctx, *r, pr.to...)
	return err
}

func (c *bundleBuildCmd) print(pr *product) error {
	if c.output != "json" {
		_, err := fmt.Fprintf(c.stdout, "oci:%s@%s\n", c.out, pr.digest)
		return err
	}
	built := builtBundle{Header: header("BundleBuilt"), Tag: pr.tags[pr.digest][0], Digest: pr.digest.String()}
	for _, name := range sortedKeys(pr.parts) {
		h := pr.parts[name]
		built.Parts = append(built.Parts, builtBundlePart{name, pr.tags[h][0], h.String()})
	}
	return printJSON(c.stdout, built)
}
