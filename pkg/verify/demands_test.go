package verify

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// S04: a pattern of subjects is of the whole of it, and a dot in it is a dot.
func TestS04PatternOfSubjectsIsAnchored(t *testing.T) {
	trust, err := parseTrust("", nil)
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://token.actions.githubusercontent.com"
	who, err := newPattern(`https://github\.com/dghubble/[a-z-]+/\.github/workflows/release\.yaml@refs/tags/v.+`, issuer, trust)
	if err != nil {
		t.Fatal(err)
	}
	const good = "https://github.com/dghubble/typhoon/.github/workflows/release.yaml@refs/tags/v1.36.2"
	if !who.is(good) {
		t.Fatal("the sibling of all these does not match")
	}
	for _, subject := range []string{
		"", "x" + good, good + "\n", good + "\nx", "\n" + good,
		strings.Replace(good, "dghubble", "dghubble.evil", 1),
		strings.Replace(good, "github.com", "githubXcom", 1),
		strings.Replace(good, "github.com", "github.com.evil.test", 1),
		strings.Replace(good, "release.yaml", "release-yaml", 1),
		strings.Replace(good, "typhoon", "typhoon/x", 1),
		"https://evil.test/?" + good,
	} {
		if who.is(subject) {
			t.Errorf("%q matches", subject)
		}
	}
	if who, err := newPattern(`https://github\.com/[^/]+/x`, issuer, trust); err != nil || !who.is("https://github.com/a/x") || who.is("https://github.com/a\nb/x") {
		t.Errorf("a class of characters is of one line: got %v", err)
	}
	for expression, want := range map[string]string{
		`https://github.com/dghubble/.*`: `a . alone matches any character`,
		`.`:                              `a . alone`,
		`https://github\.com/(a.b|c)/.*`: `a . alone`,
		`https://github\.com/.?/x`:       `a . alone`,
		`(?s)https://github\.com/.*`:     `the end of a line`,
		`.*`:                             `it matches anybody`,
		`(https://github\.com/.*)?`:      `it matches anybody`,
		`https://github\.com/(`:          `missing closing )`,
		`https://github\.com/a)|(evil.*`: `unexpected )`,
		``:                               `it matches anybody`,
	} {
		if _, err := newPattern(expression, issuer, trust); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", expression, err, want)
		}
	}
	if _, err := newPattern(`https://github\.com/.+`, "", trust); err == nil {
		t.Error("a pattern without issuer is one")
	}
	if _, err := newPattern(`https://github\.com/.+`, "https://*.test", trust); err == nil {
		t.Error("an issuer with a star is one")
	}
}

// S04, whole: a signer whom the pattern describes counts, and his neighbour does not.
func TestS04SignerOfAPatternCounts(t *testing.T) {
	w := newKeylessWorld(t)
	who, err := newPattern(`release@example\.com`, w.Issuer(), w.trust)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{rule: &Rule{identities: []*trustedIdentity{who}, threshold: 1}, now: noon}
	if f := c.checkBundle(bundleOf(t, w.signer(releaser, 1), statementAbout(hash("a"), predicateSignature)), hash("a")); f.answer != good || f.by.name != `/release@example\.com/` {
		t.Errorf("got %+v", f)
	}
	for _, mail := range []string{"release@exampleXcom", "prerelease@example.com", "release@example.com.evil.test"} {
		f := c.checkBundle(bundleOf(t, w.signer(mail, 1), statementAbout(hash("a"), predicateSignature)), hash("a"))
		if f.answer != bad || f.reason != WrongSigner {
			t.Errorf("%s: got %+v", mail, f)
		}
	}
	other := *who
	other.issuer = "https://other.test"
	c.rule.identities = []*trustedIdentity{&other}
	if f := c.checkBundle(bundleOf(t, w.signer(releaser, 1), statementAbout(hash("a"), predicateSignature)), hash("a")); f.answer != bad {
		t.Errorf("another issuer: got %+v", f)
	}
}

