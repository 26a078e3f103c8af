package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

func signers(keys ...*sign.Key) []sign.Signer {
	list := make([]sign.Signer, len(keys))
	for i, k := range keys {
		list[i] = k
	}
	return list
}

func TestSignedReleaseIsVerified(t *testing.T) {
	k := imgtest.SigningKey(t)
	for _, tt := range []struct {
		name         string
		release      imgtest.Release
		referrersAPI bool
	}{
		{"bundles and legacy tags", imgtest.Release{}, true},
		{"bundles only", imgtest.Release{NoLegacy: true}, true},
		{"bundles under the fallback tag", imgtest.Release{NoLegacy: true}, false},
		{"legacy tags only, as cosign 2 signs", imgtest.Release{NoBundles: true}, true},
		{"a single image", imgtest.Release{Content: imgtest.SmallImage(t, "bundle", "")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.release.Repository, tt.release.Signers = registryWith(t, tt.referrersAPI), signers(k)
			h := tt.release.Push(t)
			w := newWorld(t, trusting(t, []string{tt.release.Repository}, k))
			v, err := w.Verify(t.Context(), Subject{tt.release.Repository, h})
			if err != nil {
				t.Fatal(err)
			}
			if !v.Valid() || v.Digest() != h || v.Repository() != tt.release.Repository || v.Manifest().Descriptor.Digest != h {
				t.Errorf("verified %v of %v", v.Digest(), v.Repository())
			}
			if r := v.Report(); !slices.Equal(r.Signers, []string{"release-1.pub"}) || len(r.Notes) > 0 {
				t.Errorf("report: %+v", r)
			}
		})
	}
}

func TestVerifiedGivesWhatItsManifestsName(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{a, b}, k))
	v, err := w.Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	children := v.Children()
	if len(children) != 2 {
		t.Fatalf("children: %v", children)
	}
	image, err := children[0].Image()
	if err != nil {
		t.Fatal(err)
	}
	layer := image.Layers[0]
	rc, err := v.Blob(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil || string(body) != "kubelet for amd64" {
		t.Errorf("layer: got %q, %v", body, err)
	}

	// What is handed out is a copy.
	children[0].Body[0] = 'X'
	v.Manifest().Body[0] = 'X'
	if v.Children()[0].Body[0] == 'X' || v.Manifest().Body[0] == 'X' {
		t.Error("a reader can change what was verified")
	}

	// Nobody vouched for a blob that no manifest names.
	layer.Digest = hash("a")
	if _, err := v.Blob(t.Context(), layer); err == nil || !strings.Contains(err.Error(), "nothing in "+a) {
		t.Errorf("unnamed blob: got %v", err)
	}

	// R12: a source that gives other bytes, and then none, is followed by the next.
	w.net.spoil(a, "/blobs/")
	if body, err := v.ReadBlob(t.Context(), image.Layers[0], 1<<20); err != nil || string(body) != "kubelet for amd64" {
		t.Errorf("one source spoilt: got %q, %v", body, err)
	}
	if _, err := v.ReadBlob(t.Context(), image.Layers[0], 3); err == nil {
		t.Error("read more than the limit")
	}
	w.net.kill(b)
	if _, err := v.ReadBlob(t.Context(), image.Layers[0], 1<<20); !oci.Unreachable(err) {
		t.Errorf("one spoilt, one dead: got %v", err)
	}
}

func TestZeroVerifiedIsNoPermission(t *testing.T) {
	var none *Verified
	if none.Valid() || new(Verified).Valid() {
		t.Error("a value that nobody verified is valid")
	}
	v := new(Verified)
	if _, err := v.Blob(t.Context(), v1.Descriptor{Digest: hash("a")}); !errors.Is(err, errNotVerified) {
		t.Errorf("blob of a zero Verified: %v", err)
	}
	if v.Manifest() != nil || len(v.Children()) > 0 || len(v.Sources()) > 0 {
		t.Error("a zero Verified has content")
	}
}

func TestZeroVerifierRefuses(t *testing.T) {
	_, err := new(Verifier).Verify(t.Context(), Subject{"quay.io/poseidon/kubelet", hash("a")})
	refused(t, err, Denied, "no rule of the policy names the repository")
	_, err = (&Verifier{Policy: &Policy{}}).Verify(t.Context(), Subject{"quay.io/poseidon/kubelet", hash("a")})
	refused(t, err, Denied)
}

