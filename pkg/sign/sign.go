// Package sign vouches for what imgctl publishes, with a key file.
//
// [GenerateKey] and [LoadKey] read and write the encrypted key files of cosign.
// A [Signer] signs in-toto statements and simple-signing payloads; [Attach] and
// [Legacy] wrap the result as what a registry stores beside the signed artifact:
//
//   - [Attach]: a sigstore bundle v0.3 that refers to the artifact by its
//     subject field, as cosign 3 writes and reads it;
//   - [Legacy]: the image under the tag sha256-<hex>.sig, which cosign 2, podman
//     and skopeo read as well.
//
// Signing is deterministic: the same key and the same content give the same
// bytes (RFC 6979 nonces, JSON without the library's random white space). So a
// release that is run again finds its signatures already in the registry.
//
// Nothing here touches the network, and signatures are not entered in a
// transparency log.
package sign

import "context"

// Media types and predicate types that signatures have in a registry.
const (
	// BundleMediaType is the artifact type and layer media type of a sigstore bundle.
	BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// PayloadMediaType is the layer media type of a legacy signature.
	PayloadMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	// SignatureAnnotation carries the base64 signature on the layer of a legacy signature.
	SignatureAnnotation = "dev.cosignproject.cosign/signature"
	// PredicateTypeAnnotation says on the manifest what the bundle's statement is about.
	PredicateTypeAnnotation = "dev.sigstore.bundle.predicateType"

	statementMediaType = "application/vnd.in-toto+json" // DSSE payload type
)

// Signer makes signatures with one identity. Implementations are deterministic
// and safe for concurrent use.
type Signer interface {
	// SignStatement returns a sigstore bundle v0.3, as JSON, around the in-toto statement.
	SignStatement(ctx context.Context, statement []byte) (bundle []byte, err error)
	// SignPayload returns the signature over the payload: ASN.1 DER over its SHA-256 digest.
	SignPayload(ctx context.Context, payload []byte) (signature []byte, err error)
}
