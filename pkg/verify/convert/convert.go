// Package convert says an imgctl policy in the words of other programs that
// decide about images: podman, the policy-controller, Kyverno, Talos, Flux and gh.
//
// None of them knows all that our policy asks for. [Convert] is pure: it makes
// files, and with them a list of everything in which the other program will
// decide otherwise. A [Loss] is [Weaker] where it would accept what our policy
// refuses, [Stricter] where it would refuse what our policy accepts. A rule of
// which nothing can be said becomes a refusal, never a rule that is left open.
package convert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/verify"
)

// Effect is in which way another program decides otherwise.
type Effect string

// The effects.
const (
	Weaker   Effect = "weaker"   // it accepts what our policy refuses
	Stricter Effect = "stricter" // it refuses what our policy accepts
)

// Loss is one thing that the target cannot say.
type Loss struct {
	Effect Effect `json:"effect"`
	Name   string `json:"name"`           // "attestations": what a user gives up by name
	Rule   string `json:"rule,omitempty"` // "": of the policy as a whole
	Text   string `json:"text"`
}

// File is a file of the target; the path is relative.
type File struct {
	Path string `json:"path"`
	Body string `json:"body"`
}

// Result is a policy in another program's words.
type Result struct {
	Files  []File `json:"files"`
	Losses []Loss `json:"losses"`
}

