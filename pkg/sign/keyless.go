package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Identity is for whom a certificate is, and who said so.
type Identity struct{ Subject, Issuer string }

// String is "SUBJECT (ISSUER)".
func (i Identity) String() string { return i.Subject + " (" + i.Issuer + ")" }

// Keyless signs with keys that live as long as the process, which a Fulcio
// certifies for an OIDC identity. It implements [Signer]. Its fields must not be
// changed after first use.
type Keyless struct {
	Token    TokenSource
	Services Services
	Trust    root.TrustedMaterial // what the services give must verify against it
	// Identity is whom the certificate must be for. The zero value means whoever
	// the token is for; it takes a certificate to find that out, even where
	// everything was signed before.
	Identity Identity

	mu      sync.Mutex
	current *credential
}

// String implements [Signer].
func (k *Keyless) String() string {
	if k.Identity != (Identity{}) {
		return "keyless " + k.Identity.String()
	}
	return "keyless " + k.Services.Fulcio
}

// Sign implements [Signer]. What the services have given is verified before it
// is returned: a signature that no reader would accept is an error now.
func (k *Keyless) Sign(ctx context.Context, c Content) (*Signed, error) {
	signed, err := k.sign(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k, err)
	}
	return signed, nil
}

func (k *Keyless) sign(ctx context.Context, c Content) (*Signed, error) {
	if k.Trust == nil || len(k.Services.Logs) == 0 {
		return nil, errors.New("want a transparency log, and a trust root to verify what the services give")
	}
	cred, err := k.credential(ctx)
	if err != nil {
		return nil, err
	}
	b, err := k.Services.assemble(ctx, c, cred.pair, cred)
	if err != nil {
		return nil, err
	}
	doc, err := encodeBundle(b)
	if err != nil {
		return nil, err
	}
	signed, err := k.Recognize(ctx, c, doc)
	if err != nil {
		return nil, fmt.Errorf("what the services gave does not verify against the trust root: %w", err)
	}
	return signed, nil
}

// assemble signs the content and has it certified, timestamped and logged. A log
// that has the signature already, of a try whose answer was lost, gets another.
func (s *Services) assemble(ctx context.Context, c Content, pair keypair, certify sigstore.CertificateProvider) (*protobundle.Bundle, error) {
	options := sigstore.BundleOptions{Context: ctx, CertificateProvider: certify}
	for _, l := range s.Logs {
		options.TransparencyLogs = append(options.TransparencyLogs, rekor{s, l})
	}
	for _, address := range s.Timestamps {
		t := sigstore.NewTimestampAuthority(&sigstore.TimestampAuthorityOptions{
			URL: address, Timeout: -1, Transport: roundTripper{ctx, s, "ask for a timestamp"},
		})
		options.TimestampAuthorities = append(options.TimestampAuthorities, t)
	}
	for try := 0; ; try++ {
		b, err := sigstore.Bundle(c.sigstore(), pair, options)
		if errors.Is(err, errLogged) && try < maxTries {
			continue
		}
		return b, err
	}
}

// credential returns the key and certificate of now.
func (k *Keyless) credential(ctx context.Context) (*credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil && k.Services.now().Before(k.current.until) {
		return k.current, nil
	}
	token, err := k.Token(ctx)
	if err != nil {
		return nil, err
	}
	c, err := newCredential(ctx, &k.Services, token)
	if err != nil {
		return nil, err
	}
	if want := k.Identity; want != (Identity{}) && c.owner != want {
		return nil, fmt.Errorf("certificate: it is for %s, want %s", printable(c.owner.String()), want)
	}
	k.current = c
	return c, nil
}

// unknownSelf says that a signer cannot be asked what is its own.
type unknownSelf struct{ error }

func (e *unknownSelf) Unwrap() error { return e.error }

// Recognize returns the bundle if it is one that this identity has made of the
// content, and an error that says why it is not.
func (k *Keyless) Recognize(ctx context.Context, c Content, doc []byte) (*Signed, error) {
	owner := k.Identity
	if owner == (Identity{}) {
		cred, err := k.credential(ctx)
		if err != nil {
			return nil, &unknownSelf{err}
		}
		owner = cred.owner
	}
	b, about, err := parseAbout(c, doc)
	if err != nil {
		return nil, err
	}
	options := []verify.VerifierOption{verify.WithoutStatementPredicate(), verify.WithObserverTimestamps(1)}
	if n := k.Services.entries(b); n > 0 {
		options = append(options, verify.WithTransparencyLog(n))
	}
	if len(k.Trust.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	v, err := verify.NewVerifier(k.Trust, options...)
	if err != nil {
		return nil, err
	}
	identity, err := verify.NewShortCertificateIdentity(owner.Issuer, "", owner.Subject, "")
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(b, verify.NewPolicy(about, verify.WithCertificateIdentity(identity))); err != nil {
		return nil, errors.New(printable(err.Error()))
	}
	content, err := b.VerificationContent()
	if err != nil {
		return nil, err
	}
	return &Signed{Bundle: doc, Chain: chainOf(k.Trust, content.Certificate())}, nil
}

// entries is how many log entries a bundle of ours has. The older layout has room
// for one, and for none of version 2.
func (s *Services) entries(b *bundle.Bundle) int {
	if b.MediaType == BundleMediaType {
		return len(s.Logs)
	}
	if slices.ContainsFunc(s.Logs, func(l Log) bool { return l.Version == 1 }) {
		return 1
	}
	return 0
}

// parseAbout parses a bundle that must be of exactly this content.
func parseAbout(c Content, doc []byte) (*bundle.Bundle, verify.ArtifactPolicyOption, error) {
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(doc); err != nil {
		return nil, nil, errors.New(printable(err.Error()))
	}
	switch c := c.(type) {
	case Statement:
		if !bytes.Equal(b.GetDsseEnvelope().GetPayload(), c) {
			return nil, nil, errors.New("it is of another statement")
		}
		return b, verify.WithoutArtifactUnsafe(), nil // the statement is ours, byte for byte
	case Payload:
		sum := sha256.Sum256(c)
		if !bytes.Equal(b.GetMessageSignature().GetMessageDigest().GetDigest(), sum[:]) {
			return nil, nil, errors.New("it is of another payload")
		}
		return b, verify.WithArtifact(bytes.NewReader(c)), nil
	}
	return nil, nil, fmt.Errorf("content: got %T", c)
}

// chainOf returns what leads from the certificate to a root that is trusted, as PEM.
func chainOf(trust root.TrustedMaterial, cert *x509.Certificate) []byte {
	var text bytes.Buffer
	for _, ca := range trust.FulcioCertificateAuthorities() {
		chains, err := ca.Verify(cert, cert.NotBefore)
		if err != nil || len(chains) == 0 {
			continue
		}
		for _, c := range chains[0][1:] {
			pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer does not fail
		}
		break
	}
	return text.Bytes()
}
