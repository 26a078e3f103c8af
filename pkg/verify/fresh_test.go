package verify

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
	"github.com/imgctl/imgctl/pkg/sign"
)

// publishStatement puts a signed statement where verifiers find it.
func publishStatement(t *testing.T, repository string, s *ReleaseStatement, by ...sign.Signer) {
	t.Helper()
	doc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	publishDocument(t, repository, doc, true, by...)
}

func publishDocument(t *testing.T, repository string, doc []byte, inline bool, by ...sign.Signer) {
	t.Helper()
	a := artifact.Artifact{ArtifactType: StatementArtifactType}
	for _, k := range by {
		a.Layers = append(a.Layers, artifact.Content{MediaType: sign.BundleMediaType, Body: bundleOf(t, k, doc), Inline: inline})
	}
	img, err := a.Image()
	if err != nil {
		t.Fatal(err)
	}
	release := oci.Release{Subject: img, Tags: []string{StatementTag}, Overwrite: "test"}
	if _, err := (&oci.Client{}).Publish(t.Context(), release, oci.Destination{Repository: repository}); err != nil {
		t.Fatal(err)
	}
}

// statementNaming is statement 7, issued yesterday for 30 days, of the digest.
func statementNaming(h v1.Hash) *ReleaseStatement {
	return &ReleaseStatement{
		Sequence: 7, Issued: noon.Add(-24 * time.Hour), Expires: noon.Add(29 * 24 * time.Hour), Repositories: []string{"quay.io/poseidon/kubelet"},
		Artifacts: []ReleasedArtifact{{Name: "kubelet", Version: "v1.36.2", Digest: h.String(), Sequence: 7}},
	}
}

