package sign

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// Attach signs that predicate holds for subject and returns the artifact that
// publishes it: an image whose one layer is the bundle and whose subject field
// refers to subject. The name is that of the statement's subject, e.g.
// "kubelet"; give every registry's copy the same, and it is one artifact. Created becomes the annotation
// org.opencontainers.image.created; give it the artifact's own time and not the
// clock's, or the digest changes with each run.
//
// A signature in the narrow sense, which says no more than "this is ours", has
// [attest.PredicateSignature] and the predicate "{}"; see [AttachSignature].
func Attach(ctx context.Context, s Signer, subject v1.Descriptor, name, predicateType string, predicate []byte, created time.Time) (v1.Image, error) {
	about := attest.Subject{Name: name, Digest: subject.Digest.String()}
	statement, err := attest.Statement(about, predicateType, predicate)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	bundle, err := s.SignStatement(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	return artifact.Artifact{
		ArtifactType: BundleMediaType,
		Layers:       []artifact.Content{{MediaType: BundleMediaType, Body: bundle}},
		Annotations: map[string]string{
			"dev.sigstore.bundle.content":      "dsse-envelope",
			PredicateTypeAnnotation:            predicateType,
			"org.opencontainers.image.created": created.UTC().Format(time.RFC3339),
		},
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}.Image()
}

// AttachSignature is [Attach] of a plain signature, as `cosign sign` makes it.
func AttachSignature(ctx context.Context, s Signer, subject v1.Descriptor, name string, created time.Time) (v1.Image, error) {
	return Attach(ctx, s, subject, name, attest.PredicateSignature, []byte("{}"), created)
}
