package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// signerFlags are a signer on the command line.
type signerFlags struct {
	signerFile
	keyFile      string
	keyless      bool
	passFrom     passwordFlags
	tokenFile    string
	keylessFlags keylessFile
	formats      []string
}

func (s *signerFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.keyFile, "key", "", "private key `file`, as imgctl keygen or cosign makes it")
	f.StringVar(&s.KMS, "kms", "", "key that a service or a token keeps, as `URI`: awskms:///alias/release, pkcs11:token=…;object=…?module-path=…")
	f.BoolVar(&s.keyless, "keyless", false, "sign with a certificate for an identity token: "+tokenVariable+", a file, or GitHub Actions")
	f.StringVar(&s.tokenFile, "identity-token-file", "", "`file` that holds the identity token")
	f.StringVar(&s.keylessFlags.Fulcio, "fulcio-url", "", "certificate authority of --keyless (default: the public-good one)")
	f.StringVar(&s.keylessFlags.Log.Rekor, "rekor-url", "", "transparency log (default: with --keyless the public-good one, else none)")
	f.IntVar(&s.keylessFlags.Log.RekorVersion, "rekor-version", 1, "version of the log's API: 1, or 2, which needs --timestamp-url")
	f.StringArrayVar(&s.keylessFlags.Log.Timestamps, "timestamp-url", nil, "timestamp authority, with the whole path (repeatable)")
	f.StringVar(&s.keylessFlags.SigningConfig, "signing-config", "", "signing_config.json of cosign 3, instead of addresses")
	f.StringVar(&s.keylessFlags.Log.TrustedRoot, "trusted-root", "", "trusted_root.json that what the services give is verified against (default: the public-good root that is built in)")
	f.StringSliceVar(&s.formats, "formats", nil, "layouts of signatures: bundle, legacy or both (default both)")
	s.passFrom.register(f)
}

// given tells whether the flags name a signer.
func (s *signerFlags) given() bool { return s.keyFile != "" || s.KMS != "" || s.keyless }

// file is what the flags would be in a release file.
func (s *signerFlags) file() (signerFile, error) {
	f := s.signerFile
	if s.keyFile != "" {
		f.Key = &keyFile{File: s.keyFile, Password: secretFile{File: s.passFrom.file}}
		if s.keylessFlags.Log.Rekor != "" {
			f.Key.Log = &s.keylessFlags.Log
		}
	}
	if s.keyless {
		s.keylessFlags.Token.File = s.tokenFile
		f.Keyless = &s.keylessFlags
	}
	if f == (signerFile{}) {
		return f, usage(errors.New("no signer: give --key, --kms or --keyless"))
	}
	if err := f.check(); err != nil {
		return f, usage(err)
	}
	return f, nil
}

// release signs what is said of a new product by the flags' signer, and is all of
// it that goes to its destinations. What they have signed before is kept.
func (s *signerFlags) release(ctx context.Context, a *app, pr *product, created time.Time, claims []claim) (*oci.Release, error) {
	formats, err := parseFormats(s.formats)
	if err != nil {
		return nil, usage(err)
	}
	file, err := s.file()
	if err != nil {
		return nil, err
	}
	signer, err := a.openSigner(ctx, file, filepath.Clean)
	if err != nil {
		return nil, err
	}
	var repositories []string
	for _, to := range pr.to {
		repositories = append(repositories, to.Repository)
	}
	signers, err := keepAll(a.registries(), []sign.Signer{signer}, repositories)
	if err != nil {
		return nil, err
	}
	name := primary(pr.to)
	if dir, ok := strings.CutPrefix(name, "oci:"); ok {
		name = filepath.Base(dir) // no path of this machine
	}
	if err := pr.sign(ctx, signers, formats, name, created, claims); err != nil {
		return nil, err
	}
	return &oci.Release{
		Subject: pr.subject, Tags: pr.tags[pr.digest], PartTags: pr.partTags(),
		Attachments: pr.attachments, Signatures: pr.signatures(signers, formats),
	}, nil
}

type signCmd struct {
	*app
	by      signerFlags
	allTags bool
	dryRun  bool
	ref     string
}

func newSign(a *app) *cobra.Command {
	c := &signCmd{app: a}
	cmd := &cobra.Command{
		Use:   "sign REF",
		Short: "Sign an image, an index and its children, or a bundle where it is",
		Long: `Sign what the reference points at, and each child of an index: as a sigstore bundle
that refers to it, and under the tag sha256-….sig for clients that know only that.
What is signed already by the same signer stays as it is, and so do signatures by
others; signing twice changes nothing.

With --all-tags the argument is a repository, and everything that a tag points at is
signed, for instance with a new key. It can be interrupted: run it again.`,
		Example: `  IMGCTL_KEY_PASSWORD=… imgctl sign quay.io/poseidon/kubelet@sha256:… --key release.key
  imgctl sign quay.io/poseidon/kubelet:v1.36.2 --keyless
  imgctl sign --all-tags quay.io/poseidon/kubelet --key new.key --dry-run`,
		Args: exactArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ref = args[0]
			return wrapRef("sign", c.ref, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	c.by.register(f)
	f.BoolVar(&c.allTags, "all-tags", false, "sign everything that a tag of the repository points at")
	f.BoolVar(&c.dryRun, "dry-run", false, "with --all-tags: print what would be signed and change nothing")
	return cmd
}

func (c *signCmd) run(ctx context.Context) error {
	formats, err := parseFormats(c.by.formats)
	if err != nil {
		return usage(err)
	}
	if c.dryRun && !c.allTags {
		return usage(errors.New("--dry-run: got no --all-tags, which it belongs to"))
	}
	reg := c.registries()
	if c.dryRun {
		repo, err := reg.Repository(c.ref)
		if err != nil {
			return usage(err)
		}
		return c.planAll(ctx, repo)
	}
	file, err := c.by.file()
	if err != nil {
		return err
	}
	signer, err := c.openSigner(ctx, file, filepath.Clean)
	if err != nil {
		return err
	}
	if c.allTags {
		repo, err := reg.Repository(c.ref)
		if err != nil {
			return usage(err)
		}
		return c.signAll(ctx, reg, repo, sign.Keep(signer, repo), formats)
	}
	repo, h, err := c.resolve(ctx, reg, c.ref)
	if err != nil {
		return err
	}
	receipts, err := signAt(ctx, reg, repo, h, sign.Keep(signer, repo), formats)
	return c.printReceipts("Signed", h, "", receipts, err)
}

// signAt signs one artifact and its children where it is.
func signAt(ctx context.Context, reg *oci.Client, repo *oci.Repository, h v1.Hash, s sign.Signer, formats signFormats) ([]oci.Receipt, error) {
	r, err := signature(ctx, []sign.Signer{s}, formats, repo, h)
	if err != nil {
		return nil, err
	}
	return reg.Publish(ctx, *r, oci.Destination{Repository: repo.String()})
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
	pr := &product{to: []oci.Destination{{Repository: repo.String()}}, digest: h, parts: map[string]v1.Hash{}}
	var claims []claim
	for _, d := range parts {
		claims = append(claims, plain(d))
		if d.Digest != h {
			pr.parts[d.Digest.String()] = d.Digest
		}
	}
	if err := pr.sign(ctx, signers, formats, signedName(repo), createdOf(root), claims); err != nil {
		return nil, err
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
