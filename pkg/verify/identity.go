package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// trustedIdentity is an OIDC identity for which a Sigstore vouches by a
// certificate. The issuer is compared exactly, and the subject too unless it is
// a pattern: those who match one pattern are one signer.
type trustedIdentity struct {
	subject, issuer string
	pattern         *regexp.Regexp // of the whole subject; nil: exactly subject
	id              string         // what makes two of them one
	publicGood      bool           // vouched for by the trust root that is built in
	verifier        *sigstore.Verifier
}

// newPattern is [newIdentity] of all whose subject is one that the regular
// expression describes from its first to its last character.
func newPattern(expression, issuer string, trust root.TrustedMaterial) (*trustedIdentity, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("subjectRegexp: %w", err)
	}
	if err := literalDots(parsed); err != nil {
		return nil, fmt.Errorf("subjectRegexp: %w", err)
	}
	whole, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("subjectRegexp: %w", err)
	}
	if whole.MatchString("") {
		return nil, errors.New("subjectRegexp: it matches anybody")
	}
	return identityOf("/"+expression+"/", issuer, whole, trust)
}

// literalDots refuses a dot that stands for one character: in the name of a host
// it would match one that somebody else can have. ".*" and ".+" are meant, a
// character that may be a line's end is not.
func literalDots(e *syntax.Regexp) error {
	switch e.Op {
	case syntax.OpAnyChar:
		return errors.New("it may match the end of a line: leave (?s) out")
	case syntax.OpAnyCharNotNL:
		return errors.New("a . alone matches any character: write \\. for a dot")
	case syntax.OpStar, syntax.OpPlus:
		if e.Sub[0].Op == syntax.OpAnyCharNotNL {
			return nil
		}
	}
	for _, sub := range e.Sub {
		if err := literalDots(sub); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether the subject is that of the identity. A pattern is of names
// on one line.
func (t *trustedIdentity) is(subject string) bool {
	if t.pattern != nil {
		return t.pattern.MatchString(subject) && printable(subject) == subject
	}
	return t.subject == subject
}

// newIdentity returns the identity with exactly this subject.
func newIdentity(subject, issuer string, trust root.TrustedMaterial) (*trustedIdentity, error) {
	if strings.Contains(subject, "*") {
		return nil, errors.New("subject is compared exactly, a * stands for nothing (subjectRegexp is a pattern)")
	}
	return identityOf(subject, issuer, nil, trust)
}

// identityOf returns the identity as the trust root's authorities vouch for it.
func identityOf(subject, issuer string, pattern *regexp.Regexp, trust root.TrustedMaterial) (*trustedIdentity, error) {
	if subject == "" || issuer == "" {
		return nil, errors.New("want an issuer and a subject: one of them alone is anybody's")
	}
	if strings.Contains(issuer, "*") {
		return nil, errors.New("issuer is compared exactly, a * stands for nothing")
	}
	v, err := certificateVerifier(trust)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(issuer + "\x00" + subject))
	return &trustedIdentity{subject: subject, issuer: issuer, pattern: pattern, id: hex.EncodeToString(sum[:]), verifier: v}, nil
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

// verify returns nil if the subject, which the identity is, signed what the policy
// option describes.
func (t *trustedIdentity) verify(b *bundle.Bundle, subject string, about sigstore.ArtifactPolicyOption) error {
	want, err := sigstore.NewShortCertificateIdentity(t.issuer, "", subject, "")
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
		if !t.is(subject) || t.issuer != issuer {
			continue
		}
		if err := t.verify(b, subject, about); err != nil {
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
