package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// trustedIdentity is an OIDC identity for which a Sigstore vouches by a
// certificate. Both names are compared exactly.
type trustedIdentity struct {
	subject, issuer string
	id              string // what makes two of them one
	verifier        *sigstore.Verifier
}

// newIdentity returns the identity as the trust root's authorities vouch for it.
func newIdentity(subject, issuer string, trust root.TrustedMaterial) (*trustedIdentity, error) {
	if subject == "" || issuer == "" {
		return nil, errors.New("want an issuer and a subject: one of them alone is anybody's")
	}
	if strings.Contains(subject+issuer, "*") {
		return nil, errors.New("issuer and subject are compared exactly, a * stands for nothing")
	}
	v, err := certificateVerifier(trust)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(issuer + "\x00" + subject))
	return &trustedIdentity{subject: subject, issuer: issuer, id: hex.EncodeToString(sum[:]), verifier: v}, nil
}

// certificateVerifier asks of a signature that was made with a certificate what
// the trust root can prove: that a log has it and when it was made, from which
// follows that the certificate was valid then, and that a certificate log has
// the certificate. None of it needs the network, or this machine's clock.
func certificateVerifier(trust root.TrustedMaterial) (*sigstore.Verifier, error) {
	options := []sigstore.VerifierOption{sigstore.WithTransparencyLog(1), sigstore.WithObserverTimestamps(1)}
	if len(trust.CTLogs()) > 0 {
		options = append(options, sigstore.WithSignedCertificateTimestamps(1))
	}
	return sigstore.NewVerifier(trust, append(options, sigstore.WithoutStatementPredicate())...)
}

// verify returns nil if the identity signed what the policy option describes.
func (t *trustedIdentity) verify(b *bundle.Bundle, about sigstore.ArtifactPolicyOption) error {
	want, err := sigstore.NewShortCertificateIdentity(t.issuer, "", t.subject, "")
	if err != nil {
		return err
	}
	_, err = t.verifier.Verify(b, sigstore.NewPolicy(about, sigstore.WithCertificateIdentity(want)))
	return err
}

// identity returns the identity of the rule that signed the bundle.
func (c *collector) identity(b *bundle.Bundle, about sigstore.ArtifactPolicyOption) (*trustedIdentity, error) {
	if len(c.rule.identities) == 0 {
		return nil, errors.New("signed with a certificate, want a key of the policy")
	}
	content, err := b.VerificationContent()
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", oneLine(err))
	}
	subject, issuer, err := namesIn(content.Certificate())
	if err != nil {
		return nil, err
	}
	for _, e := range b.GetVerificationMaterial().GetTlogEntries() {
		if k := e.GetKindVersion(); k.GetKind() == "dsse" && k.GetVersion() == "0.0.2" {
			return nil, errors.New("its log entry is of the kind dsse 0.0.2, which Rekor has withdrawn: it must be signed again")
		}
	}
	for _, t := range c.rule.identities {
		if t.subject != subject || t.issuer != issuer {
			continue
		}
		if err := t.verify(b, about); err != nil {
			return nil, oneLine(err)
		}
		return t, nil
	}
	return nil, fmt.Errorf("signed by %s (issuer %s), who is nobody of the policy", printable(subject), printable(issuer))
}

// namesIn returns whom a certificate is for, and who vouched for him. One with
// several names is refused: the library compares one of them, and which one is
// not for the signer to choose.
func namesIn(cert *x509.Certificate) (subject, issuer string, err error) {
	if cert == nil {
		return "", "", errors.New("certificate: there is none")
	}
	if err := onlyName(cert); err != nil {
		return "", "", err
	}
	names, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return "", "", fmt.Errorf("certificate: %w", oneLine(err))
	}
	return names.SubjectAlternativeName, names.Issuer, nil
}
