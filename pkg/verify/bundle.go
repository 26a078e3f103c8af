package verify

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/imgctl/imgctl/pkg/oci"
)

// readBundle fetches a referrer and says whether it is a bundle that counts.
func (c *collector) readBundle(ctx context.Context, source *oci.Repository, p *part, d v1.Descriptor) finding {
	what := "bundle " + d.Digest.String() + " at " + source.String()
	m, err := source.Manifest(ctx, d.Digest)
	if err != nil {
		return c.failed(source, what, err)
	}
	layer, err := bundleLayer(m)
	if err != nil {
		return finding{what: what, answer: bad, reason: Malformed, err: err}
	}
	if layer == nil {
		return finding{} // some other artifact
	}
	doc, err := c.readAll(ctx, source, *layer, maxBundle)
	if err != nil {
		return c.failed(source, what, err)
	}
	f := c.checkBundle(doc, p.digest())
	f.what = what
	return f
}

// bundleLayer returns the layer that is a bundle, or nil when there is none.
func bundleLayer(m *oci.Manifest) (*v1.Descriptor, error) {
	if m.IsIndex() {
		return nil, nil
	}
	image, err := m.Image()
	if err != nil {
		return nil, err
	}
	for i, l := range image.Layers {
		if strings.HasPrefix(string(l.MediaType), bundleMediaTypePrefix) {
			return &image.Layers[i], nil
		}
	}
	return nil, nil
}

// checkBundle says whether the bundle is a statement about h by a signer that counts.
func (c *collector) checkBundle(doc []byte, h v1.Hash) finding {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(doc); err != nil {
		return finding{answer: bad, reason: Malformed, err: fmt.Errorf("parse bundle: %w", oneLine(err))}
	}
	return c.checkEnvelope(&b, h)
}

// checkEnvelope is [collector.checkBundle] of a bundle that was parsed.
func (c *collector) checkEnvelope(b *bundle.Bundle, h v1.Hash) finding {
	// 1. One signed in-toto statement.
	e := b.GetDsseEnvelope()
	switch {
	case e == nil:
		return finding{answer: bad, reason: Malformed, err: errors.New("it holds no DSSE envelope")}
	case e.GetPayloadType() != statementMediaType:
		return finding{answer: bad, reason: Malformed, err: fmt.Errorf("payload type: got %q, want %s", printable(e.GetPayloadType()), statementMediaType)}
	case len(e.GetSignatures()) != 1:
		return finding{answer: bad, reason: Malformed, err: fmt.Errorf("got %d signatures, want one", len(e.GetSignatures()))}
	}

	// 2. By a signer of the rule, and all that sigstore asks of a bundle beyond
	// that; the subject's digest among it.
	digest, err := hex.DecodeString(h.Hex)
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: err}
	}
	by, err := c.signer(b, preAuthEncoding(e), e.GetSignatures()[0].GetSig(), sigstore.WithArtifactDigest(h.Algorithm, digest))
	if err != nil {
		return finding{answer: bad, reason: ofSigner(err), err: err}
	}

	// 3. A statement that we understand, about h.
	s, err := parseStatement(e.GetPayload(), h)
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: err}
	}
	return finding{answer: good, by: by, predicateType: s.PredicateType, predicate: s.Predicate, provenance: s.provenance()}
}

// signer returns who of the rule made the signature over the message, whatever
// the bundle's hint says: it is not signed.
func (c *collector) signer(b *bundle.Bundle, message, signature []byte, about sigstore.ArtifactPolicyOption) (signer, error) {
	if b.GetVerificationMaterial().GetPublicKey() == nil {
		t, err := c.identity(b, about)
		if err != nil {
			return signer{}, err
		}
		return signer{t.subject, t.id}, nil
	}
	for _, k := range c.rule.keys {
		if !k.verifyPayload(message, signature) {
			continue
		}
		if err := k.valid(c.now); err != nil {
			return signer{}, err
		}
		return signer{k.name, k.fingerprint}, k.verify(b, about)
	}
	return signer{}, errors.New("not signed with a key of the policy")
}

// ofSigner is the reason of an error of [collector.signer].
func ofSigner(err error) Reason {
	var window *windowError
	if errors.As(err, &window) {
		return Expired
	}
	return WrongSigner
}

// preAuthEncoding is what a DSSE signature is over
// (https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md).
func preAuthEncoding(e *protodsse.Envelope) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.GetPayloadType()), e.GetPayloadType(), len(e.GetPayload()), e.GetPayload())
}

// statement is the part of an in-toto statement that is looked at.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	Predicate json.RawMessage `json:"predicate"`
}

func parseStatement(payload []byte, h v1.Hash) (*statement, error) {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if s.Type != statementType && s.Type != statementTypeV01 {
		return nil, fmt.Errorf("statement type: got %q, want %s", printable(s.Type), statementType)
	}
	if s.PredicateType == "" {
		return nil, errors.New("the statement has no predicate type")
	}
	for _, subject := range s.Subject {
		if subject.Digest[h.Algorithm] == h.Hex {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("the statement is not about %s", h)
}

// oneLine keeps the message of a library, which may quote the stranger's text,
// short and printable.
func oneLine(err error) error { return errors.New(printable(err.Error())) }
