// Package sign vouches for what imgctl publishes.
//
// A [Signer] signs in-toto statements and simple-signing payloads with one
// identity: [Key] with a key file, [OpenKMS] with a key that a service keeps,
// [OpenPKCS11] with one on a token, [Keyless] with a certificate that a Fulcio
// issues for an OIDC identity.
// [Attest] and [Legacy] wrap the result as what a registry stores beside the
// signed artifact:
//
//   - [Attestation.Image]: a sigstore bundle v0.3 that refers to the artifact by
//     its subject field, as cosign 3 writes and reads it;
//   - [Legacy] and [LegacyAttestations]: the images under the tags
//     sha256-<hex>.sig and .att, which cosign 2, podman and skopeo read as well.
//
// A key file signs deterministically: the same content gives the same bytes (RFC
// 6979 nonces, JSON without the library's random white space). So a release that
// is run again finds its signatures already in the registry. The others do not;
// for them [Keep] looks in the registry first, verifies what is there, and signs
// only what is missing.
//
// The network is that of the http.Client in [Services]. Answers are bounded,
// requests are repeated when a service is busy, and no token gets into an error.
package sign

import (
	"context"

	sigstore "github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/imgctl/imgctl/internal/cosign"
)

// Media types and annotations that signatures have in a registry.
const (
	// BundleMediaType is the artifact type and layer media type of a sigstore bundle.
	BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// PayloadMediaType is the layer media type of a legacy signature.
	PayloadMediaType = cosign.PayloadMediaType
	// EnvelopeMediaType is the layer media type of a legacy attestation.
	EnvelopeMediaType = cosign.EnvelopeMediaType
	// SignatureAnnotation carries the base64 signature on the layer of a legacy signature.
	SignatureAnnotation = cosign.SignatureAnnotation
	// CertificateAnnotation carries the certificate of a keyless legacy signature.
	CertificateAnnotation = cosign.CertificateAnnotation
	// EntryAnnotation carries the promise of Rekor v1 to log a legacy signature.
	EntryAnnotation = cosign.EntryAnnotation
	// TimestampAnnotation carries the RFC 3161 timestamp of a legacy signature.
	TimestampAnnotation = cosign.TimestampAnnotation
	// PredicateTypeAnnotation says on the manifest what the bundle's statement is about.
	PredicateTypeAnnotation = "dev.sigstore.bundle.predicateType"
)

// Signer makes signatures with one identity. Implementations are safe for
// concurrent use.
type Signer interface {
	// Sign signs the content.
	Sign(ctx context.Context, c Content) (*Signed, error)
	// String names the identity for people; it shows nothing private.
	String() string
}

// Signed is a signature with what proves whose it is.
type Signed struct {
	Bundle []byte // sigstore bundle, JSON
	Chain  []byte // PEM: from the issuer of the certificate in it to the root; nil for a key
}

// Content is what is signed: a [Statement] or a [Payload].
type Content interface{ sigstore() sigstore.Content }

// Statement is an in-toto statement; it is signed in a DSSE envelope.
type Statement []byte

func (s Statement) sigstore() sigstore.Content {
	return &sigstore.DSSEData{Data: s, PayloadType: cosign.StatementMediaType}
}

// Payload is a simple-signing payload; it is signed as it is.
type Payload []byte

func (p Payload) sigstore() sigstore.Content { return &sigstore.PlainData{Data: p} }