// S01: nobody signed it. The sibling is TestSignedReleaseIsVerified.
func TestUnsignedIsRefused(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	_, err := w.Verify(t.Context(), Subject{a, h})
	refused(t, err, Unsigned, a+"@"+h.String(), "rule 1 of", "index "+h.String(), "no signature")
}

// S01 for a part: an index vouches for its manifests, but a node pulls those, too.
func TestUnsignedChildIsRefused(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	index := imgtest.SmallIndex(t, "kubelet")
	h := imgtest.Release{Repository: a, Content: index}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	attach(t, a, k, describe(t, index), predicateSignature, "{}")
	attach(t, a, k, m.Manifests[0], predicateSignature, "{}")
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, Unsigned, "linux/arm64 "+m.Manifests[1].Digest.String())

	attach(t, a, k, m.Manifests[1], predicateSignature, "{}")
	if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
		t.Errorf("after the last child was signed: %v", err)
	}
}

// S02: signed, but by somebody else.
func TestOtherSignerIsRefused(t *testing.T) {
	k, mallory, a := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(mallory)}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	_, err := w.Verify(t.Context(), Subject{a, h})
	refused(t, err, WrongSigner, "not signed with a key of the policy", "bundle sha256:")

	w = newWorld(t, trusting(t, []string{a}, k, mallory))
	if v, err := w.Verify(t.Context(), Subject{a, h}); err != nil || !slices.Equal(v.Report().Signers, []string{"release-2.pub"}) {
		t.Errorf("with that key in the policy: %v", err)
	}
}

// S05: the signatures of one release under the name of another.
func TestTransplantedSignatureIsRefused(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	image := imgtest.SmallImage(t, "evil", "amd64")
	h := imgtest.Release{Repository: a, Content: image}.Push(t)
	other, err := sign.Legacy(t.Context(), a, hash("a"), k)
	if err != nil {
		t.Fatal(err)
	}
	pushTag(t, a, sign.LegacyTag(h), other)
	w := newWorld(t, trusting(t, []string{a}, k))
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, WrongSigner, "the payload vouches for "+hash("a").String()+", not for "+h.String())

	// The same with a bundle: its statement is about something else.
	d := describe(t, image)
	pushBundle(t, a, d, bundleOf(t, k, statementAbout(hash("a"), predicateSignature)))
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, WrongSigner, "does not match any digest in statement")

	good, err := sign.Legacy(t.Context(), a, h, k)
	if err != nil {
		t.Fatal(err)
	}
	pushTag(t, a, sign.LegacyTag(h), good)
	v, err := w.Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatalf("with its own signature: %v", err)
	}
	if notes := v.Report().Notes; len(notes) != 1 || !strings.Contains(notes[0], "does not match any digest") {
		t.Errorf("notes about the transplanted bundle: %q", notes)
	}
}

// S08: threshold 2 is two keys, not two signatures.
func TestThresholdCountsKeys(t *testing.T) {
	k, l, a := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	p, err := policyOf(t, k, l, "rules:\n- repositories: ["+a+"]\n  signers: {threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, p)
	h := imgtest.Release{Repository: a, Signers: signers(k, k)}.Push(t) // bundle and two layers, all by k
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, TooFewSigners, "signed by 1 of the policy's signers (k.pub), want 2")

	imgtest.Release{Repository: a, Signers: signers(l), NoLegacy: true}.Push(t)
	if v, err := w.Verify(t.Context(), Subject{a, h}); err != nil || !slices.Equal(v.Report().Signers, []string{"k.pub", "l.pub"}) {
		t.Errorf("signed by both: %v", err)
	}
}

