package verify

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// inspect inspects the tag v1 of the first repository.
func (w *world) inspect(t *testing.T, repository string) *Inspection {
	t.Helper()
	in, err := w.Inspect(t.Context(), oci.Reference{Repository: repository, Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func verdicts(in *Inspection) []Verdict {
	var list []Verdict
	for _, s := range in.Sources {
		list = append(list, s.Verdict)
	}
	return list
}

// expect compares the overall verdict and that of each source.
func expect(t *testing.T, in *Inspection, want Verdict, sources ...Verdict) {
	t.Helper()
	if in.Verdict != want || !slices.Equal(verdicts(in), sources) {
		t.Errorf("got %s, %v; want %s, %v\n%s\n%+v", in.Verdict, verdicts(in), want, sources, in.Conclusion, in.Sources)
	}
	if (in.Err == nil) != (want == VerdictVerified) {
		t.Errorf("verdict %s with error %v", in.Verdict, in.Err)
	}
	if (in.Verified != nil) != (in.Digest != "") || in.Verified != nil && in.Verified.Digest().String() != in.Digest {
		t.Errorf("digest %q, verified %v", in.Digest, in.Verified)
	}
}

func TestInspectHealthyRelease(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	in := newWorld(t, trusting(t, []string{a, b}, k)).inspect(t, a)
	expect(t, in, VerdictVerified, VerdictVerified, VerdictVerified)
	if in.Digest != h.String() || in.Through != a || in.Conclusion != "Verified through "+a+" (index, 2 platforms)." {
		t.Errorf("inspection: %+v", in)
	}
	if s := in.Sources[1]; !s.Answers || s.Source != b || !slices.Equal(s.Signers, []string{"release-1.pub"}) || s.Detail != "" {
		t.Errorf("row: %+v", s)
	}
}

// The outage: the first registry is dead, the second has the release.
func TestInspectOutage(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.answer(a, "/", 503, "")
	in := w.inspect(t, a)
	expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
	if in.Digest != h.String() || in.Through != b {
		t.Errorf("inspection: %+v", in)
	}
	if want := "Verified through " + b + " (index, 2 platforms). " + a + " could not be asked; nothing says that it changed."; in.Conclusion != want {
		t.Errorf("got  %q\nwant %q", in.Conclusion, want)
	}
	if s := in.Sources[0]; s.Answers || s.Digest != "" || !strings.Contains(s.Detail, "503") {
		t.Errorf("row: %+v", s)
	}

	w.net.kill(b)
	in = w.inspect(t, a)
	expect(t, in, VerdictUnknown, VerdictUnknown, VerdictUnknown)
	if !oci.Unreachable(in.Err) || in.Conclusion != "Whether "+a+":v1 may be used is not known: "+a+" and "+b+" could not be asked." {
		t.Errorf("%v\n%s", in.Err, in.Conclusion)
	}
}

// The breach: the first registry's tag was moved to something that nobody signed.
func TestInspectBreach(t *testing.T) {
	k, mallory, a, b := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	evil := imgtest.Release{Repository: a, Content: imgtest.SmallIndex(t, "evil"), Signers: signers(mallory), Tags: []string{"v1"}}.Push(t)
	h := imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	in := newWorld(t, trusting(t, []string{a, b}, k)).inspect(t, a)
	expect(t, in, VerdictChanged, VerdictChanged, VerdictVerified)
	var changed *oci.Changed
	if !errors.As(in.Err, &changed) || changed.Repository != a || changed.Tag != "v1" || changed.Got != evil || changed.Want != h {
		t.Errorf("error: %v", in.Err)
	}
	if want := a + ":v1 does not point at what is signed. Do not pull it from there. Use the verified copy by digest: " + b + "@" + h.String() + "."; in.Conclusion != want {
		t.Errorf("got  %q\nwant %q", in.Conclusion, want)
	}
	if s := in.Sources[0]; !s.Answers || s.Digest != evil.String() || len(s.Signers) > 0 || !strings.Contains(s.Detail, "want "+h.String()) || !strings.Contains(s.Detail, "not signed with a key") {
		t.Errorf("row: %+v", s)
	}
}

// The same at the second registry, and a tag put back to an older signed release.
func TestInspectRollbackAtOneSource(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	old := imgtest.Release{Repository: b, Content: imgtest.SmallIndex(t, "old"), Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	in := w.inspect(t, a)
	expect(t, in, VerdictChanged, VerdictVerified, VerdictChanged)
	if in.Digest != h.String() || in.Sources[1].Digest != old.String() || len(in.Sources[1].Signers) != 1 {
		t.Errorf("inspection: %+v", in)
	}
	// With the first one dead the second decides: there is nothing to compare with.
	w.net.kill(a)
	in = w.inspect(t, a)
	expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
	if in.Digest != old.String() {
		t.Errorf("digest: %s", in.Digest)
	}
}

func TestInspectUnsignedEverywhere(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: a, Tags: []string{"v1"}}.Push(t)
	imgtest.Release{Repository: b, Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	in := w.inspect(t, a)
	expect(t, in, VerdictRefused, VerdictRefused, VerdictRefused)
	refused(t, in.Err, Unsigned)
	// One that cannot be asked may have the signatures: not known, not refused.
	w.net.kill(b)
	in = w.inspect(t, a)
	expect(t, in, VerdictUnknown, VerdictRefused, VerdictUnknown)
	if r := new(Refusal); !oci.Unreachable(in.Err) || errors.As(in.Err, &r) || !strings.Contains(in.Err.Error(), "no signature") {
		t.Errorf("error: %v", in.Err)
	}
}

func TestInspectAbsent(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	in := w.inspect(t, a)
	expect(t, in, VerdictAbsent, VerdictAbsent, VerdictAbsent)
	if !oci.NotFound(in.Err) || in.Conclusion != "Every source has answered: there is no "+a+":v1." {
		t.Errorf("%v\n%s", in.Err, in.Conclusion)
	}
	// A mirror that lags is no breach.
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	expect(t, w.inspect(t, a), VerdictVerified, VerdictAbsent, VerdictVerified)
}

// A mirror has the bytes, the origin the signatures.
func TestInspectCombinesSourcesOfOneDigest(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: a, Tags: []string{"v1"}}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	in := newWorld(t, trusting(t, []string{a, b}, k)).inspect(t, a)
	expect(t, in, VerdictVerified, VerdictVerified, VerdictVerified)
	if !strings.Contains(in.Sources[0].Detail, "found at another source") || in.Sources[1].Detail != "" {
		t.Errorf("rows: %+v", in.Sources)
	}
}

// Bytes that are not those of the digest are refused at that source only.
func TestInspectSpoiltSource(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: a, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.spoil(a, "/manifests/sha256:")
	expect(t, w.inspect(t, a), VerdictVerified, VerdictRefused, VerdictVerified)
}

func TestInspectDigest(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	in, err := w.Inspect(t.Context(), oci.Reference{Repository: a, Digest: h})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, in, VerdictVerified, VerdictVerified, VerdictAbsent)

	// With a tag the digest wins, and the tag is compared with it.
	imgtest.Release{Repository: b, Content: imgtest.SmallIndex(t, "evil"), Tags: []string{"v1"}}.Push(t)
	in, err = w.Inspect(t.Context(), oci.Reference{Repository: a, Tag: "v1", Digest: h})
	if err != nil {
		t.Fatal(err)
	}
	if in.Verdict != VerdictChanged || in.Sources[1].Verdict != VerdictChanged {
		t.Errorf("inspection: %+v", in)
	}
}

// The user may ask about a repository that the rule names but does not list as a source.
func TestInspectAsksWhatWasNamed(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: a, Tags: []string{"v1"}, Content: imgtest.SmallIndex(t, "evil")}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	p, err := policyOf(t, k, k, "rules:\n- repositories: ["+a+"]\n  sources: ["+b+"]\n  signers: {any: [{key: {file: k.pub}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, newWorld(t, p).inspect(t, a), VerdictChanged, VerdictChanged, VerdictVerified)
}

func TestInspectRefusesWhatItCannotAsk(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	if _, err := w.Inspect(t.Context(), oci.Reference{Repository: a}); err == nil || !strings.Contains(err.Error(), "want a tag or a digest") {
		t.Errorf("no tag: %v", err)
	}
	in, err := w.Inspect(t.Context(), oci.Reference{Repository: "quay.io/other/image", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, in, VerdictRefused)
	refused(t, in.Err, Denied)
	if len(in.Sources) > 0 || in.Reason != Denied || !strings.Contains(in.Conclusion, "nobody was asked") {
		t.Errorf("inspection: %+v", in)
	}
}

// A source that never answers costs its budget, and the others do not wait for it.
func TestInspectKeepsItsBudget(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	imgtest.Release{Repository: b, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.swallow(a)
	w.Budget = time.Second
	in := w.inspect(t, a)
	expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
	if in.Through != b {
		t.Errorf("through %s", in.Through)
	}

	// Too late is unknown, also halfway through a verification.
	w = newWorld(t, trusting(t, []string{b}, k))
	w.net.swallow(b + "/referrers/")
	w.Budget = time.Second
	in = w.inspect(t, b)
	expect(t, in, VerdictUnknown, VerdictUnknown)
	if !oci.Unreachable(in.Err) {
		t.Errorf("error: %v", in.Err)
	}
}

func TestInspectionIsJSON(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k), Tags: []string{"v1"}, Attest: map[string]string{attest.PredicateSPDX: "{}"}}.Push(t)
	doc, err := json.Marshal(newWorld(t, trusting(t, []string{a}, k)).inspect(t, a))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"apiVersion":"imgctl.dev/v1","kind":"Inspection","reference":"` + a + `:v1","verdict":"verified"`,
		`(index, 2 platforms, 3 attestations)`, `"digest":"` + h.String() + `"`, `"answers":true`, `"report":{`,
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("%s\nlacks %s", doc, want)
		}
	}
}
