package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

type signCmd struct {
	*app
	key      string
	passFrom passwordFlags
	formats  []string
	ref      string
}

func newSign(a *app) *cobra.Command {
	c := &signCmd{app: a}
	cmd := &cobra.Command{
		Use:   "sign REF",
		Short: "Sign an image, an index and its children, or a bundle where it is",
		Long: `Sign what the reference points at, and each child of an index: as a sigstore bundle
that refers to it, and under the tag sha256-….sig for clients that know only that.
Key signatures are deterministic, so signing twice changes nothing.`,
		Example: `  IMGCTL_KEY_PASSWORD=… imgctl sign quay.io/poseidon/kubelet@sha256:… --key release.key
  imgctl sign oci:dist:v1.36.2 --key release.key --password-file pass`,
		Args: exactArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ref = args[0]
			return wrapRef("sign", c.ref, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.key, "key", "", "private key `file`, as imgctl keygen or cosign makes it (required)")
	f.StringSliceVar(&c.formats, "formats", nil, "layouts of the signature: `bundle`, legacy or both (default both)")
	c.passFrom.register(f)
	return cmd
}

func (c *signCmd) run(ctx context.Context) error {
	formats, err := parseFormats(c.formats)
	if err != nil {
		return usage(err)
	}
	if c.key == "" {
		return usage(errors.New("--key: got nothing, want a private key file"))
	}
	password, err := c.password(c.passFrom.file, passwordVariable)
	if err != nil {
		return err
	}
	signer, err := loadKey(c.key, password)
	if err != nil {
		return err
	}
	reg := c.registries()
	repo, h, err := c.resolve(ctx, reg, c.ref)
	if err != nil {
		return err
	}
	r, err := signature(ctx, []sign.Signer{signer}, formats, repo, h)
	if err != nil {
		return err
	}
	receipts, err := reg.Publish(ctx, *r, oci.Destination{Repository: repo.String()})
	return c.printReceipts("Signed", h, receipts, err)
}

// signature is the release that adds signatures to what a repository holds.
func signature(ctx context.Context, signers []sign.Signer, formats signFormats, repo *oci.Repository, h v1.Hash) (*oci.Release, error) {
	subject, err := repo.Load(ctx, h)
	if err != nil {
		return nil, err
	}
	root, err := repo.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	parts := []v1.Descriptor{root.Descriptor}
	if root.IsIndex() {
		index, err := root.Index()
		if err != nil {
			return nil, err
		}
		parts = append(parts, index.Manifests...)
	}
	pr := &product{to: []oci.Destination{{Repository: repo.String()}}, digest: h, platforms: map[string]v1.Hash{}}
	for _, d := range parts {
		for _, s := range signers {
			a, err := sign.AttestSignature(ctx, s, d, signedName(repo), createdOf(root))
			if err != nil {
				return nil, err
			}
			if err := pr.vouch(formats, a); err != nil {
				return nil, err
			}
		}
		if d.Digest != h {
			pr.platforms[d.Digest.String()] = d.Digest
		}
	}
	return &oci.Release{Subject: subject, Attachments: pr.attachments, Signatures: pr.signatures(signers, formats)}, nil
}

// signedName is the name that a statement gives its subject: no path of this machine.
func signedName(repo *oci.Repository) string {
	if dir, ok := strings.CutPrefix(repo.String(), "oci:"); ok {
		return filepath.Base(dir)
	}
	return repo.String()
}

// createdOf is the time that a manifest gives itself; a signature takes it over,
// so that it does not depend on when it was made.
func createdOf(m *oci.Manifest) time.Time {
	var annotations map[string]string
	if index, err := m.Index(); err == nil {
		annotations = index.Annotations
	} else if image, err := m.Image(); err == nil {
		annotations = image.Annotations
	}
	t, err := time.Parse(time.RFC3339, annotations["org.opencontainers.image.created"])
	if err != nil {
		return time.Unix(0, 0).UTC()
	}
	return t
}