// S08 across sources: each has the signature of one.
func TestSignaturesOfSeveralSourcesAddUp(t *testing.T) {
	k, l, a, b := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	p, err := policyOf(t, k, l, "rules:\n- repositories: ["+a+"]\n  sources: ["+a+", "+b+"]\n  signers: {threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(l)}.Push(t)
	if _, err := newWorld(t, p).Verify(t.Context(), Subject{a, h}); err != nil {
		t.Error(err)
	}
	_, err = newWorld(t, p).Verify(t.Context(), Subject{a, h}, open(t, newWorld(t, p), a))
	refused(t, err, TooFewSigners)
}

// Keys count in their time only, and beyond it the refusal is of its own kind.
func TestS16S17KeysCountInTheirTime(t *testing.T) {
	k, l, a := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	p, err := policyOf(t, k, l, "rules:\n- repositories: ["+a+"]\n  signers: {any: [{key: {file: k.pub, notBefore: 2026-01-01T00:00:00Z, notAfter: 2027-01-31T00:00:00Z}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		clock string
		want  string // "": verified
	}{
		{"2026-01-01T00:00:00Z", ""},
		{"2027-01-31T00:00:00Z", ""},
		{"2025-12-31T23:59:59Z", "signed with k.pub, which counts from 2026-01-01T00:00:00Z only (this machine's clock says 2025-12-31T23:59:59Z)"},
		{"2027-01-31T00:00:01Z", "signed with k.pub, which counted until 2027-01-31T00:00:00Z only"},
		{"1970-01-01T00:00:10Z", "clock says 1970-01-01T00:00:10Z"}, // S17
	} {
		w := newWorld(t, p)
		now, err := time.Parse(time.RFC3339, tt.clock)
		if err != nil {
			t.Fatal(err)
		}
		w.Now = func() time.Time { return now }
		_, err = w.Verify(t.Context(), Subject{a, h})
		if tt.want == "" {
			if err != nil {
				t.Errorf("at %s: %v", tt.clock, err)
			}
			continue
		}
		refused(t, err, Expired, tt.want)
	}
}

// A dead source is never a refusal, and never hides a live one.
func TestSilentSourceIsNotARefusal(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	imgtest.Release{Repository: b}.Push(t) // the same content, without a signature

	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.kill(a)
	_, err := w.Verify(t.Context(), Subject{a, h})
	if r := new(Refusal); errors.As(err, &r) || !oci.Unreachable(err) {
		t.Fatalf("signed one dead, unsigned one alive: got %v", err)
	}
	host, _, _ := strings.Cut(a, "/")
	if n := w.net.asked(host); n > 2 { // one ping, with TLS and without
		t.Errorf("the dead source was asked %d times: %q", n, w.net.log)
	}

	w = newWorld(t, trusting(t, []string{a, b}, k))
	w.net.kill(b)
	if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
		t.Errorf("unsigned one dead, signed one alive: %v", err)
	}
	w.net.kill(a)
	if _, err := w.Verify(t.Context(), Subject{a, h}); !oci.Unreachable(err) {
		t.Errorf("both dead: got %v", err)
	}
}

// Each kind of request may be the one that fails.
func TestSourceThatBreaksHalfwayIsNotARefusal(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	for _, part := range []string{"/referrers/", "/blobs/", ".sig"} {
		for _, status := range []int{503, 401} {
			w := newWorld(t, trusting(t, []string{a}, k, imgtest.SigningKey(t)))
			p := trusting(t, []string{a}, imgtest.SigningKey(t)) // nothing found can suffice
			w.Policy = p
			w.net.answer(a, part, status, "")
			_, err := w.Verify(t.Context(), Subject{a, h})
			if r := new(Refusal); errors.As(err, &r) || err == nil {
				t.Errorf("%s answers %d: got %v", part, status, err)
			}
			if !oci.Unreachable(err) && !oci.Denied(err) {
				t.Errorf("%s answers %d: kind of %v", part, status, err)
			}
		}
	}
}

// R12: bytes that are not what their digest says are one source's problem.
func TestSpoiltSourceIsFollowedByTheNext(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k), NoLegacy: true}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k), NoLegacy: true}.Push(t)
	for _, part := range []string{"/manifests/sha256:", "/blobs/", "/referrers/"} {
		w := newWorld(t, trusting(t, []string{a, b}, k))
		w.net.spoil(a, part)
		if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
			t.Errorf("%s spoilt at one of two: %v", part, err)
		}
		if part == "/manifests/sha256:" {
			w.net.spoil(b, part)
			_, err := w.Verify(t.Context(), Subject{a, h})
			refused(t, err, Mismatch, "sha256 of manifest", "got sha256:", "want "+h.String())
		}
	}
}

func TestDigestThatIsNowhereIsNotFound(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	if _, err := w.Verify(t.Context(), Subject{a, hash("a")}); !oci.NotFound(err) || oci.Unreachable(err) {
		t.Errorf("got %v", err)
	}
}

// M04: the index is there, one of its manifests is not.
func TestIndexWithoutItsManifestIsIncomplete(t *testing.T) {
	k, a, b := imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	imgtest.Release{Repository: b, Signers: signers(k)}.Push(t)
	m, err := imgtest.SmallIndex(t, "kubelet").IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	missing := "/manifests/" + m.Manifests[1].Digest.String()
	w := newWorld(t, trusting(t, []string{a, b}, k))
	w.net.answer(a, missing, 404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
	if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
		t.Errorf("missing at one of two: %v", err)
	}
	w.net.answer(b, missing, 404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, Incomplete, "linux/arm64")
}

