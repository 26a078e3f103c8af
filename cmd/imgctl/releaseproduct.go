package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

// product is one artifact of a release, complete before its first byte leaves.
type product struct {
	name        string
	version     string       // of Kubernetes
	target      build.Target // of an image
	subject     oci.Taggable
	digest      v1.Hash
	parts       map[string]v1.Hash // of an index, by platform or kind of machine
	attachments []oci.Attachment
	attested    []*sign.Attestation // what also goes under legacy tags
	tags        map[v1.Hash][]string
	to          []oci.Destination // every product of a release has as many, in the same order
	receipts    []oci.Receipt
}

// consignment is what goes to the product's destinations.
func (pr *product) consignment(r *release, overwrite string, now func() time.Time) oci.Consignment {
	return oci.Consignment{To: pr.to, Release: oci.Release{
		Subject:     pr.subject,
		Attachments: pr.attachments,
		Signatures:  pr.signatures(r.signers, r.formats),
		Check:       pr.check(r.policy, now),
		Tags:        pr.tags[pr.digest],
		PartTags:    pr.partTags(),
		Overwrite:   overwrite,
	}}
}

// partTags are the tags of parts that have one.
func (pr *product) partTags() map[v1.Hash][]string {
	tags := make(map[v1.Hash][]string)
	for _, h := range pr.parts {
		if len(pr.tags[h]) > 0 {
			tags[h] = pr.tags[h]
		}
	}
	return tags
}

// digests lists what is signed: the subject and, of an index, each child.
func (pr *product) digests() []v1.Hash {
	return append([]v1.Hash{pr.digest}, sortedValues(pr.parts)...)
}

// makeImages fetches, builds and signs the images of the release, side by side.
func (c *releaseCmd) makeImages(ctx context.Context, r *release, p *printer) ([]*product, error) {
	in, _, err := c.fetchLocked(ctx, c.from, r.spec, r.lock, r.targets)
	if err != nil {
		return nil, err
	}
	if err := c.applyEpoch(r.lock); err != nil {
		return nil, err
	}
	engine := c.layers(in)
	images := make([]*product, len(r.targets))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.jobs)
	for i, t := range r.targets {
		g.Go(func() (err error) {
			images[i], err = c.makeImage(ctx, r, engine, t, p)
			return err
		})
	}
	return images, g.Wait()
}

// makeImage builds and signs one image.
func (c *releaseCmd) makeImage(ctx context.Context, r *release, engine build.Engine, t build.Target, p *printer) (*product, error) {
	result, err := c.buildImage(ctx, engine, r.spec, r.lock, t, p)
	if err != nil {
		return nil, err
	}
	pr, err := imageProduct(r, result)
	if err != nil {
		return nil, err
	}
	return pr, pr.attestImage(ctx, r, result)
}

func imageProduct(r *release, result *build.Result) (*product, error) {
	digest, err := result.Index.Digest()
	if err != nil {
		return nil, err
	}
	pr := &product{
		name: imageName(r.spec), version: result.Target.Version, target: result.Target, subject: result.Index, digest: digest,
		parts: map[string]v1.Hash{}, to: r.to,
	}
	manifest, err := result.Index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var arches []string
	for _, d := range manifest.Manifests {
		pr.parts[d.Platform.OS+"/"+d.Platform.Architecture] = d.Digest
		arches = append(arches, d.Platform.Architecture)
	}
	index, byArch := tagsFor(r.file.Tags, pr.target, arches)
	pr.tags = map[v1.Hash][]string{digest: index}
	for platform, h := range pr.parts {
		pr.tags[h] = byArch[strings.TrimPrefix(platform, "linux/")]
	}
	return pr, nil
}

// attestImage signs the index and each child, says what is in each child, and
// how the index was made.
func (pr *product) attestImage(ctx context.Context, r *release, result *build.Result) error {
	name, created := primary(pr.to), r.lock.Created
	manifest, err := result.Index.IndexManifest()
	if err != nil {
		return err
	}
	var claims []claim
	for _, d := range manifest.Manifests {
		record := result.Records[d.Platform.OS+"/"+d.Platform.Architecture]
		sbom, err := attest.SPDX(attest.Subject{Name: name, Digest: d.Digest.String()}, record)
		if err != nil {
			return err
		}
		claims = append(claims, plain(d), claim{d, attest.PredicateSPDX, sbom})
	}
	provenance, err := attest.Provenance(byThisProgram(result.Record))
	if err != nil {
		return err
	}
	subject, err := describe(result.Index)
	if err != nil {
		return err
	}
	source, err := sourceOf(r.spec, r.lock, subject)
	if err != nil {
		return err
	}
	pr.attachments = append(pr.attachments, source)
	return pr.sign(ctx, r.signers, r.formats, name, created, append(claims, plain(subject), claim{subject, attest.PredicateProvenance, provenance}))
}

