package verify

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Terms are what one rule of a policy asks for, for programs that have to say it
// in the words of another.
type Terms struct {
	Rule         string      // what reports call it
	Repositories []NameTerms // in their one spelling
	Sources      []NameTerms // none: the repository itself
	Threshold    int         // so many of Keys and Identities
	Keys         []KeyTerms
	Identities   []IdentityTerms
	Attestations []AttestationTerms
	Format       string // "bundle" or "legacy"; "" is either
	MinVersion   string // "" is any
	Freshness    bool   // a release statement must name it
}

// NameTerms are a repository, or all that are directly below a path.
type NameTerms struct {
	Path string // without the "/*"
	Wild bool
}

// String is how policies write it.
func (n NameTerms) String() string {
	if n.Wild {
		return n.Path + "/*"
	}
	return n.Path
}

// KeyTerms are a public key with the time in which it counts; a zero time is no limit.
type KeyTerms struct {
	Name                string
	PEM                 []byte
	NotBefore, NotAfter time.Time
}

// IdentityTerms are an OIDC identity for which a Sigstore vouches.
type IdentityTerms struct {
	Issuer        string
	Subject       string // exact; "" where SubjectRegexp is
	SubjectRegexp string // of the whole subject
	PublicGood    bool   // the Sigstore is the public one that is built in
}

// String names it for people.
func (t IdentityTerms) String() string {
	if t.SubjectRegexp != "" {
		return "/" + t.SubjectRegexp + "/"
	}
	return t.Subject
}

// AttestationTerms are an attestation that must be there. What is empty is not asked for.
type AttestationTerms struct {
	Type       string
	Builder    string
	Source     string
	Parameters []string
}

// Terms returns what each rule asks for, in their order.
func (p *Policy) Terms() ([]Terms, error) {
	list := make([]Terms, 0, len(p.rules))
	for _, r := range p.rules {
		t := Terms{Rule: r.name, Repositories: nameTerms(r.repositories), Sources: nameTerms(r.sources), Threshold: r.threshold, Format: r.format, MinVersion: r.minVersion, Freshness: r.freshness != nil}
		for _, k := range r.keys {
			der, err := x509.MarshalPKIXPublicKey(k.public)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", k.name, err)
			}
			body := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
			t.Keys = append(t.Keys, KeyTerms{Name: k.name, PEM: body, NotBefore: k.notBefore, NotAfter: k.notAfter})
		}
		for _, i := range r.identities {
			t.Identities = append(t.Identities, i.terms())
		}
		for _, a := range r.attestations {
			t.Attestations = append(t.Attestations, AttestationTerms{a.predicateType, a.builder, a.source, slices.Clone(a.parameters)})
		}
		list = append(list, t)
	}
	return list, nil
}

func (t *trustedIdentity) terms() IdentityTerms {
	terms := IdentityTerms{Issuer: t.issuer, Subject: t.subject, PublicGood: t.publicGood}
	if t.pattern != nil {
		terms.Subject, terms.SubjectRegexp = "", strings.TrimSuffix(strings.TrimPrefix(t.subject, "/"), "/")
	}
	return terms
}

func nameTerms(patterns []pattern) []NameTerms {
	list := make([]NameTerms, len(patterns))
	for i, p := range patterns {
		list[i] = NameTerms{p.name, p.wild}
	}
	return list
}
