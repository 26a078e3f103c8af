package cosign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// bundleMediaType is that of the oldest bundles: the only ones that may have an
// entry with a promise and without a proof, which is what this layout keeps.
const bundleMediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1"

// Bundle returns the layer as a bundle: of a message signature over the body of
// a simple-signing layer, or of the envelope in an attestation. The chain is left
// out; whom a certificate leads to is for the verifier's trust root to say.
func (l Layer) Bundle() (*protobundle.Bundle, error) {
	b := &protobundle.Bundle{MediaType: bundleMediaType, VerificationMaterial: &protobundle.VerificationMaterial{}}
	switch l.MediaType {
	case PayloadMediaType:
		signature, err := base64.StdEncoding.DecodeString(l.Annotations[SignatureAnnotation])
		if err != nil || len(signature) == 0 {
			return nil, fmt.Errorf("no base64 signature in annotation %s", SignatureAnnotation)
		}
		sum := sha256.Sum256(l.Body)
		b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     signature,
		}}
	case EnvelopeMediaType:
		e, err := l.dsse()
		if err != nil {
			return nil, err
		}
		b.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: e}
	default:
		return nil, fmt.Errorf("media type: got %q, want %s or %s", l.MediaType, PayloadMediaType, EnvelopeMediaType)
	}
	return b, l.prove(b.VerificationMaterial)
}

// prove reads the annotations that [Layer.annotate] writes.
func (l Layer) prove(m *protobundle.VerificationMaterial) error {
	m.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}}
	if text := l.Annotations[CertificateAnnotation]; text != "" {
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return fmt.Errorf("no PEM certificate in annotation %s", CertificateAnnotation)
		}
		m.Content = &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: block.Bytes}}
	}
	if text := l.Annotations[EntryAnnotation]; text != "" {
		e, err := parseEntry([]byte(text))
		if err != nil {
			return fmt.Errorf("annotation %s: %w", EntryAnnotation, err)
		}
		m.TlogEntries = []*protorekor.TransparencyLogEntry{e}
	}
	if text := l.Annotations[TimestampAnnotation]; text != "" && text != "null" {
		var t timestamp
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return fmt.Errorf("annotation %s: %w", TimestampAnnotation, err)
		}
		m.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: t.SignedRFC3161Timestamp}},
		}
	}
	return nil
}

func parseEntry(text []byte) (*protorekor.TransparencyLogEntry, error) {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, err
	}
	body, err := base64.StdEncoding.DecodeString(e.Payload.Body)
	if err != nil {
		return nil, errors.New("body: not base64")
	}
	id, err := hex.DecodeString(e.Payload.LogID)
	if err != nil {
		return nil, errors.New("logID: not hex")
	}
	k, err := kind(body)
	if err != nil {
		return nil, err
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          e.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		KindVersion:       k,
		IntegratedTime:    e.Payload.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: e.SignedEntryTimestamp},
		CanonicalizedBody: body,
	}, nil
}