// claim is what is to be said of a manifest.
type claim struct {
	subject       v1.Descriptor
	predicateType string
	predicate     []byte
}

// plain is the claim of a plain signature, as `cosign sign` makes it.
func plain(d v1.Descriptor) claim { return claim{d, attest.PredicateSignature, []byte("{}")} }

// atOnce is how many signatures are made at the same time: a log or a key service
// takes its time for each, and little of ours.
const atOnce = 8

// sign makes every claim by each signer. In the older layout there is a plain
// signature for each repository instead, made when its name is known.
func (pr *product) sign(ctx context.Context, signers []sign.Signer, formats signFormats, name string, created time.Time, claims []claim) error {
	signed := make([]*sign.Attestation, len(claims)*len(signers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, c := range claims {
		if c.predicateType == attest.PredicateSignature && !formats.bundle {
			continue
		}
		for j, s := range signers {
			g.Go(func() (err error) {
				signed[i*len(signers)+j], err = sign.Attest(gctx, s, c.subject, name, c.predicateType, c.predicate, created)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, a := range signed {
		if a == nil {
			continue
		}
		if err := pr.vouch(formats, a); err != nil {
			return err
		}
	}
	return nil
}

// vouch adds what was signed, in the layouts that are wanted.
func (pr *product) vouch(formats signFormats, a *sign.Attestation) error {
	if formats.legacy && a.PredicateType != attest.PredicateSignature {
		pr.attested = append(pr.attested, a)
	}
	if !formats.bundle {
		return nil
	}
	img, err := a.Image()
	if err != nil {
		return err
	}
	pr.attachments = append(pr.attachments, oci.Attachment{Subject: a.Subject.Digest, Image: img})
	return nil
}

// signatures makes the images for the legacy tags at one destination.
func (pr *product) signatures(signers []sign.Signer, formats signFormats) func(context.Context, string) (map[string]v1.Image, error) {
	if !formats.legacy {
		return nil
	}
	return func(ctx context.Context, repository string) (map[string]v1.Image, error) {
		images := map[string]v1.Image{}
		about := map[v1.Hash][]*sign.Attestation{}
		for _, a := range pr.attested {
			about[a.Subject.Digest] = append(about[a.Subject.Digest], a)
		}
		for h, list := range about {
			img, err := sign.LegacyAttestations(list...)
			if err != nil {
				return nil, err
			}
			images[sign.LegacyAttestationTag(h)] = img
		}
		if strings.HasPrefix(repository, "oci:") {
			repository = primary(pr.to) // a directory has no name to sign for
		}
		if strings.HasPrefix(repository, "oci:") {
			return images, nil
		}
		plain, err := legacySignatures(ctx, repository, pr.digests(), signers)
		maps.Copy(images, plain)
		return images, err
	}
}

// legacySignatures makes the plain signatures for one repository, by tag.
func legacySignatures(ctx context.Context, repository string, digests []v1.Hash, signers []sign.Signer) (map[string]v1.Image, error) {
	signed := make([]v1.Image, len(digests))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, h := range digests {
		g.Go(func() (err error) {
			signed[i], err = sign.Legacy(gctx, repository, h, signers...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	images := make(map[string]v1.Image)
	for i, h := range digests {
		images[sign.LegacyTag(h)] = signed[i]
	}
	return images, nil
}

// check reads the product back from one destination and applies the policy of its users.
func (pr *product) check(policy *verify.Policy, now func() time.Time) func(context.Context, *oci.Repository, v1.Hash) error {
	return readBack(&verify.Verifier{Policy: policy, Now: now}, func(repository string) string {
		if strings.HasPrefix(repository, "oci:") {
			return primary(pr.to)
		}
		return repository
	})
}

// readBack verifies what one repository holds, with nothing from another. nameOf
// says under which name the policy knows the repository.
func readBack(v *verify.Verifier, nameOf func(repository string) string) func(context.Context, *oci.Repository, v1.Hash) error {
	return func(ctx context.Context, from *oci.Repository, h v1.Hash) error {
		_, err := v.VerifyContent(ctx, verify.Subject{Repository: nameOf(from.String()), Digest: h}, from)
		return err
	}
}

// describe is the descriptor of what is published.
func describe(t oci.Taggable) (v1.Descriptor, error) {
	raw, err := t.RawManifest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("describe: %w", err)
	}
	m, err := oci.ParseManifest(raw, "")
	if err != nil {
		return v1.Descriptor{}, err
	}
	return m.Descriptor, nil
}