// freshPolicy asks for freshness in the repositories.
func freshPolicy(t *testing.T, k, l *sign.Key, freshness string, threshold int, repositories ...string) *Policy {
	t.Helper()
	list := `["` + strings.Join(repositories, `", "`) + `"]`
	p, err := policyOf(t, k, l, fmt.Sprintf(`rules:
- repositories: %s
  sources: %s
  signers: {threshold: %d, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}
  freshness: %s
`, list, list, threshold, freshness))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// M07, M09: what is signed is used only while the newest release statement names
// it: rollback, freeze, fast-forward, mix-and-match and revocation each have
// their own reason, and each has a sibling that is just not one.
func TestM07M09ReleaseStatementDecidesWhatIsCurrent(t *testing.T) {
	k, l, stranger := imgtest.SigningKey(t), imgtest.SigningKey(t), imgtest.SigningKey(t)
	repository := newRegistry(t)
	h := imgtest.Release{Repository: repository, Signers: signers(k, l), NoLegacy: true}.Push(t)
	content, err := newWorld(t, trusting(t, []string{repository}, k)).Verify(t.Context(), Subject{repository, h})
	if err != nil {
		t.Fatal(err)
	}
	child := content.Children()[0].Descriptor.Digest.String()
	other := hash("e").String()
	for _, tt := range []struct {
		name      string
		edit      func(s *ReleaseStatement)
		freshness string // of the policy
		seen      int64
		threshold int
		by        []sign.Signer
		want      Reason // "": verified
	}{
		{name: "current"},
		{name: "named as an earlier one", edit: func(s *ReleaseStatement) {
			s.Earlier, s.Artifacts = s.Artifacts, []ReleasedArtifact{{Name: "kubelet", Digest: other, Sequence: 7}}
		}},
		{name: "expires now", edit: func(s *ReleaseStatement) { s.Expires = noon }, want: Stale},
		{name: "expires in a second", edit: func(s *ReleaseStatement) { s.Expires = noon.Add(time.Second) }},
		{name: "older than the policy allows", freshness: "{maxAge: 23h}", want: Stale},
		{name: "as old as the policy allows", freshness: "{maxAge: 24h}"},
		{name: "before what was seen", seen: 8, want: RolledBack},
		{name: "what was seen", seen: 7},
		{name: "far ahead of what was seen", seen: 7, edit: func(s *ReleaseStatement) { s.Sequence = 7 + maxLeap + 1 }, want: FastForward},
		{name: "as far ahead as can be", seen: 7, edit: func(s *ReleaseStatement) { s.Sequence = 7 + maxLeap }},
		{name: "from the future", edit: func(s *ReleaseStatement) { s.Issued = noon.Add(clockSkew + time.Second) }, want: FastForward},
		{name: "from a clock that is a little ahead", edit: func(s *ReleaseStatement) { s.Issued = noon.Add(clockSkew) }},
		{name: "revoked", edit: func(s *ReleaseStatement) { s.Artifacts, s.Revoked = nil, []string{h.String()} }, want: Revoked},
		{name: "a part is revoked", edit: func(s *ReleaseStatement) { s.Revoked = []string{child} }, want: Revoked},
		{name: "another is revoked", edit: func(s *ReleaseStatement) { s.Revoked = []string{other} }},
		{name: "of no release", edit: func(s *ReleaseStatement) { s.Artifacts[0].Digest = other }, want: Mixed},
		{name: "signed by a stranger", by: signers(stranger), want: NoStatement},
		{name: "signed by one of two", threshold: 2, by: signers(k), want: NoStatement},
		{name: "signed by one of two, twice", threshold: 2, by: signers(k, k), want: NoStatement},
		{name: "signed by two", threshold: 2, by: signers(k, l)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := statementNaming(h)
			if tt.edit != nil {
				tt.edit(s)
			}
			if tt.by == nil {
				tt.by = signers(k)
			}
			publishStatement(t, repository, s, tt.by...)
			if tt.freshness == "" {
				tt.freshness = "{}"
			}
			w := newWorld(t, freshPolicy(t, k, l, tt.freshness, max(tt.threshold, 1), repository))
			w.Seen = map[string]int64{repository: tt.seen}
			v, err := w.Verify(t.Context(), Subject{repository, h})
			if n := w.net.asked(StatementTag); n != 1 {
				t.Errorf("%d requests for the statement, want 1", n)
			}
			if tt.want != "" {
				refused(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r := v.Report().Release; r == nil || r.Sequence != s.Sequence || r.Since != 7 && tt.seen == 0 {
				t.Errorf("report: %+v", r)
			}
		})
	}
}

// A source without a statement, and one with something else in its place, are refused.
func TestNoReleaseStatementIsARefusalAndNotAnOutage(t *testing.T) {
	k, l := imgtest.SigningKey(t), imgtest.SigningKey(t)
	repository := newRegistry(t)
	h := imgtest.Release{Repository: repository, Signers: signers(k)}.Push(t)
	w := newWorld(t, freshPolicy(t, k, l, "{}", 1, repository))
	_, err := w.Verify(t.Context(), Subject{repository, h})
	refused(t, err, NoStatement)

	publishDocument(t, repository, statementAbout(h, predicateSignature), true, k)
	_, err = w.Verify(t.Context(), Subject{repository, h})
	refused(t, err, NoStatement, "predicate type")

	doc, err := statementNaming(h).Encode()
	if err != nil {
		t.Fatal(err)
	}
	publishDocument(t, repository, doc, false, k) // as a blob, as a copy may have it
	if _, err = w.Verify(t.Context(), Subject{repository, h}); err != nil {
		t.Error(err)
	}
}

// One mirror that holds back the newest statement hides nothing; when the others
// cannot be asked, an older one counts until it expires, and then nobody knows.
func TestNewestReleaseStatementOfAllSourcesDecides(t *testing.T) {
	k, l := imgtest.SigningKey(t), imgtest.SigningKey(t)
	mirror, origin := newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: mirror, Signers: signers(k)}.Push(t)
	imgtest.Release{Repository: origin, Signers: signers(k)}.Push(t)
	old, revoking := statementNaming(h), statementNaming(h)
	revoking.Sequence, revoking.Artifacts, revoking.Revoked = 8, nil, []string{h.String()}
	publishStatement(t, mirror, old, k)
	publishStatement(t, origin, revoking, k)
	policy := freshPolicy(t, k, l, "{}", 1, mirror, origin)

	w := newWorld(t, policy)
	_, err := w.Verify(t.Context(), Subject{mirror, h})
	refused(t, err, Revoked)
	in, err := w.Inspect(t.Context(), oci.Reference{Repository: mirror, Digest: h})
	if err != nil || in.Verdict != VerdictRefused || in.Reason != Revoked || in.Verified != nil {
		t.Errorf("inspection: got %v, %+v", err, in)
	}

	w = newWorld(t, policy)
	w.net.kill(origin)
	if _, err := w.Verify(t.Context(), Subject{mirror, h}); err != nil {
		t.Errorf("with the origin dead: %v", err)
	}
	w = newWorld(t, policy)
	w.net.kill(origin)
	w.Now = func() time.Time { return old.Expires }
	_, err = w.Verify(t.Context(), Subject{mirror, h})
	if !oci.Unreachable(err) || errors.As(err, new(*Refusal)) {
		t.Errorf("with the origin dead and the statement expired: got %v, want unknown", err)
	}
}

// Whoever does not ask for freshness is not asked to have a statement.
func TestPolicyWithoutFreshnessAsksForNoStatement(t *testing.T) {
	k := imgtest.SigningKey(t)
	repository := newRegistry(t)
	h := imgtest.Release{Repository: repository, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{repository}, k))
	if _, err := w.Verify(t.Context(), Subject{repository, h}); err != nil || w.net.asked(StatementTag) != 0 {
		t.Errorf("got %v and %d requests for a statement, want none", err, w.net.asked(StatementTag))
	}
}