func TestIndexThatNamesNothingUsefulIsIncomplete(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imgtest.SmallIndex(t, "kubelet")})
	for name, index := range map[string]interface {
		RawManifest() ([]byte, error)
	}{"nothing": empty.Index, "an index": nested} {
		h := imgtest.Release{Repository: a, Content: taggable(t, index), Signers: signers(k), NoLegacy: true}.Push(t)
		w := newWorld(t, trusting(t, []string{a}, k))
		_, err := w.Verify(t.Context(), Subject{a, h})
		if err == nil {
			t.Fatalf("an index that names %s was accepted", name)
		}
		refused(t, err, Incomplete)
	}
}

// The index says how large a manifest is and of which type; its digest alone
// would let a reader take one and the same thing for an image and an index.
func TestManifestMustBeWhatTheIndexSays(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	m, err := imgtest.SmallIndex(t, "kubelet").IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	imgtest.Release{Repository: a}.Push(t)
	for name, edit := range map[string]func(*v1.Descriptor){
		"":     func(*v1.Descriptor) {},
		"size": func(d *v1.Descriptor) { d.Size++ },
		"type": func(d *v1.Descriptor) { d.MediaType = "application/vnd.docker.distribution.manifest.v2+json" },
	} {
		w := newWorld(t, trusting(t, []string{a}, k))
		lying := m.DeepCopy()
		edit(&lying.Manifests[1])
		body, err := json.Marshal(lying)
		if err != nil {
			t.Fatal(err)
		}
		h := digestOf(string(body))
		w.net.add(serve(a, "manifests/"+h.String(), string(m.MediaType), string(body)))
		_, err = w.Verify(t.Context(), Subject{a, h})
		if name == "" {
			refused(t, err, Unsigned) // whole, and nobody signed it
			continue
		}
		refused(t, err, Mismatch, "linux/arm64", "the index says")
	}
}

// Evidence that two sources have is read and reported once.
func TestEvidenceIsReadOnce(t *testing.T) {
	k, mallory, a, b := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	image := imgtest.SmallImage(t, "kubelet", "amd64")
	var h v1.Hash
	for _, repository := range []string{a, b} {
		h = imgtest.Release{Repository: repository, Content: image, Signers: signers(mallory), NoLegacy: true}.Push(t)
	}
	w := newWorld(t, trusting(t, []string{a, b}, k))
	_, err := w.Verify(t.Context(), Subject{a, h})
	refused(t, err, WrongSigner)
	if r := new(Refusal); errors.As(err, &r) && len(r.Notes) != 1 {
		t.Errorf("notes: %q", r.Notes)
	}
	if n := w.net.asked("/blobs/"); n != 1 {
		t.Errorf("%d blobs were fetched", n)
	}
}

// S26: what was verified stays what is used when the tag moves.
func TestTagThatMovesDoesNotChangeWhatWasVerified(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k), Tags: []string{"v1"}}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	v, err := w.Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	imgtest.Release{Repository: a, Content: imgtest.SmallIndex(t, "evil"), Tags: []string{"v1"}}.Push(t)
	image, err := v.Children()[0].Image()
	if err != nil {
		t.Fatal(err)
	}
	body, err := v.ReadBlob(t.Context(), image.Layers[0], 1<<20)
	if err != nil || !bytes.Equal(body, []byte("kubelet for amd64")) {
		t.Errorf("got %q, %v", body, err)
	}
	if n := w.net.asked("/manifests/v1"); n != 0 {
		t.Errorf("the tag was asked for %d times", n)
	}
}

func TestInterruptedVerificationSaysSo(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Verify(ctx, Subject{a, h}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The constants are copies, so that a node does not link what makes SBOMs.
func TestPredicateTypesAreThoseOfAttest(t *testing.T) {
	if predicateSignature != attest.PredicateSignature || predicateProvenance != attest.PredicateProvenance {
		t.Error("predicate types differ from those of package attest")
	}
	if predicateAnnotation != sign.PredicateTypeAnnotation ||
		!strings.HasPrefix(sign.BundleMediaType, bundleMediaTypePrefix) {
		t.Error("media types and annotations differ from those of package sign")
	}
}

func TestReportIsJSON(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	v, err := newWorld(t, trusting(t, []string{a}, k)).Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(v.Report())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"digest":"` + h.String() + `"`, `"signers":["release-1.pub"]`, `"name":"linux/arm64"`, `"sources":["` + a + `"]`} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("%s lacks %s", doc, want)
		}
	}
}
