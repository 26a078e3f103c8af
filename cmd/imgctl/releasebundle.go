package main

import (
	"context"
	"errors"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/bundle"
)

// makeBundle renders a bundle that is pinned to the image, and signs it.
func makeBundle(ctx context.Context, r *release, config *bundle.Config, image *product) (*product, error) {
	pinned := primary(image.to) + "@" + image.digest.String()
	if strings.HasPrefix(pinned, "oci:") {
		return nil, hint(usage(errors.New("a bundle needs an image that nodes can pull: every destination is a directory")),
			"add a repository on a registry to destinations, or leave bundles out")
	}
	created := r.lock.Created
	pr, err := packBundle(config, pinned, created)
	if err != nil {
		return nil, err
	}
	for _, d := range image.to {
		pr.to = append(pr.to, bundleDestination(d))
	}
	provenance, err := attest.Provenance(bundleRecord(config, image, created))
	if err != nil {
		return nil, err
	}
	claims, err := bundleClaims(pr)
	if err != nil {
		return nil, err
	}
	claims = append(claims, claim{claims[0].subject, attest.PredicateProvenance, provenance})
	return pr, pr.sign(ctx, r.signers, r.formats, primary(pr.to), created, claims)
}

// packBundle renders a bundle for every kind of machine, and makes one artifact
// of it. The kubelet is what it is pinned to, or "" when the lock says so.
func packBundle(config *bundle.Config, kubelet string, created time.Time) (*product, error) {
	lock, err := bundle.LoadLock(config)
	if err != nil {
		return nil, err
	}
	trees, err := bundle.RenderAll(config, config.Pin(kubelet, lock))
	if err != nil {
		return nil, err
	}
	packed, err := bundle.Pack(trees, created)
	if err != nil {
		return nil, err
	}
	digest, err := packed.Index.Digest()
	if err != nil {
		return nil, err
	}
	pr := &product{
		name: config.Name, version: config.Kubernetes, subject: packed.Index, digest: digest,
		parts: map[string]v1.Hash{}, tags: map[v1.Hash][]string{digest: {packed.Tag}},
	}
	for _, p := range packed.Parts {
		pr.parts[p.Name], pr.tags[p.Digest] = p.Digest, []string{packed.TagOf(p)}
	}
	return pr, nil
}

// bundleClaims are the plain signatures of a bundle: of its index first, then of
// each manifest in it.
func bundleClaims(pr *product) ([]claim, error) {
	subject, err := describe(pr.subject)
	if err != nil {
		return nil, err
	}
	manifest, err := pr.subject.(v1.ImageIndex).IndexManifest()
	if err != nil {
		return nil, err
	}
	claims := []claim{plain(subject)}
	for _, d := range manifest.Manifests {
		claims = append(claims, plain(d))
	}
	return claims, nil
}

// bundleRecord says what a bundle was made of: the spec and the pinned image.
func bundleRecord(config *bundle.Config, image *product, created time.Time) attest.Record {
	return attest.Record{
		Builder:    build.BuilderID,
		Created:    created,
		Parameters: map[string]any{"bundle": config.Name, "version": image.version},
		Materials: []attest.Material{{
			Name: image.name, Version: image.version, Type: attest.TypeFile,
			URI:     "pkg:oci/" + image.name,
			Digests: map[string]string{image.digest.Algorithm: image.digest.Hex},
		}},
	}
}
