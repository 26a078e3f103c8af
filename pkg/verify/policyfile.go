package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/mod/semver"

	"github.com/imgctl/imgctl/internal/strict"
)

// policyKind is the kind of a policy file.
const policyKind = "Policy"

// The policy file as it is written. docs/formats.md describes it.
type (
	policyFile struct {
		strict.Header `yaml:",inline"`

		Rules []ruleFile `yaml:"rules"`
	}
	ruleFile struct {
		Repositories []string          `yaml:"repositories"`
		Sources      []string          `yaml:"sources"`
		Signers      signersFile       `yaml:"signers"`
		Attestations []attestationFile `yaml:"attestations"`
		MinVersion   string            `yaml:"minVersion"`
		Freshness    *freshnessFile    `yaml:"freshness"` // absent: no release statement is asked for
	}
	signersFile struct {
		Threshold *int         `yaml:"threshold"` // absent: 1
		Any       []signerFile `yaml:"any"`
		Format    string       `yaml:"format"` // absent: bundle and legacy
	}
	freshnessFile struct {
		MaxAge string `yaml:"maxAge"` // absent: what the statement itself says
	}
	signerFile struct {
		Key     *keyFile     `yaml:"key"`
		Keyless *keylessFile `yaml:"keyless"`
	}
	keylessFile struct {
		Issuer        string `yaml:"issuer"`
		Subject       string `yaml:"subject"`
		SubjectRegexp string `yaml:"subjectRegexp"` // instead of subject
		TrustedRoot   string `yaml:"trustedRoot"`   // absent: the built-in public-good one
	}
	keyFile struct {
		File      string `yaml:"file"`
		NotBefore string `yaml:"notBefore"` // not a time.Time: the YAML library takes what is none for the zero time
		NotAfter  string `yaml:"notAfter"`
	}
	attestationFile struct {
		Type       string   `yaml:"type"`
		Builder    string   `yaml:"builder"`
		Source     string   `yaml:"source"`
		Parameters []string `yaml:"parameters"` // absent: any
	}
)

// policyReader turns the file into rules and knows where each value stands.
type policyReader struct {
	name string // of the file, as the user named it
	body ast.Node
	read func(file string) ([]byte, error) // key files and trust roots
}

// decodePolicy decodes a policy file. Key files and trust roots are read through read.
func decodePolicy(name string, data []byte, read func(file string) ([]byte, error)) (*Policy, error) {
	var f policyFile
	if err := strict.Decode(name, data, policyKind, &f); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, &strict.Error{File: name, Msg: err.Error()} // cannot happen: it was just decoded
	}
	r := policyReader{name: name, read: read}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			r.body = doc.Body
		}
	}
	if len(f.Rules) == 0 {
		return nil, r.errorf("$.rules", "rules: the list is empty, want at least one rule")
	}
	p := &Policy{}
	for i := range f.Rules {
		rule, err := r.rule(&f.Rules[i], i)
		if err != nil {
			return nil, err
		}
		if err := r.reachable(rule, p.rules); err != nil {
			return nil, err
		}
		p.rules = append(p.rules, rule)
	}
	return p, nil
}

func (r *policyReader) rule(f *ruleFile, i int) (*Rule, error) {
	at := fmt.Sprintf("$.rules[%d]", i)
	rule := &Rule{name: fmt.Sprintf("rule %d of %s", i+1, r.name)}
	if len(f.Repositories) == 0 {
		return nil, r.errorf(at+".repositories", "repositories: the list is empty, want at least one")
	}
	var err error
	if rule.repositories, err = r.patterns(f.Repositories, at+".repositories"); err != nil {
		return nil, err
	}
	if rule.sources, err = r.patterns(f.Sources, at+".sources"); err != nil {
		return nil, err
	}
	if err := r.stars(rule, at); err != nil {
		return nil, err
	}
	if err := r.signers(rule, f.Signers.Any, at+".signers.any"); err != nil {
		return nil, err
	}
	rule.threshold = 1
	if t := f.Signers.Threshold; t != nil {
		rule.threshold = *t
	}
	if n := len(rule.keys) + len(rule.identities); rule.threshold < 1 || rule.threshold > n {
		return nil, r.errorf(at+".signers.threshold", "threshold: got %d, want 1 to %d, the number of signers", rule.threshold, n)
	}
	if rule.attestations, err = r.attestations(f.Attestations, at+".attestations"); err != nil {
		return nil, err
	}
	return rule, r.limits(rule, f, at)
}

