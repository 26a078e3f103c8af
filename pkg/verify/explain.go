package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/strict"
)

// ExplanationKind is the kind of an [Explanation] as JSON.
const ExplanationKind = "Explanation"

// Explanation says rule by rule what a policy makes of a repository. Nobody was
// asked for it.
type Explanation struct {
	strict.Header

	Repository string            `json:"repository"` // in its one spelling
	Rules      []RuleExplanation `json:"rules"`      // in their order
	Refusal    *Refusal          `json:"-"`          // that there is no rule
}

// RuleExplanation is what one rule has to do with the repository.
type RuleExplanation struct {
	Rule    string   `json:"rule"`
	Decides bool     `json:"decides"`
	Why     string   `json:"why"`
	Demands []string `json:"demands,omitempty"` // of the rule that decides
}

// Explain says which rule decides about the repository, why the others do not,
// and what that rule asks for at the time now.
func (p *Policy) Explain(repository string, now time.Time) (*Explanation, error) {
	name, err := canonicalRepository(repository, "")
	if err != nil {
		return nil, err
	}
	e := &Explanation{Header: strict.Header{APIVersion: strict.APIVersion, Kind: ExplanationKind}, Repository: name, Rules: []RuleExplanation{}}
	var decides *Rule
	for _, r := range p.rules {
		x := RuleExplanation{Rule: r.name}
		by, ok := r.matches(name)
		switch {
		case ok && decides == nil:
			decides = r
			x.Decides, x.Why, x.Demands = true, "it is the first that names it: "+by.String(), r.demands(name, now)
		case ok:
			x.Why = fmt.Sprintf("it names it too (%s), but %s is before it", by, decides)
		default:
			x.Why = "it names other repositories: " + some(names(r.repositories))
		}
		e.Rules = append(e.Rules, x)
	}
	if decides == nil {
		e.Refusal = noRule(name)
	}
	return e, nil
}

// names are patterns as they are written.
func names(patterns []pattern) []string {
	list := make([]string, len(patterns))
	for i, p := range patterns {
		list[i] = p.String()
	}
	return list
}

// demands lists what a rule asks for.
func (r *Rule) demands(repository string, now time.Time) []string {
	list := []string{"sources, in this order: " + strings.Join(r.Sources(repository), ", ")}
	n := len(r.keys) + len(r.identities)
	list = append(list, fmt.Sprintf("signatures of %d of %s, on the index and on each manifest", r.threshold, count(n, "signer")))
	for _, k := range r.keys {
		list = append(list, "signer: key "+k.name+k.window(now))
	}
	for _, t := range r.identities {
		list = append(list, fmt.Sprintf("signer: %s, for whom %s vouches", t.subject, t.issuer))
	}
	if r.format != "" {
		list = append(list, "signatures in no other layout than "+r.format)
	}
	for _, a := range r.attestations {
		list = append(list, "attestation: "+a.String())
	}
	if r.minVersion != "" {
		list = append(list, "version: "+r.minVersion+" or later")
	}
	if r.freshness != nil {
		list = append(list, "a release statement that names it, "+r.freshness.String())
	}
	return list
}

// window says when the key counts, and whether it does now.
func (k *trustedKey) window(now time.Time) string {
	var text string
	if !k.notBefore.IsZero() {
		text += ", from " + k.notBefore.UTC().Format(time.RFC3339)
	}
	if !k.notAfter.IsZero() {
		text += ", until " + k.notAfter.UTC().Format(time.RFC3339)
	}
	if k.valid(now) != nil {
		text += ": NOT NOW"
	}
	return text
}