// S03, S04: without a pattern the subject is the whole name and no part of it.
func TestS03SubjectIsComparedWhole(t *testing.T) {
	w := newKeylessWorld(t) // trusts exactly releaser
	if f := w.checkBundle(bundleOf(t, w.signer(releaser, 1), statementAbout(hash("a"), predicateSignature)), hash("a")); f.answer != good {
		t.Fatalf("the sibling of all these: %+v", f)
	}
	for _, mail := range []string{releaser + ".evil.test", "pre" + releaser, strings.Replace(releaser, ".com", ".co", 1), strings.ToUpper(releaser)} {
		f := w.checkBundle(bundleOf(t, w.signer(mail, 1), statementAbout(hash("a"), predicateSignature)), hash("a"))
		if f.answer != bad || f.reason != WrongSigner {
			t.Errorf("%s: got %+v", mail, f)
		}
	}
}

// S23: provenance must name the builder, the source and no parameter but known ones.
func TestS23ProvenanceIsOfWhatIsWanted(t *testing.T) {
	k := imgtest.SigningKey(t)
	const fine = `{"buildDefinition":{"externalParameters":{"platform":"linux/amd64","version":"v1"},"resolvedDependencies":[{"uri":"pkg:deb/x"},{"uri":"git+https://github.com/poseidon/kubelet@refs/heads/main"}]},"runDetails":{"builder":{"id":"https://b"}}}`
	asked := "{type: " + attest.PredicateProvenance + ", builder: https://b, source: git+https://github.com/poseidon/kubelet, parameters: [platform, version]}"
	for name, tt := range map[string]struct{ old, new, want string }{
		"as it should be":        {"", "", ""},
		"without parameters":     {`{"platform":"linux/amd64","version":"v1"}`, `{}`, ""},
		"source without version": {"kubelet@refs/heads/main", "kubelet", ""},
		"other builder":          {"https://b", "https://c", `builder: got "https://c", want https://b`},
		"other repository":       {"poseidon/kubelet@", "evil/kubelet@", "source: got pkg:deb/x, git+https://github.com/evil/kubelet@refs/heads/main, want"},
		"longer repository":      {"poseidon/kubelet@", "poseidon/kubelet-evil@", "source: got"},
		"source in a version":    {"github.com/poseidon/kubelet@refs/heads/main", "evil.test/x@git+https://github.com/poseidon/kubelet", "source: got"},
		"no source":              {`"resolvedDependencies"`, `"other"`, "source: got none, want"},
		"unknown parameter":      {`"version":"v1"`, `"hook":"curl evil.test"`, `parameter "hook": want no other than platform and version`},
		"unreadable":             {`"externalParameters":{`, `"externalParameters":[],"other":{`, `builder: got ""`},
	} {
		t.Run(name, func(t *testing.T) {
			a := newRegistry(t)
			predicate := strings.Replace(fine, tt.old, tt.new, 1)
			h := imgtest.Release{Repository: a, Signers: signers(k), Attest: map[string]string{attest.PredicateProvenance: predicate}}.Push(t)
			_, err := attested(t, k, a, asked).Verify(t.Context(), Subject{a, h})
			if tt.want == "" && err != nil {
				t.Fatal(err)
			}
			if tt.want != "" {
				refused(t, err, MissingAttestation, tt.want)
			}
		})
	}
}

// withVersion is content that says what its version is.
func withVersion(t *testing.T, version string) v1.ImageIndex {
	t.Helper()
	return mutate.Annotations(imgtest.SmallIndex(t, "kubelet "+version), map[string]string{"org.opencontainers.image.version": version}).(v1.ImageIndex)
}

