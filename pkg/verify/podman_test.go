package verify

import (
	"bytes"
	"slices"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// What podman would find is the name in the older signatures of the manifests.
func TestSignedAsIsWhatPodmanWouldFind(t *testing.T) {
	k, mallory := imgtest.SigningKey(t), imgtest.SigningKey(t)
	for name, tt := range map[string]struct {
		release imgtest.Release
		found   bool
	}{
		"both layouts":      {imgtest.Release{Signers: signers(k)}, true},
		"a single image":    {imgtest.Release{Signers: signers(k), Content: imgtest.SmallImage(t, "kubelet", "amd64")}, true},
		"bundles only":      {imgtest.Release{Signers: signers(k), NoLegacy: true}, false},
		"by somebody else":  {imgtest.Release{Signers: signers(mallory)}, false},
		"by both":           {imgtest.Release{Signers: signers(mallory, k)}, true},
		"nobody has signed": {imgtest.Release{}, false},
	} {
		a := newRegistry(t)
		tt.release.Repository = a
		h := tt.release.Push(t)
		w := newWorld(t, trusting(t, []string{a}, k))
		got, err := w.SignedAs(t.Context(), Subject{a, h}, open(t, w, a))
		if err != nil || (got == a) != tt.found || !tt.found && got != "" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		w.net.answer(a, ".sig", 503, "")
		if _, err := w.SignedAs(t.Context(), Subject{a, h}, open(t, w, a)); !oci.Unreachable(err) {
			t.Errorf("%s, with the registry failing: got %v", name, err)
		}
	}
}

// A name that only some of the manifests are signed under does for none.
func TestSignedAsIsANameOfEveryManifest(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	m, err := open(t, w, a).Manifest(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	ix, err := m.Index()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "quay.io/x/y"} { // the children are signed under another name, one after the other
		child := ix.Manifests[len(ix.Manifests)-1-i].Digest
		img, err := sign.Legacy(t.Context(), "quay.io/x/y", child, k)
		if err != nil {
			t.Fatal(err)
		}
		pushTag(t, a, sign.LegacyTag(child), img)
		if got, err := w.SignedAs(t.Context(), Subject{a, h}, open(t, w, a)); err != nil || got != want {
			t.Errorf("with %d of %d under another name: got %q, %v, want %q", i+1, len(ix.Manifests), got, err, want)
		}
	}
}

// A payload names a repository in the spelling of its signer, without a tag.
func TestNameInAPayload(t *testing.T) {
	for in, want := range map[string]string{
		"quay.io/poseidon/kubelet":     "quay.io/poseidon/kubelet",
		"index.docker.io/psdn/kubelet": "docker.io/psdn/kubelet",
		"quay.io/poseidon/kubelet:v1":  "",
		"quay.io/Poseidon/kubelet":     "",
		"":                             "",
		"oci:dir":                      "",
	} {
		if got := payloadName([]byte(`{"critical":{"identity":{"docker-reference":"` + in + `"}}}`)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := payloadName([]byte("no JSON")); got != "" {
		t.Errorf("got %q", got)
	}
}

// Programs that know nothing but keys are told what the rule means, or nothing.
func TestKeysOfARuleAreNeverWiderThanTheRule(t *testing.T) {
	k, l := imgtest.SigningKey(t), imgtest.SigningKey(t)
	for _, tt := range []struct {
		signers string
		want    int // keys; 0: it cannot be said
		all     bool
	}{
		{"{any: [{key: {file: k.pub}}]}", 1, false},
		{"{any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}", 2, false},
		{"{threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}", 2, true},
		{"{any: [{key: {file: k.pub}}, {key: {file: l.pub, notAfter: 2025-01-01T00:00:00Z}}]}", 1, false},
		{"{threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub, notAfter: 2025-01-01T00:00:00Z}}]}", 0, false},
		{"{any: [{key: {file: k.pub}}, {keyless: {issuer: https://a, subject: b}}]}", 0, false},
		{"{threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}, {key: {file: n.pub}}]}", 0, false},
		{"{threshold: 3, any: [{key: {file: k.pub}}, {key: {file: l.pub}}, {key: {file: n.pub}}]}", 3, true},
		{"{threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}, {keyless: {issuer: https://a, subject: b}}]}", 0, false},
	} {
		p, err := policyOf(t, k, l, "rules:\n- repositories: [quay.io/a/b]\n  signers: "+tt.signers+"\n")
		if err != nil {
			t.Fatal(err)
		}
		r, _ := p.Rule("quay.io/a/b")
		keys, all, err := r.Keys(noon)
		if (err == nil) != (tt.want > 0) || err == nil && (len(keys) != tt.want || all != tt.all || !bytes.Equal(keys[0], k.PublicPEM())) {
			t.Errorf("%s: got %d keys, all %v, %v", tt.signers, len(keys), all, err)
		}
	}
}

// legacySigned pushes an unsigned image and an image of signatures by the signers, in order.
func legacySigned(t *testing.T, repository string, by ...sign.Signer) Subject {
	t.Helper()
	d, s := unsignedImage(t, repository)
	img, err := sign.Legacy(t.Context(), "quay.io/x/y", d.Digest, by...)
	if err != nil {
		t.Fatal(err)
	}
	pushTag(t, repository, sign.LegacyTag(d.Digest), img)
	return s
}

// S07: the same payload, signed by somebody else at the source before, hides nothing.
func TestS07SamePayloadBySomebodyElseHidesNothing(t *testing.T) {
	k, mallory, a, b := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t), newRegistry(t)
	s := legacySigned(t, a, mallory)
	legacySigned(t, b, k)
	if _, err := newWorld(t, trusting(t, []string{a, b}, k)).Verify(t.Context(), s); err != nil {
		t.Error(err)
	}
	_, err := newWorld(t, trusting(t, []string{a}, k)).Verify(t.Context(), s)
	refused(t, err, WrongSigner)
}

// S07, S21: of many signatures so many are examined, and no more.
func TestS21SignaturesBeyondTheBoundAreNotExamined(t *testing.T) {
	k, mallory := imgtest.SigningKey(t), imgtest.SigningKey(t)
	for bad, good := range map[int]bool{maxLayers - 1: true, maxLayers: false} {
		a := newRegistry(t)
		s := legacySigned(t, a, append(slices.Repeat([]sign.Signer{mallory}, bad), k)...)
		_, err := newWorld(t, trusting(t, []string{a}, k)).Verify(t.Context(), s)
		if (err == nil) != good {
			t.Errorf("after %d others: got %v", bad, err)
		}
	}
}
