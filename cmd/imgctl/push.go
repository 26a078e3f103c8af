package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// pushResult is what `imgctl push`, `sign` and `sync` print.
type pushResult struct {
	strict.Header
	Digest       string            `json:"digest"`
	Destinations []pushDestination `json:"destinations"`
}

type pushDestination struct {
	Repository string   `json:"repository"`
	Tags       []string `json:"tags,omitempty"`
	Uploaded   int      `json:"uploaded"` // blobs and manifests that were sent
	Present    int      `json:"present"`  // that were there
	Bytes      int64    `json:"bytes"`    // of what was sent
	Error      string   `json:"error,omitempty"`
}

// printReceipts prints what happened at each destination, and returns err, with
// which all of it ended.
func (a *app) printReceipts(kind string, h v1.Hash, receipts []oci.Receipt, err error) error {
	if len(receipts) == 0 {
		return err
	}
	p := a.printer()
	r := pushResult{Header: header(kind), Digest: h.String()}
	for _, rc := range receipts {
		d := pushDestination{Repository: rc.Repository, Tags: rc.Tags, Uploaded: rc.Uploaded, Present: rc.Present, Bytes: rc.Bytes}
		if rc.Err != nil {
			d.Error = oneLine(rc.Err.Error())
		} else {
			p.line("done", "%s  %d of %d new, %s  %s", rc.Repository, rc.Uploaded, rc.Uploaded+rc.Present, bytesText(rc.Bytes), tookText(rc.Took))
		}
		r.Destinations = append(r.Destinations, d)
		if rc.Err == nil && a.output != "json" {
			fmt.Fprintf(a.stdout, "%s@%s\n", rc.Repository, h)
		}
	}
	if a.output != "json" {
		return err
	}
	return errors.Join(printJSON(a.stdout, r), reported(err))
}

type pushCmd struct {
	*app
	accept policyFlags
	tags   []string
	src    string
	to     []string
}

func newPush(a *app) *cobra.Command {
	c := &pushCmd{app: a}
	cmd := &cobra.Command{
		Use:   "push SRC REPOSITORY…",
		Short: "Bring an image or index to several repositories at once, by digest",
		Long: `Bring an image or index, for instance from the directory that "imgctl build" wrote,
to several repositories at once. Each blob is read once and sent only where it is
missing. Without --tag it is reachable by digest only, ready to be signed; with
--tag it must pass the policy, read back from each repository, before the tag moves.`,
		Example: `  imgctl push oci:dist:v1.36.2 quay.io/poseidon/kubelet docker.io/psdn/kubelet
  imgctl push oci:dist:v1.36.2 quay.io/poseidon/kubelet --tag v1.36.2 --policy policies/kubelet.yaml`,
		Args: atLeast(2, "a source and one repository or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.src, c.to = args[0], args[1:]
			return wrapRef("push", c.src, c.run(cmd.Context()))
		},
	}
	c.accept.register(cmd.Flags())
	cmd.Flags().StringArrayVar(&c.tags, "tag", nil, "`tag` that is moved once the content has passed the policy (repeatable)")
	return cmd
}

func (c *pushCmd) run(ctx context.Context) error {
	reg := c.registries()
	src, h, err := c.resolve(ctx, reg, c.src)
	if err != nil {
		return err
	}
	subject, err := src.Load(ctx, h)
	if err != nil {
		return err
	}
	r := oci.Release{Subject: subject, Tags: c.tags}
	var to []oci.Destination
	for _, name := range c.to {
		to = append(to, oci.Destination{Repository: name})
	}
	if len(c.tags) > 0 {
		if r.Check, err = c.check(reg); err != nil {
			return err
		}
	}
	receipts, err := reg.Publish(ctx, r, to...)
	return c.printReceipts("Pushed", h, receipts, err)
}

// check applies the policy to what one repository holds.
func (c *pushCmd) check(reg *oci.Client) (func(context.Context, *oci.Repository, v1.Hash) error, error) {
	v, err := c.verifier(c.accept, reg, c.to...)
	if err != nil {
		return nil, hint(err, "a tag is only moved to what passes --policy or --key")
	}
	return readBack(v, func(repository string) string { return repository }), nil
}

type signCmd struct {
	*app
	key      string
	passFrom passwordFlags
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
	cmd.Flags().StringVar(&c.key, "key", "", "private key `file`, as imgctl keygen or cosign makes it (required)")
	c.passFrom.register(cmd.Flags())
	return cmd
}

func (c *signCmd) run(ctx context.Context) error {
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
	r, err := signature(ctx, signer, repo, h)
	if err != nil {
		return err
	}
	receipts, err := reg.Publish(ctx, *r, oci.Destination{Repository: repo.String()})
	return c.printReceipts("Signed", h, receipts, err)
}

// signature is the release that adds signatures to what a repository holds.
func signature(ctx context.Context, s sign.Signer, repo *oci.Repository, h v1.Hash) (*oci.Release, error) {
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
	r := &oci.Release{Subject: subject}
	pr := &product{to: []oci.Destination{{Repository: repo.String()}}, digest: h, platforms: map[string]v1.Hash{}}
	for _, d := range parts {
		img, err := sign.AttachSignature(ctx, s, d, signedName(repo), createdOf(root))
		if err != nil {
			return nil, err
		}
		r.Attachments = append(r.Attachments, oci.Attachment{Subject: d.Digest, Image: img})
		if d.Digest != h {
			pr.platforms[d.Digest.String()] = d.Digest
		}
	}
	r.Signatures = pr.signatures(s)
	return r, nil
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
