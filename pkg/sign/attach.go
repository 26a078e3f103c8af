package sign

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// Attestation is something that a signer says about a manifest.
type Attestation struct {
	Subject       v1.Descriptor
	PredicateType string    // [attest.PredicateSignature]: no more than "this is ours"
	Created       time.Time // annotation of the artifact
	Signed        *Signed
}

// Attest signs that predicate holds for subject. The name is that of the
// statement's subject, e.g. "kubelet"; give every registry's copy the same, and
// it is one artifact. Created becomes an annotation; give it the artifact's own
// time and not the clock's, or the digest changes with each run.
func Attest(ctx context.Context, s Signer, subject v1.Descriptor, name, predicateType string, predicate []byte, created time.Time) (*Attestation, error) {
	about := attest.Subject{Name: name, Digest: subject.Digest.String()}
	statement, err := attest.Statement(about, predicateType, predicate)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	signed, err := s.Sign(ctx, Statement(statement))
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	return &Attestation{subject, predicateType, created, signed}, nil
}

// Image is the artifact that publishes the attestation: its one layer is the
// bundle, and its subject field refers to what it is about.
func (a *Attestation) Image() (v1.Image, error) {
	return artifact.Artifact{
		ArtifactType: BundleMediaType,
		Layers:       []artifact.Content{{MediaType: BundleMediaType, Body: a.Signed.Bundle}},
		Annotations: map[string]string{
			"dev.sigstore.bundle.content":      "dsse-envelope",
			PredicateTypeAnnotation:            a.PredicateType,
			"org.opencontainers.image.created": a.Created.UTC().Format(time.RFC3339),
		},
		Subject: &v1.Descriptor{MediaType: a.Subject.MediaType, Digest: a.Subject.Digest, Size: a.Subject.Size},
	}.Image()
}