// Weaker returns the names of what is weaker, sorted, each once.
func (r *Result) Weaker() []string {
	var names []string
	for _, l := range r.Losses {
		if l.Effect == Weaker && !slices.Contains(names, l.Name) {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return names
}

// target is a program that a policy can be said to.
type target struct {
	name  string
	write func(*conversion) ([]File, error)
}

func targets() []target {
	return []target{
		{"podman", (*conversion).podman},
		{"policy-controller", (*conversion).policyController},
		{"kyverno", (*conversion).kyverno},
		{"talos", (*conversion).talos},
		{"flux", (*conversion).flux},
		{"gh", (*conversion).gh},
	}
}

// Targets lists the programs.
func Targets() []string {
	var names []string
	for _, t := range targets() {
		names = append(names, t.name)
	}
	return names
}

// Convert says the policy to the program. Keys that do not count at the time now
// have no part in what it makes.
func Convert(p *verify.Policy, to string, now time.Time) (*Result, error) {
	terms, err := p.Terms()
	if err != nil {
		return nil, fmt.Errorf("convert policy: %w", err)
	}
	for _, t := range targets() {
		if t.name != to {
			continue
		}
		c := &conversion{losses: []Loss{}}
		for _, r := range terms {
			c.rules = append(c.rules, c.rule(r, now))
		}
		files, err := t.write(c)
		if err != nil {
			return nil, fmt.Errorf("convert policy to %s: %w", to, err)
		}
		return &Result{Files: files, Losses: c.losses}, nil
	}
	return nil, fmt.Errorf("convert policy: got target %q, want one of %s", to, strings.Join(Targets(), ", "))
}

// conversion is the work on one policy.
type conversion struct {
	rules  []*rule
	losses []Loss
}

// rule is what is left to say of a rule.
type rule struct {
	verify.Terms
	names []string // of its repositories on registries, "*" last
}

// rule takes away what is true of no target: keys that do not count now,
// directories, the order of the sources.
func (c *conversion) rule(t verify.Terms, now time.Time) *rule {
	r := &rule{Terms: t}
	r.Keys = nil
	for _, k := range t.Keys {
		switch {
		case now.Before(k.NotBefore):
			c.stricter(r, "window", "key %s has no part in it: it counts from %s only; convert again then", k.Name, k.NotBefore.UTC().Format(time.RFC3339))
			continue
		case !k.NotAfter.IsZero() && now.After(k.NotAfter):
			continue // for us it does not count any more either
		case !k.NotAfter.IsZero():
			c.weaker(r, "window", "key %s will count after %s too; convert again then", k.Name, k.NotAfter.UTC().Format(time.RFC3339))
		}
		r.Keys = append(r.Keys, k)
	}
	for _, n := range t.Repositories {
		if strings.HasPrefix(n.Path, "oci:") {
			c.stricter(r, "directories", "%s is a directory, and only registries are known", n)
			continue
		}
		r.names = append(r.names, n.String())
	}
	if len(t.Sources) > 1 {
		c.stricter(r, "sources", "the sources are not asked in turn; when the one that is named is down there is no other")
	}
	if t.MinVersion != "" {
		c.weaker(r, "version", "versions before %s are accepted", t.MinVersion)
	}
	if t.Freshness {
		c.weaker(r, "freshness", "what is revoked, or of no current release, is accepted")
	}
	return r
}

func (c *conversion) weaker(r *rule, name, format string, args ...any) {
	c.lose(Weaker, r, name, format, args...)
}

func (c *conversion) stricter(r *rule, name, format string, args ...any) {
	c.lose(Stricter, r, name, format, args...)
}

// lose adds a loss; r is nil where it is of the whole policy.
func (c *conversion) lose(e Effect, r *rule, name, format string, args ...any) {
	l := Loss{Effect: e, Name: name, Text: fmt.Sprintf(format, args...)}
	if r != nil {
		l.Rule = r.Rule
	}
	c.losses = append(c.losses, l)
}

// noKeyless takes the signers away that the target cannot name.
func (c *conversion) noKeyless(r *rule, why string) {
	for _, i := range r.Identities {
		c.stricter(r, "signers", "%s cannot be named: %s", i, why)
	}
	r.Identities = nil
}

// onlyPublicGood takes away whom another Sigstore vouches for.
func (c *conversion) onlyPublicGood(r *rule) {
	r.Identities = slices.DeleteFunc(slices.Clone(r.Identities), func(i verify.IdentityTerms) bool {
		if !i.PublicGood {
			c.stricter(r, "signers", "%s cannot be named: a Sigstore of its own vouches for it", i)
		}
		return !i.PublicGood
	})
}

// noAttestations says that none is asked for.
func (c *conversion) noAttestations(r *rule) {
	for _, a := range r.Attestations {
		c.weaker(r, "attestations", "attestation %s is not asked for", a.Type)
	}
}

// onlyType says that of attestations no more than the type and, where builder is
// true, the builder is looked at.
func (c *conversion) onlyType(r *rule, builder bool) {
	for _, a := range r.Attestations {
		if a.Source != "" || len(a.Parameters) > 0 || a.Builder != "" && !builder {
			c.weaker(r, "provenance", "attestation %s is asked for, but not all that must be in it", a.Type)
		}
	}
}

// oneOf says that one signer is enough where the rule wants more.
func (c *conversion) oneOf(r *rule) {
	if r.Threshold > 1 {
		c.weaker(r, "threshold", "one signer is enough, and not %d of them", r.Threshold)
	}
}

// signers is how many can be named.
func (r *rule) signers() int { return len(r.Keys) + len(r.Identities) }

// refused reports whether nobody, or too few, can be named, so that the rule
// becomes a refusal. That is said, unless our policy refuses as well.
func (c *conversion) refused(r *rule, want int) bool {
	if r.signers() >= want {
		return false
	}
	c.stricter(r, "signers", "of the signers %d can be named and %d are needed: all is refused", r.signers(), want)
	return true
}

// layout says that signatures are read in one layout only: "bundle" or "legacy".
func (c *conversion) layout(r *rule, reads string) {
	switch r.Format {
	case "":
		c.stricter(r, "format", "signatures are read in the layout %s only", reads)
	case reads:
	default:
		c.weaker(r, "format", "signatures are read in the layout %s, which the rule does not admit", reads)
	}
}

// eitherLayout says that signatures are read in both.
func (c *conversion) eitherLayout(r *rule) {
	if r.Format != "" {
		c.weaker(r, "format", "signatures are read in another layout than %s too", r.Format)
	}
}

// dockerNames are the ways in which a repository may be written in a Pod.
func dockerNames(name string) []string {
	path, ok := strings.CutPrefix(name, "docker.io/")
	if !ok {
		return []string{name}
	}
	list := []string{name, "index.docker.io/" + path, path}
	if short, ok := strings.CutPrefix(path, "library/"); ok {
		list = append(list, short)
	}
	return list
}
