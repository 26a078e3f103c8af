// Package cosign translates between sigstore bundles and the older layout of
// cosign: images under the tags sha256-<hex>.sig and sha256-<hex>.att whose
// layers carry what proves their signer in annotations.
//
// [Signature] and [Attestation] turn a bundle into such a layer, [Layer.Bundle]
// turns one back, so that there is one way to verify both. Neither direction
// verifies anything.
package cosign

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// Media types and annotations of the older layout, as cosign 2 writes them.
const (
	PayloadMediaType  = "application/vnd.dev.cosign.simplesigning.v1+json" // layer of .sig
	EnvelopeMediaType = "application/vnd.dsse.envelope.v1+json"            // layer of .att

	SignatureAnnotation     = "dev.cosignproject.cosign/signature" // base64; empty on an attestation
	CertificateAnnotation   = "dev.sigstore.cosign/certificate"    // PEM
	ChainAnnotation         = "dev.sigstore.cosign/chain"          // PEM, the root last
	EntryAnnotation         = "dev.sigstore.cosign/bundle"         // entry of Rekor v1
	TimestampAnnotation     = "dev.sigstore.cosign/rfc3161timestamp"
	PredicateTypeAnnotation = "predicateType"

	// StatementMediaType is the payload type of an envelope around a statement.
	StatementMediaType = "application/vnd.in-toto+json"
)

// Layer is one signature or attestation in the older layout.
type Layer struct {
	MediaType   string
	Annotations map[string]string
	Body        []byte
}

// entry is what cosign calls a Rekor bundle: the log's promise to include an entry.
type entry struct {
	SignedEntryTimestamp []byte
	Payload              struct {
		Body           string `json:"body"` // base64
		IntegratedTime int64  `json:"integratedTime"`
		LogIndex       int64  `json:"logIndex"`
		LogID          string `json:"logID"` // hex
	}
}

// timestamp is how cosign wraps a timestamp of RFC 3161.
type timestamp struct{ SignedRFC3161Timestamp []byte }

// envelope is a DSSE envelope in JSON.
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     []byte              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Signature is the layer for a bundle around a simple-signing payload. The chain
// is PEM, from the certificate's issuer to its root; nil where a key signed.
func Signature(b *protobundle.Bundle, payload, chain []byte) (Layer, error) {
	signature := b.GetMessageSignature().GetSignature()
	if len(signature) == 0 {
		return Layer{}, errors.New("the bundle holds no signature of a message")
	}
	l := Layer{MediaType: PayloadMediaType, Annotations: map[string]string{}, Body: payload}
	l.Annotations[SignatureAnnotation] = base64.StdEncoding.EncodeToString(signature)
	return l, l.annotate(b, chain)
}

// Attestation is the layer for a bundle around a statement with the predicate type.
func Attestation(b *protobundle.Bundle, predicateType string, chain []byte) (Layer, error) {
	if b.GetDsseEnvelope() == nil {
		return Layer{}, errors.New("the bundle holds no DSSE envelope")
	}
	body, err := Envelope(b.GetDsseEnvelope())
	if err != nil {
		return Layer{}, err
	}
	l := Layer{MediaType: EnvelopeMediaType, Annotations: map[string]string{SignatureAnnotation: "", PredicateTypeAnnotation: predicateType}, Body: body}
	if err := l.annotate(b, chain); err != nil {
		return Layer{}, err
	}
	// In this layout a timestamp is over the whole envelope, in a bundle over its
	// signature only: one cannot stand for the other.
	delete(l.Annotations, TimestampAnnotation)
	return l, nil
}

// Envelope writes an envelope as JSON: what a layer of .att holds. A log must be
// told these very bytes, since cosign compares their hash with that in the entry.
func Envelope(dsse *protodsse.Envelope) ([]byte, error) {
	e := envelope{PayloadType: dsse.GetPayloadType(), Payload: dsse.GetPayload()}
	for _, s := range dsse.GetSignatures() {
		e.Signatures = append(e.Signatures, envelopeSignature{s.GetKeyid(), s.GetSig()})
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	return body, nil
}

// annotate adds what proves the signer. An entry of Rekor v2 has no promise and
// so no place in this layout; there, only a timestamp proves the time.
func (l Layer) annotate(b *protobundle.Bundle, chain []byte) error {
	m := b.GetVerificationMaterial()
	if cert := m.GetCertificate().GetRawBytes(); len(cert) > 0 {
		l.Annotations[CertificateAnnotation] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	}
	if len(chain) > 0 {
		l.Annotations[ChainAnnotation] = string(chain)
	}
	for _, e := range m.GetTlogEntries() {
		set := e.GetInclusionPromise().GetSignedEntryTimestamp()
		if len(set) == 0 {
			continue
		}
		promise := entry{SignedEntryTimestamp: set}
		promise.Payload.Body = base64.StdEncoding.EncodeToString(e.GetCanonicalizedBody())
		promise.Payload.IntegratedTime = e.GetIntegratedTime()
		promise.Payload.LogIndex = e.GetLogIndex()
		promise.Payload.LogID = hex.EncodeToString(e.GetLogId().GetKeyId())
		if err := l.set(EntryAnnotation, promise); err != nil {
			return err
		}
		break // the layout has room for one
	}
	for _, t := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		return l.set(TimestampAnnotation, timestamp{t.GetSignedTimestamp()})
	}
	return nil
}

func (l Layer) set(annotation string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("annotation %s: %w", annotation, err)
	}
	l.Annotations[annotation] = string(text)
	return nil
}

// dsse parses the body of an attestation.
func (l Layer) dsse() (*protodsse.Envelope, error) {
	var e envelope
	if err := json.Unmarshal(l.Body, &e); err != nil {
		return nil, fmt.Errorf("parse envelope: %w", err)
	}
	out := &protodsse.Envelope{PayloadType: e.PayloadType, Payload: e.Payload}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, &protodsse.Signature{Keyid: s.KeyID, Sig: s.Sig})
	}
	return out, nil
}

// kind reads which kind of entry the canonical body is.
func kind(body []byte) (*protorekor.KindVersion, error) {
	var k struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(body, &k); err != nil {
		return nil, fmt.Errorf("parse log entry: %w", err)
	}
	return &protorekor.KindVersion{Kind: k.Kind, Version: k.APIVersion}, nil
}