// M07: what is signed and older than the floor is a rollback.
func TestM07SignedButOlderThanTheFloorIsARollback(t *testing.T) {
	k := imgtest.SigningKey(t)
	for version, want := range map[string]bool{
		"v1.36.2": true, "v1.36.10": true, "1.37.0": true, "v2.0.0": true, "v1.36.2+build": true,
		"v1.36.1": false, "v1.9.9": false, "v1.36.2-rc.1": false, "": false, "latest": false, "v1.36.x": false,
	} {
		a := newRegistry(t)
		content := withVersion(t, version)
		h := imgtest.Release{Repository: a, Content: content, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
		p, err := policyOf(t, k, k, "rules:\n- repositories: ["+a+"]\n  minVersion: v1.36.2\n  signers: {any: [{key: {file: k.pub}}]}\n")
		if err != nil {
			t.Fatal(err)
		}
		in := newWorld(t, p).inspect(t, a)
		if want {
			expect(t, in, VerdictVerified, VerdictVerified)
			continue
		}
		expect(t, in, VerdictRefused, VerdictRefused)
		refused(t, in.Err, RolledBack, "index "+h.String(), "want v1.36.2 or later")
	}
	// Unsigned is worse than old.
	a := newRegistry(t)
	h := imgtest.Release{Repository: a, Content: withVersion(t, "v1.0.0")}.Push(t)
	p, err := policyOf(t, k, k, "rules:\n- repositories: ["+a+"]\n  minVersion: 1.36.2\n  signers: {any: [{key: {file: k.pub}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	_, err = newWorld(t, p).Verify(t.Context(), Subject{a, h})
	refused(t, err, Unsigned)
}

// Whoever takes the bundles away gains nothing by older signatures that are left.
func TestSignaturesInAnotherLayoutAreNotAskedFor(t *testing.T) {
	k := imgtest.SigningKey(t)
	for _, tt := range []struct {
		format  string
		release imgtest.Release
		good    bool
	}{
		{"bundle", imgtest.Release{NoLegacy: true}, true},
		{"bundle", imgtest.Release{NoBundles: true}, false},
		{"legacy", imgtest.Release{NoBundles: true}, true},
		{"legacy", imgtest.Release{NoLegacy: true}, false},
	} {
		tt.release.Repository, tt.release.Signers = newRegistry(t), signers(k)
		h := tt.release.Push(t)
		a := tt.release.Repository
		p, err := policyOf(t, k, k, "rules:\n- repositories: ["+a+"]\n  signers: {format: "+tt.format+", any: [{key: {file: k.pub}}]}\n")
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, p)
		_, err = w.Verify(t.Context(), Subject{a, h})
		switch {
		case tt.good && err != nil:
			t.Errorf("%+v: %v", tt, err)
		case !tt.good:
			refused(t, err, Unsigned)
			if tt.format == "bundle" && w.net.asked(".sig") > 0 {
				t.Errorf("older signatures were asked for: %q", w.net.log)
			}
		}
	}
}

func TestExplanationGoesRuleByRule(t *testing.T) {
	p, err := policyOf(t, imgtest.SigningKey(t), imgtest.SigningKey(t), `rules:
- repositories: [quay.io/poseidon/kubelet]
  sources: [quay.io/poseidon/kubelet, docker.io/psdn/kubelet]
  minVersion: v1.34.0
  signers: {threshold: 2, format: bundle, any: [{key: {file: k.pub, notAfter: 2025-01-31T00:00:00Z}}, {key: {file: l.pub}}]}
  attestations: [{type: https://slsa.dev/provenance/v1, builder: https://b, parameters: [a, b]}]
- repositories: ["quay.io/poseidon/*"]
  signers: {any: [{key: {file: l.pub}}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Explain("quay.io/poseidon/kubelet", noon)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Rules) != 2 || !e.Rules[0].Decides || e.Rules[1].Decides || len(e.Rules[1].Demands) > 0 || e.Refusal != nil {
		t.Fatalf("got %+v", e)
	}
	text := strings.Join(append(e.Rules[0].Demands, e.Rules[0].Why, e.Rules[1].Why), "\n")
	for _, want := range []string{
		"sources, in this order: quay.io/poseidon/kubelet, docker.io/psdn/kubelet", "2 of 2 signers", "key k.pub, until 2025-01-31T00:00:00Z: NOT NOW",
		"key l.pub\n", "no other layout than bundle", "by builder https://b, with no parameters but a and b", "v1.34.0 or later",
		"it is the first that names it: quay.io/poseidon/kubelet", "it names it too (quay.io/poseidon/*), but rule 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %q", text, want)
		}
	}
	e, err = p.Explain("quay.io/evil/kubelet", noon)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, e.Refusal, Denied)
	if e.Rules[0].Decides || !strings.Contains(e.Rules[0].Why, "it names other repositories: quay.io/poseidon/kubelet") {
		t.Errorf("got %+v", e)
	}
	if _, err := p.Explain("quay.io/Evil/kubelet", noon); err == nil {
		t.Error("a name that is none was explained")
	}
}

const table = "apiVersion: imgctl.dev/v1\nkind: PolicyTest\npolicy: kubelet.yaml\ncases:\n" +
	"- {reference: \"quay.io/a/b:v1\", want: verified}\n- {reference: \"quay.io/a/b:v2\", want: unsigned}\n"

func TestTableOfCasesRefusesWhatItCannotMean(t *testing.T) {
	if c, err := decodeCases("dir/test.yaml", []byte(table)); err != nil || len(c.List) != 2 || c.Policy != "dir/kubelet.yaml" {
		t.Fatalf("the sibling of all these: %+v, %v", c, err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"policy: kubelet.yaml\n", "", "policy: got none"},
		{"want: unsigned", "want: verified", "test.yaml:5:1: cases: want at least one that is verified and one that is not"},
		{"want: verified", "want: unsigned", "want at least one that is verified"},
		{"want: unsigned", "want: unknown", "test.yaml:6:39: cases[1].want: got \"unknown\", want one of"},
		{"want: unsigned", "want: ''", "cases[1].want"},
		{"quay.io/a/b:v1", "quay.io/a/b", "test.yaml:5:15: cases[0].reference: got no tag and no digest"},
		{"quay.io/a/b:v1", "quay.io/A/b:v1", "cases[0].reference"},
		{"policy:", "polcy:", `unknown field "polcy"`},
		{"kind: PolicyTest", "kind: Policy", "kind"},
	} {
		_, err := decodeCases("test.yaml", []byte(strings.Replace(table, tt.old, tt.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want %q", tt.new, err, tt.want)
		}
	}
	for _, w := range slices.Sorted(maps.Keys(reasonText)) {
		if _, err := decodeCases("t", []byte(strings.Replace(table, "unsigned", string(w), 1))); err != nil {
			t.Errorf("%s: %v", w, err)
		}
	}
}

func TestCasesAreComparedWithWhatIsFound(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: a, Signers: []sign.Signer{k}, Tags: []string{"good"}}.Push(t)
	imgtest.Release{Repository: a, Content: imgtest.SmallIndex(t, "bare"), Tags: []string{"bare"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.kill(b)
	tag := func(repository, tag string) oci.Reference { return oci.Reference{Repository: repository, Tag: tag} }
	results, err := w.Check(t.Context(), []Case{
		{tag(a, "good"), "verified"}, {tag(a, "good"), "unsigned"}, {tag(a, "bare"), "unsigned"}, {tag("quay.io/x/y", "v1"), "denied"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, regexp.MustCompile(`^.*[/:]`).ReplaceAllString(r.Reference, "")+" "+r.Got)
	}
	// With a source dead that might have the signatures, "unsigned" is not known, and so not as wanted.
	if want := []string{"good verified", "good verified", "bare unknown", "v1 denied"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !results[0].OK || results[1].OK || results[2].OK || !results[3].OK {
		t.Errorf("results: %+v", results)
	}
}

func FuzzCases(f *testing.F) {
	f.Add([]byte(table))
	f.Add([]byte(strings.Replace(table, "verified", "~", 1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := decodeCases("test.yaml", doc)
		if err == nil && (len(c.List) < 2 || c.Policy == "") {
			t.Errorf("%q: got %+v", doc, c)
		}
	})
}

// S08: an attestation counts when as many signers vouch for it as for the content.
func TestS08AttestationNeedsTheThresholdToo(t *testing.T) {
	k, l, a := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	index := imgtest.SmallIndex(t, "kubelet")
	h := imgtest.Release{Repository: a, Content: index, Signers: signers(k, l)}.Push(t)
	p, err := policyOf(t, k, l, "rules:\n- repositories: ["+a+"]\n  signers: {threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}\n  attestations: [{type: "+attest.PredicateSPDX+"}]\n")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, p)
	attach(t, a, k, describe(t, index), attest.PredicateSPDX, "{}")
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation)
	attach(t, a, l, describe(t, index), attest.PredicateSPDX, "{}")
	if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
		t.Error(err)
	}
}
