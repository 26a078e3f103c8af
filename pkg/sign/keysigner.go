package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// keySigner signs with a key of which somebody else may hold the private half,
// and tells logs about it.
type keySigner struct {
	name     string
	pair     keypair
	services Services
	trust    root.TrustedMaterial // the key, and the logs and timestamp authorities
}

// keyMaterial is a trust root with a key of ours in it.
type keyMaterial struct {
	root.TrustedMaterial
	key root.TimeConstrainedVerifier
}

// PublicKeyVerifier implements [root.TrustedMaterial].
func (m keyMaterial) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	return m.key, nil
}

// Logged returns a signer that signs with k and enters each signature in the
// logs of the services. Only their logs and timestamp authorities are used. What
// they give is verified against the trust root.
func Logged(k *Key, s Services, trust root.TrustedMaterial) (Recognizer, error) {
	if len(s.Logs) == 0 || trust == nil {
		return nil, errors.New("sign and log: want a log, and a trust root to verify its entries with")
	}
	return newKeySigner(k.String(), k.Public(), func(_ context.Context, digest []byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, k.private, digest) // not the same each time: a log takes a signature once
	}, s, trust)
}

func newKeySigner(name string, public *ecdsa.PublicKey, sign func(context.Context, []byte) ([]byte, error), s Services, trust root.TrustedMaterial) (*keySigner, error) {
	verifier, err := signature.LoadVerifier(public, verifierHash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if trust == nil {
		trust = &root.BaseTrustedMaterial{}
	}
	m := keyMaterial{trust, root.NewExpiringKey(verifier, noTime, noTime)}
	return &keySigner{name, keypair{public, sign}, s, m}, nil
}

// String implements [Signer].
func (k *keySigner) String() string { return k.name }

// Sign implements [Signer].
func (k *keySigner) Sign(ctx context.Context, c Content) (*Signed, error) {
	b, err := k.services.assemble(ctx, c, k.pair, nil)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k, err)
	}
	doc, err := encodeBundle(b)
	if err != nil {
		return nil, err
	}
	signed, err := k.Recognize(ctx, c, doc)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: what was signed does not verify: %w", k, err)
	}
	return signed, nil
}

// Recognize implements [Recognizer].
func (k *keySigner) Recognize(_ context.Context, c Content, doc []byte) (*Signed, error) {
	b, about, err := parseAbout(c, doc)
	if err != nil {
		return nil, err
	}
	v, err := k.verifier(k.services.entries(b))
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(b, verify.NewPolicy(about, verify.WithKey())); err != nil {
		return nil, errors.New(printable(err.Error()))
	}
	return &Signed{Bundle: doc}, nil
}

// verifier asks of a bundle that so many logs have it; a key needs no time.
func (k *keySigner) verifier(entries int) (*verify.Verifier, error) {
	options := []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if entries > 0 {
		options = []verify.VerifierOption{verify.WithTransparencyLog(entries), verify.WithObserverTimestamps(1)}
	}
	return verify.NewVerifier(k.trust, append(options, verify.WithoutStatementPredicate())...)
}
