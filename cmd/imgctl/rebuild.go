package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/rebuild"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

type rebuildCmd struct {
	*app
	from     inputFlags
	accept   policyFlags
	unsigned bool
	spec     string
	ref      string
}

// rebuiltImage is what `imgctl rebuild --json` prints.
type rebuiltImage struct {
	strict.Header
	Reference string    `json:"reference"`
	Digest    string    `json:"digest"` // of what was published
	Equal     bool      `json:"equal"`
	Signers   []string  `json:"signers"` // none with --insecure-unsigned
	Version   string    `json:"version,omitempty"`
	Variant   string    `json:"variant,omitempty"`
	Created   time.Time `json:"created"`
	Inputs    int       `json:"inputs"` // that the provenance names
	*rebuild.Report
}

func newRebuild(a *app) *cobra.Command {
	c := &rebuildCmd{app: a}
	cmd := &cobra.Command{
		Use:   "rebuild REF",
		Short: "Build a published image again from what its provenance names, and compare",
		Long: `Read the signed provenance of a published image, build the image again from the
inputs that it names by digest, and compare: the index, and of each platform the
manifest, the config and every layer. Where they differ, the first layer, file and
range of bytes that do are named.

The spec, its lock and its keyring come from the artifact that a release publishes
beside the image, or from the directory that --spec names. Either way they must have the
digests that the provenance has for them. No layer in the cache is used.

Exit codes: 0 equal; 3 published and rebuilt differ; 6 an input cannot be had any
more, or not now; 8 an input, or what the registry serves, has another digest than it
should; 10, 12 and 14 the policy does not accept the image or its provenance.`,
		Example: `  imgctl rebuild quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml
  imgctl rebuild quay.io/poseidon/kubelet:v1.36.2 --key release.pub --spec images/kubelet
  imgctl rebuild oci:dist/kubelet:v1.36.2 --key release.pub --json`,
		Args: exactArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ref = args[0]
			return wrapRef("rebuild", c.ref, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.spec, "spec", "", "`directory` with the image's spec, lock and keyring (default: those that are published beside the image)")
	f.BoolVar(&c.unsigned, "insecure-unsigned", false, "believe the provenance, whoever wrote it (insecure)")
	c.accept.register(f)
	c.from.register(f)
	return cmd
}

func (c *rebuildCmd) run(ctx context.Context) error {
	p, err := c.published(ctx)
	if err != nil {
		return err
	}
	claim, err := rebuild.ParseClaim(p.provenance)
	if err != nil {
		return coded(exitPolicy, err)
	}
	if err := os.MkdirAll(c.cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(c.cache, "rebuild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	report, err := c.compare(ctx, p, claim, tmp)
	if err != nil {
		return inputCode(err)
	}
	return c.print(p, claim, report)
}

// sourceOf is the artifact that a release publishes beside an image, so that the
// image's reference is all that a rebuild takes.
func sourceOf(spec *build.Spec, lock *build.Lock, subject v1.Descriptor) (oci.Attachment, error) {
	source, err := rebuild.NewSource(spec, lock)
	if err != nil {
		return oci.Attachment{}, inputCode(err)
	}
	img, err := source.Image(subject, lock.Created)
	return oci.Attachment{Subject: subject.Digest, Image: img}, err
}

// byThisProgram adds to a record which imgctl made it, where that is known: who
// cannot rebuild with his own is told which one to use.
func byThisProgram(r attest.Record) attest.Record {
	if v := readVersion().Version; v != develVersion {
		r.Version = v
	}
	return r
}

// published is what is to be rebuilt.
type published struct {
	repo       *oci.Repository
	sources    []*oci.Repository // where what belongs to it may be, repo first
	digest     v1.Hash
	index      v1.ImageIndex
	provenance []byte
	signers    []string
}

// published finds the image, and the provenance that the policy accepts.
func (c *rebuildCmd) published(ctx context.Context) (*published, error) {
	reg := c.registries()
	if c.unsigned {
		return c.believed(ctx, reg)
	}
	in, err := c.inspect(ctx, reg, c.accept, c.ref)
	if err != nil {
		return nil, err
	}
	if in.Err != nil {
		return nil, hint(in.Err, "imgctl verify %s shows what each source says", c.ref)
	}
	p := &published{sources: in.Verified.Sources(), digest: in.Verified.Digest(), signers: in.Report.Signers}
	asked := func(r *oci.Repository) bool { return r.String() == in.Verified.Repository() }
	if i := slices.IndexFunc(p.sources, asked); i > 0 { // the user's own question first
		p.sources[0], p.sources[i] = p.sources[i], p.sources[0]
	}
	p.repo = p.sources[0]
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	for _, a := range in.Verified.Attestations(p.digest) {
		if a.PredicateType == attest.PredicateProvenance {
			p.provenance = a.Predicate
			return p, nil
		}
	}
	return nil, coded(exitPolicy, errors.New("no provenance that the policy's signers vouch for"))
}

// load reads the index.
func (p *published) load(ctx context.Context) error {
	t, err := p.repo.Load(ctx, p.digest)
	if err != nil {
		return err
	}
	index, ok := t.(v1.ImageIndex)
	if !ok {
		return usage(errors.New("it is no index: want the image's own tag, not that of one platform, since its index has the provenance"))
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	if manifest.ArtifactType != "" {
		return usage(fmt.Errorf("it is no image, but %.100q: only images are rebuilt", manifest.ArtifactType))
	}
	p.index = index
	return nil
}

// believed takes the first provenance that is attached, without any proof.
func (c *rebuildCmd) believed(ctx context.Context, reg *oci.Client) (*published, error) {
	repo, h, err := c.resolve(ctx, reg, c.ref)
	if err != nil {
		return nil, err
	}
	p := &published{repo: repo, sources: []*oci.Repository{repo}, digest: h, signers: []string{}}
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	refused := errors.New("nothing is attached that says so of itself")
	err = p.eachReferrer(ctx, repo, sign.BundleMediaType, func(m *v1.Manifest) (bool, error) {
		if m.Annotations[sign.PredicateTypeAnnotation] != attest.PredicateProvenance {
			return false, nil
		}
		bundle, err := repo.ReadBlob(ctx, m.Layers[0], maxProvenance)
		if err != nil {
			return false, err
		}
		p.provenance, refused = rebuild.UnsafePredicate(bundle, h)
		return refused == nil, nil
	})
	if err == nil && refused != nil {
		err = coded(exitPolicy, fmt.Errorf("no provenance: %w", refused))
	}
	return p, err
}

// maxProvenance bounds a bundle that is read unverified.
const maxProvenance = 16 << 20

// maxAttached bounds how many referrers are looked at.
const maxAttached = 256

// eachReferrer calls fn with what refers to the image and has the artifact type,
// until it is done.
func (p *published) eachReferrer(ctx context.Context, repo *oci.Repository, artifactType string, fn func(*v1.Manifest) (done bool, err error)) error {
	list, err := repo.Referrers(ctx, p.digest)
	if err != nil {
		return err
	}
	for _, d := range list[:min(len(list), maxAttached)] {
		m, err := repo.Manifest(ctx, d.Digest)
		if err != nil {
			return err
		}
		if m.IsIndex() {
			continue
		}
		image, err := m.Image()
		if err != nil || image.ArtifactType != artifactType || len(image.Layers) == 0 { // the list's own word is a hint at best
			continue
		}
		if done, err := fn(image); done || err != nil {
			return err
		}
	}
	return nil
}

// compare builds the image again, with all its files below tmp.
func (c *rebuildCmd) compare(ctx context.Context, p *published, claim *rebuild.Claim, tmp string) (*rebuild.Report, error) {
	dir := c.spec
	if dir == "" {
		dir = filepath.Join(tmp, "source")
		if err := p.fetchSource(ctx, claim, dir); err != nil {
			return nil, err
		}
	}
	spec, lock, err := rebuild.Load(dir, claim)
	if err != nil {
		return nil, err
	}
	if err := claim.CheckEngine(spec); err != nil {
		return nil, err
	}
	if c.spec == "" {
		if err := rebuild.Recover(dir, spec, lock, p.index); err != nil {
			return nil, err
		}
	}
	targets, err := build.Select(spec.Targets(lock), claim.Target.Version, claim.Target.Variant)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	in, _, err := c.fetchLocked(ctx, c.from, spec, lock, targets[:1])
	if err != nil {
		return nil, unavailable(err)
	}
	materials := &build.Materials{Upstream: in.upstream, Debian: in.debian, Cache: tmp} // not the cache: it may have the very layers that are in question
	builder := build.Builder{Engine: &build.Layers{Materials: materials, Jobs: c.jobs}}
	began := c.now()
	result, err := builder.Build(ctx, spec, lock, targets[0])
	if err != nil {
		return nil, unavailable(err)
	}
	c.printer().line("rebuild", "%s  in %s", result.Target.Tag(), tookText(c.now().Sub(began)))
	return rebuild.Compare(p.index, result.Index)
}

// fetchSource brings the artifact with the spec, which some source has, to dir.
func (p *published) fetchSource(ctx context.Context, claim *rebuild.Claim, dir string) error {
	var source *rebuild.Source
	var errs []error
	for _, repo := range p.sources {
		err := p.eachReferrer(ctx, repo, rebuild.SourceType, func(m *v1.Manifest) (bool, error) {
			s, err := rebuild.ReadSource(m, claim, func(d v1.Descriptor) ([]byte, error) { return repo.ReadBlob(ctx, d, d.Size) })
			if err != nil {
				errs = append(errs, err) // another one may be right
				return false, nil
			}
			source = s
			return true, nil
		})
		if err != nil {
			errs = append(errs, err)
		}
		if source != nil {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			return source.WriteTo(dir)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return hint(coded(exitNotFound, fmt.Errorf("no artifact of type %s beside the image", rebuild.SourceType)),
		"give the directory that it was built from: --spec DIR")
}

// unavailable marks an input that could not be had: an outage or an archive that
// has moved on, and no verdict about the image.
func unavailable(err error) error {
	var other *download.Mismatch
	if errors.As(err, &other) || !download.NotFound(err) && !download.Unreachable(err) {
		return err
	}
	return hint(coded(exitUnreachable, err), "nothing is said about the image: what it was made of cannot be had; --archive, --upstream and --snapshot name other places")
}

// inputCode gives an input that is another one its exit code.
func inputCode(err error) error {
	var input *rebuild.InputError
	if errors.As(err, &input) {
		return coded(exitMismatch, err)
	}
	return err
}

func (c *rebuildCmd) print(p *published, claim *rebuild.Claim, report *rebuild.Report) error {
	result := rebuiltImage{Header: header("Rebuild"), Reference: c.ref, Digest: p.digest.String(), Equal: report.Difference == nil,
		Signers: p.signers, Version: claim.Target.Version, Variant: claim.Target.Variant, Created: claim.Created,
		Inputs: claim.Inputs(), Report: report}
	switch {
	case c.output == "json":
		if err := printJSON(c.stdout, result); err != nil {
			return err
		}
	case c.output == "name" && result.Equal:
		fmt.Fprintf(c.stdout, "%s@%s\n", p.repo, p.digest)
	case c.output == "text":
		printRebuilt(c.stdout, result)
	}
	d := report.Difference
	if d == nil {
		return nil
	}
	err := fmt.Errorf("%s", oneLine(d.String()))
	if d.Served {
		err = coded(exitMismatch, err)
	} else {
		err = coded(exitDiffers, err)
	}
	return reported(err)
}

// printRebuilt prints every pair of digests. What differs first is the error's to say.
func printRebuilt(w io.Writer, r rebuiltImage) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "PART\tPUBLISHED\tREBUILT\t")
	row := func(part string, pair rebuild.Pair) {
		verdict := "equal"
		if !pair.Equal() {
			verdict = "differs"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", oneLine(part), orDash(shortDigest(pair.Published)), orDash(shortDigest(pair.Rebuilt)), verdict)
	}
	row("index", r.Index)
	for _, image := range r.Images {
		row(image.Platform+" manifest", image.Manifest)
		row(image.Platform+" config", image.Config)
		for i, layer := range image.Layers {
			row(fmt.Sprintf("%s layer %d", image.Platform, i+1), layer)
		}
	}
	t.Flush()
	if r.Equal {
		fmt.Fprintf(w, "\nEqual: the %d inputs that its provenance names give what was published.\n", r.Inputs)
	}
}