func TestFreshnessOfAPolicyIsStrict(t *testing.T) {
	k := imgtest.SigningKey(t)
	for age, want := range map[string]string{"720h": "", "30d": "maxAge", "59m": "maxAge", "-720h": "maxAge"} {
		_, err := policyOf(t, k, k, "rules:\n- repositories: [quay.io/a/b]\n  signers: {any: [{key: {file: k.pub}}]}\n  freshness: {maxAge: "+age+"}\n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "policy.yaml:6:") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", age, err, want)
		}
	}
}

// FuzzRelease: what is read can be written, and is read as the same.
func FuzzRelease(f *testing.F) {
	good := `{"sequence":7,"issued":"2026-07-01T12:00:00Z","expires":"2026-07-31T12:00:00Z","repositories":["a/b"],"artifacts":[{"name":"kubelet","digest":"sha256:` + strings.Repeat("a", 64) + `","sequence":7}]}`
	f.Add(good)
	f.Add(strings.Replace(good, `"sequence":7,"issued"`, `"sequence":0,"issued"`, 1))
	f.Add(strings.Replace(good, "artifacts", "revoked", 1))
	f.Add(good + good)
	f.Fuzz(func(t *testing.T, doc string) {
		s, err := parseRelease([]byte(doc))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		signed, err := s.Encode()
		if err != nil {
			return // too many subjects, or none
		}
		again, err := readRelease(signed)
		if err != nil {
			t.Fatalf("%s: %v", signed, err)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(signed) {
			t.Errorf("got %s (%v), want %s", twice, err, signed)
		}
	})
}

func TestReleaseStatementThatSaysTwoThingsIsNone(t *testing.T) {
	for name, edit := range map[string]func(s *ReleaseStatement){
		"as it should be":     nil,
		"no sequence":         func(s *ReleaseStatement) { s.Sequence = 0 },
		"expires when issued": func(s *ReleaseStatement) { s.Expires = s.Issued },
		"revoked and named":   func(s *ReleaseStatement) { s.Revoked = []string{s.Artifacts[0].Digest} },
		"named twice":         func(s *ReleaseStatement) { s.Earlier = s.Artifacts },
		"of a later release":  func(s *ReleaseStatement) { s.Artifacts[0].Sequence = 8 },
		"no digest":           func(s *ReleaseStatement) { s.Artifacts[0].Digest = "sha256:abc" },
		"about nothing":       func(s *ReleaseStatement) { s.Artifacts = nil },
	} {
		s := statementNaming(hash("a"))
		if edit != nil {
			edit(s)
		}
		if _, err := s.Encode(); (err == nil) != (edit == nil) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