// limits reads what a rule asks of content beyond who vouches for it.
func (r *policyReader) limits(rule *Rule, f *ruleFile, at string) error {
	rule.format = f.Signers.Format
	if rule.format != "" && rule.format != formatBundle && rule.format != formatLegacy {
		return r.errorf(at+".signers.format", "format: got %q, want %s or %s, or none for either", rule.format, formatBundle, formatLegacy)
	}
	rule.minVersion = canonicalVersion(f.MinVersion)
	if f.MinVersion != "" && !semver.IsValid(rule.minVersion) {
		return r.errorf(at+".minVersion", "minVersion: got %q, want a version such as v1.34.0", f.MinVersion)
	}
	if f.Freshness == nil {
		return nil
	}
	rule.freshness = &freshness{}
	if f.Freshness.MaxAge == "" {
		return nil
	}
	age, err := time.ParseDuration(f.Freshness.MaxAge)
	if err != nil || age < time.Hour {
		return r.errorf(at+".freshness.maxAge", "maxAge: got %q, want an hour or more, such as 720h", f.Freshness.MaxAge)
	}
	rule.freshness.maxAge = age
	return nil
}

func (r *policyReader) patterns(list []string, at string) ([]pattern, error) {
	var out []pattern
	for i, s := range list {
		p, err := parsePattern(s, filepath.Dir(r.name))
		if err != nil {
			return nil, r.errorf(fmt.Sprintf("%s[%d]", at, i), "%v", err)
		}
		for _, q := range out {
			if q == p {
				return nil, r.errorf(fmt.Sprintf("%s[%d]", at, i), "%s is there twice", p)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// stars checks that a star in a source always has something to stand for.
func (r *policyReader) stars(rule *Rule, at string) error {
	wild := false
	for _, p := range rule.repositories {
		wild = wild || p.wild
	}
	for i, s := range rule.sources {
		if s.wild != wild {
			return r.errorf(fmt.Sprintf("%s.sources[%d]", at, i), "source %s: where a repository ends in *, and only there, each source ends in * too", s)
		}
	}
	return nil
}

// reachable refuses a rule, or a part of it, that an earlier one hides.
func (r *policyReader) reachable(rule *Rule, earlier []*Rule) error {
	for _, e := range earlier {
		for _, p := range e.repositories {
			for i, q := range rule.repositories {
				if p.covers(q) {
					return r.errorf(fmt.Sprintf("$.rules[%d].repositories[%d]", len(earlier), i), "%s is never reached: %s matches it first", q, e)
				}
			}
		}
	}
	return nil
}

func (r *policyReader) signers(rule *Rule, list []signerFile, at string) error {
	if len(list) == 0 {
		return r.errorf(at, "signers: the list \"any\" is empty, want at least one")
	}
	seen := make(map[string]string)
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		var by signer
		switch {
		case s.Key != nil && s.Keyless != nil:
			return r.errorf(at, "got key and keyless, want one of them")
		case s.Key != nil && s.Key.File != "":
			k, err := r.key(s.Key, at+".key")
			if err != nil {
				return err
			}
			rule.keys, by, at = append(rule.keys, k), signer{k.name, k.fingerprint}, at+".key.file"
		case s.Keyless != nil:
			t, err := r.identity(s.Keyless, at+".keyless")
			if err != nil {
				return err
			}
			rule.identities, by, at = append(rule.identities, t), signer{t.subject, t.id}, at+".keyless"
		default:
			return r.errorf(at, "want key: {file: …} or keyless: {issuer: …, subject: …}")
		}
		if other, twice := seen[by.id]; twice {
			return r.errorf(at, "%s is the same signer as %s", by.name, other)
		}
		seen[by.id] = by.name
	}
	return nil
}

// identity reads a keyless signer. A name that is missing is an error and never
// "anybody" (S03); patterns are compared as they are written and so match nobody.
func (r *policyReader) identity(f *keylessFile, at string) (*trustedIdentity, error) {
	var data []byte
	if f.TrustedRoot != "" {
		var err error
		if data, err = r.read(f.TrustedRoot); err != nil {
			return nil, r.errorf(at+".trustedRoot", "%v", err)
		}
	}
	trust, err := parseTrust(f.TrustedRoot, data)
	if err != nil {
		return nil, r.errorf(at+".trustedRoot", "%v", err)
	}
	var t *trustedIdentity
	switch {
	case f.Subject != "" && f.SubjectRegexp != "":
		return nil, r.errorf(at, "keyless: got subject and subjectRegexp, want one of them")
	case f.SubjectRegexp != "":
		t, err = newPattern(f.SubjectRegexp, f.Issuer, trust)
	default:
		t, err = newIdentity(f.Subject, f.Issuer, trust)
	}
	if err != nil {
		return nil, r.errorf(at, "keyless: %v", err)
	}
	t.publicGood = f.TrustedRoot == ""
	return t, nil
}

func (r *policyReader) key(f *keyFile, at string) (*trustedKey, error) {
	data, err := r.read(f.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, r.errorf(at+".file", "%v (`imgctl keygen` makes a key pair)", err)
	case err != nil:
		return nil, r.errorf(at+".file", "%v", err)
	}
	k, err := parseKey(f.File, data)
	if err != nil {
		return nil, r.errorf(at+".file", "%s: %v", f.File, err)
	}
	if k.notBefore, err = r.time(f.NotBefore, at+".notBefore"); err != nil {
		return nil, err
	}
	if k.notAfter, err = r.time(f.NotAfter, at+".notAfter"); err != nil {
		return nil, err
	}
	if !k.notAfter.IsZero() && !k.notBefore.Before(k.notAfter) {
		return nil, r.errorf(at+".notAfter", "notAfter: got %s, want a time after notBefore", k.notAfter.Format(time.RFC3339))
	}
	return k, nil
}

// time parses one end of a window; "" is none.
func (r *policyReader) time(s, at string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, r.errorf(at, "got %q, want a time such as 2027-01-31T00:00:00Z", s)
	}
	return t, nil
}

func (r *policyReader) attestations(list []attestationFile, at string) ([]requirement, error) {
	var out []requirement
	seen := make(map[string]bool)
	for i, a := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case a.Type == "":
			return nil, r.errorf(at, "want type: the predicate type of an attestation")
		case a.Type == predicateSignature:
			return nil, r.errorf(at+".type", "type %s is the signature itself, which signers asks for", a.Type)
		case seen[a.Type]:
			return nil, r.errorf(at+".type", "type %s is there twice", a.Type)
		case a.Builder != "" && a.Type != predicateProvenance:
			return nil, r.errorf(at+".builder", "builder: only attestations of type %s name one", predicateProvenance)
		case (a.Source != "" || a.Parameters != nil) && a.Type != predicateProvenance:
			return nil, r.errorf(at, "source and parameters: only attestations of type %s have them", predicateProvenance)
		case a.Parameters != nil && len(a.Parameters) == 0:
			return nil, r.errorf(at+".parameters", "parameters: the list is empty, want at least one or no list")
		}
		seen[a.Type] = true
		out = append(out, requirement{predicateType: a.Type, builder: a.Builder, source: a.Source, parameters: a.Parameters})
	}
	return out, nil
}

// errorf blames the value at the path, or the nearest thing around it that is there.
func (r *policyReader) errorf(path, format string, args ...any) error {
	e := &strict.Error{File: r.name, Msg: fmt.Sprintf(format, args...)}
	for ; path != "$"; path = path[:strings.LastIndexAny(path, ".[")] {
		p, err := yaml.PathString(path)
		if err != nil {
			return e
		}
		if n, err := p.FilterNode(r.body); err == nil && n != nil {
			pos := firstToken(n).GetToken().Position
			e.Line, e.Column = pos.Line, pos.Column
			return e
		}
	}
	e.Line, e.Column = 1, 1
	return e
}

// firstToken returns the node that begins a block: the first key of a mapping,
// which itself calls the colon its place.
func firstToken(n ast.Node) ast.Node {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 {
			return m.Values[0].Key
		}
	case *ast.MappingValueNode:
		return m.Key
	}
	return n
}
