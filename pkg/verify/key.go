package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// trustedKey is a public key with the time in which it counts.
type trustedKey struct {
	name        string // as the policy writes it
	public      *ecdsa.PublicKey
	fingerprint string // hex SHA-256 of the SubjectPublicKeyInfo; what makes two keys one
	notBefore   time.Time
	notAfter    time.Time
	material    root.TrustedMaterial // the same key, for sigstore-go
}

// parseKey parses the PEM file of an ECDSA P-256 public key: what `imgctl keygen`
// and `cosign generate-key-pair` write.
func parseKey(name string, file []byte) (*trustedKey, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return nil, fmt.Errorf("no PEM block in %d bytes, want PUBLIC KEY", len(file))
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("a private key, want its public half")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("got PEM type %q, want PUBLIC KEY", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more text follows the key, want one PEM block")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("got %T, want ECDSA P-256", parsed)
	}
	// Hashed anew and not from the file: a key that is encoded in two ways is one key.
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	sum := sha256.Sum256(der)
	k := &trustedKey{name: name, public: public, fingerprint: hex.EncodeToString(sum[:])}
	verifier, err := signature.LoadECDSAVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	// The time is checked in valid; a bundle without a timestamp proves none.
	always := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	k.material = root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return always, nil })
	return k, nil
}

// valid returns nil when the key counts at the time, and else says what the
// window is and what the clock says: it may be the clock that is wrong.
func (k *trustedKey) valid(now time.Time) error {
	clock := now.UTC().Format(time.RFC3339)
	if !k.notBefore.IsZero() && now.Before(k.notBefore) {
		return &windowError{fmt.Sprintf("signed with %s, which counts from %s only (this machine's clock says %s)", k.name, k.notBefore.UTC().Format(time.RFC3339), clock)}
	}
	if !k.notAfter.IsZero() && now.After(k.notAfter) {
		return &windowError{fmt.Sprintf("signed with %s, which counted until %s only (this machine's clock says %s)", k.name, k.notAfter.UTC().Format(time.RFC3339), clock)}
	}
	return nil
}

// windowError is a good signature by a key of the policy at a time when it does
// not count.
type windowError struct{ text string }

func (e *windowError) Error() string { return e.text }

// verify runs the verification of sigstore-go with the one key. The time is not
// its business: nobody attests when a key without a log signed.
func (k *trustedKey) verify(b *bundle.Bundle, about sigstore.ArtifactPolicyOption) error {
	v, err := sigstore.NewVerifier(k.material, sigstore.WithNoObserverTimestamps(), sigstore.WithoutStatementPredicate())
	if err != nil {
		return err
	}
	if _, err := v.Verify(b, sigstore.NewPolicy(about, sigstore.WithKey())); err != nil {
		return oneLine(err)
	}
	return nil
}

// verifyPayload reports whether the signature, ASN.1 DER, is the key's over the payload.
func (k *trustedKey) verifyPayload(payload, sig []byte) bool {
	sum := sha256.Sum256(payload)
	return ecdsa.VerifyASN1(k.public, sum[:], sig)
}
