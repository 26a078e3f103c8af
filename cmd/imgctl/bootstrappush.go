package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/bootstrap"
	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
	"github.com/imgctl/imgctl/pkg/bootstrap/sealed"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// bootstrapPushCmd publishes what is sealed.
type bootstrapPushCmd struct {
	*app
	by  signerFlags
	dir string
	tag string
	to  []string
}

func newBootstrapPush(a *app) *cobra.Command {
	c := &bootstrapPushCmd{app: a}
	cmd := &cobra.Command{
		Use:   "push DIR REPOSITORY…",
		Short: "Publish what is sealed, and nothing else of the directory, as a signed artifact",
		Long: `Make one OCI artifact of the files that "imgctl bootstrap init" has sealed in
DIR/sealed, sign it and bring it to the repositories, which may be public or oci:DIR: only
the machines open it. That it comes from you is what the signature says, so there is
no pushing without one. "imgctl bootstrap open" verifies, fetches and installs it.`,
		Example: `  IMGCTL_KEY_PASSWORD=… imgctl bootstrap push secrets quay.io/example/secrets --key release.key
  imgctl bootstrap push secrets oci:media/secrets --key release.key --tag 2026-07`,
		Args: withoutTokens(atLeast(2, "the directory and one repository or more")),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir, c.to = args[0], args[1:]
			return wrap("bootstrap push "+c.dir, c.run(cmd.Context()))
		},
	}
	c.by.register(cmd.Flags())
	cmd.Flags().StringVar(&c.tag, "tag", "sealed", "`tag` that points at it")
	return cmd
}

func (c *bootstrapPushCmd) run(ctx context.Context) error {
	archives, err := readSealed(c.dir)
	if err != nil {
		return err
	}
	created := c.now()
	image, err := sealed.Pack(archives, created)
	if err != nil {
		return err
	}
	subject, err := describe(image)
	if err != nil {
		return err
	}
	pr := &product{subject: image, digest: subject.Digest, tags: map[v1.Hash][]string{subject.Digest: {c.tag}}}
	for _, name := range c.to {
		pr.to = append(pr.to, oci.Destination{Repository: name})
	}
	r, err := c.by.release(ctx, c.app, pr, created, []claim{plain(subject)})
	if err != nil {
		return err
	}
	r.Overwrite = "sealed anew"
	receipts, err := c.registries().Publish(ctx, *r, pr.to...)
	return c.printReceipts("BootstrapPushed", subject.Digest, "", receipts, err)
}

// readSealed reads what is sealed in the directory, by role.
func readSealed(dir string) (map[string][]byte, error) {
	archives := make(map[string][]byte)
	for _, role := range bootstrap.Roles() {
		data, err := os.ReadFile(filepath.Join(dir, "sealed", sealed.Title(string(role))))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		archives[string(role)] = data
	}
	if len(archives) == 0 {
		return nil, hint(usage(errors.New("nothing is sealed in it")), "imgctl bootstrap init CLUSTER.yaml -o %s --seal …", dir)
	}
	return archives, nil
}

// fetchSealed gets what is sealed for a role from where it was published, if the
// policy accepts it.
func (a *app) fetchSealed(ctx context.Context, accept policyFlags, ref, role string) ([]byte, error) {
	if role == "" {
		return nil, usage(errors.New("--role: got nothing, want controller, worker or etcd"))
	}
	in, err := a.inspect(ctx, a.registries(), accept, ref)
	if err != nil {
		return nil, err
	}
	if in.Err != nil {
		return nil, hint(in.Err, "imgctl verify %s shows what each source says", ref)
	}
	return readSealedLayer(ctx, in.Verified, role)
}

func readSealedLayer(ctx context.Context, v *verify.Verified, role string) ([]byte, error) {
	m, err := v.Manifest().Image()
	if err != nil {
		return nil, err
	}
	layer, err := sealed.Layer(m, role)
	if err != nil {
		return nil, coded(exitNotFound, fmt.Errorf("%s: %w", strings.TrimPrefix(v.Repository(), "oci:"), err))
	}
	return v.ReadBlob(ctx, layer, seal.MaxSize)
}
