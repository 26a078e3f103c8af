package verify

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/sign"
)

const provenanceBy = `{"runDetails":{"builder":{"id":"https://github.com/imgctl/imgctl"}}}`

func attested(t *testing.T, k *sign.Key, repository, attestations string) *world {
	t.Helper()
	p, err := policyOf(t, k, imgtest.SigningKey(t), "rules:\n- repositories: ["+repository+"]\n  signers: {any: [{key: {file: k.pub}}]}\n  attestations: ["+attestations+"]\n")
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, p)
}

func TestRequiredAttestationsMustBeThere(t *testing.T) {
	k, mallory, a := imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	w := attested(t, k, a, "{type: "+attest.PredicateProvenance+"}, {type: "+attest.PredicateSPDX+"}")
	index := imgtest.SmallIndex(t, "kubelet")
	h := imgtest.Release{Repository: a, Content: index, Signers: signers(k)}.Push(t)
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation, "index "+h.String(), "no attestation "+attest.PredicateProvenance)

	// On the index it covers what the index names.
	attach(t, a, k, describe(t, index), attest.PredicateProvenance, provenanceBy)
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation, "no attestation "+attest.PredicateSPDX)

	// S09: another predicate type is another statement, also one with that prefix.
	attach(t, a, k, describe(t, index), attest.PredicateSPDX+"/v2.3", "{}")
	// S02 for attestations.
	attach(t, a, mallory, describe(t, index), attest.PredicateSPDX, "{}")
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation, "no attestation "+attest.PredicateSPDX, "not signed with a key of the policy")

	// On the manifests it must be on each.
	attach(t, a, k, m.Manifests[0], attest.PredicateSPDX, "{}")
	_, err = w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation, "linux/arm64 "+m.Manifests[1].Digest.String())

	attach(t, a, k, m.Manifests[1], attest.PredicateSPDX, "{}")
	v, err := w.Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	if parts := v.Report().Parts; len(parts) != 3 || len(parts[2].Attestations) != 1 || parts[2].Attestations[0] != attest.PredicateSPDX {
		t.Errorf("report: %+v", parts)
	}
}

func TestBuilderMustBeTheOneThatIsWanted(t *testing.T) {
	k := imgtest.SigningKey(t)
	for _, tt := range []struct {
		predicate string
		want      string // "": verified
	}{
		{provenanceBy, ""},
		{`{"runDetails":{"builder":{"id":"https://evil.example/imgctl"}}}`, `builder: got "https://evil.example/imgctl", want https://github.com/imgctl/imgctl`},
		{`{"runDetails":{"builder":{"id":"https://github.com/imgctl/imgctl/"}}}`, "builder: got"},
		{`{"runDetails":{"builder":{"id":7}}}`, `builder: got ""`},
		{`{"runDetails":[]}`, `builder: got ""`},
		{`{}`, `builder: got ""`},
	} {
		a := newRegistry(t)
		w := attested(t, k, a, "{type: "+attest.PredicateProvenance+", builder: https://github.com/imgctl/imgctl}")
		h := imgtest.Release{Repository: a, Signers: signers(k), Attest: map[string]string{attest.PredicateProvenance: tt.predicate}}.Push(t)
		_, err := w.Verify(t.Context(), Subject{a, h})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.predicate, err)
			}
			continue
		}
		refused(t, err, MissingAttestation, tt.want)
	}
}

// S09, CVE-2022-35929: the type of an attestation is what is signed, and not what
// the manifest or the layer around it says.
func TestS09AttestationIsOfTheTypeThatIsSigned(t *testing.T) {
	k, index := imgtest.SigningKey(t), imgtest.SmallIndex(t, "kubelet")
	d := describe(t, index)
	slsa, spdx := attest.PredicateProvenance, attest.PredicateSPDX
	for name, attachAs := range map[string]func(t *testing.T, repository, signed, said string){
		"bundle": func(t *testing.T, repository, signed, said string) {
			about := sign.Attestation{Subject: d, PredicateType: said, Signed: &sign.Signed{Bundle: bundleOf(t, k, statementAbout(d.Digest, signed))}}
			img, err := about.Image()
			if err != nil {
				t.Fatal(err)
			}
			pushDigest(t, repository, img)
		},
		"legacy": func(t *testing.T, repository, signed, said string) {
			about := sign.Attestation{Subject: d, PredicateType: said, Signed: &sign.Signed{Bundle: bundleOf(t, k, statementAbout(d.Digest, signed))}}
			img, err := sign.LegacyAttestations(&about)
			if err != nil {
				t.Fatal(err)
			}
			pushTag(t, repository, sign.LegacyAttestationTag(d.Digest), img)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newRegistry(t)
			w := attested(t, k, a, "{type: "+spdx+"}")
			h := imgtest.Release{Repository: a, Content: index, Signers: signers(k)}.Push(t)
			attachAs(t, a, slsa, spdx)
			_, err := w.Verify(t.Context(), Subject{a, h})
			refused(t, err, MissingAttestation, "no attestation "+spdx)

			attachAs(t, a, spdx, slsa)
			if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
				t.Errorf("signed as %s: %v", spdx, err)
			}
		})
	}
}

// The SBOM of another image, attached to this one.
func TestS24AttestationOfAnotherDigestDoesNotCount(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := attested(t, k, a, "{type: "+attest.PredicateSPDX+"}")
	image := imgtest.SmallImage(t, "kubelet", "amd64")
	h := imgtest.Release{Repository: a, Content: image, Signers: signers(k)}.Push(t)
	about := statementAbout(hash("b"), attest.PredicateSPDX)
	pushBundle(t, a, describe(t, image), bundleOf(t, k, about))
	_, err := w.Verify(t.Context(), Subject{a, h})
	refused(t, err, MissingAttestation, "does not match any digest in statement")

	attach(t, a, k, describe(t, image), attest.PredicateSPDX, "{}")
	if _, err := w.Verify(t.Context(), Subject{a, h}); err != nil {
		t.Errorf("with its own: %v", err)
	}
}

// The same faults as in a bundle, in the envelope that a layer under .att is.
func TestS10S11S24BadLegacyAttestationsAreRefused(t *testing.T) {
	k := imgtest.SigningKey(t)
	pub, err := parseKey("k.pub", k.PublicPEM())
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{rule: &Rule{keys: []*trustedKey{pub}}, now: noon}
	layer := func(statement []byte) cosign.Layer {
		b := new(bundle.Bundle)
		if err := b.UnmarshalJSON(bundleOf(t, k, statement)); err != nil {
			t.Fatal(err)
		}
		l, err := cosign.Attestation(b.Bundle, attest.PredicateSPDX, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	about := statementAbout(hash("a"), attest.PredicateSPDX)
	whole := layer(about).Body
	if f := c.checkLegacy(layer(about), hash("a")); f.answer != good || f.predicateType != attest.PredicateSPDX {
		t.Fatalf("the sibling of all these: %+v", f)
	}
	one := map[string]any{"sig": "AAAA"}
	for _, tt := range []struct {
		name string
		body []byte
		want string
	}{
		{"S10 other payload type", edit(t, whole, "payloadType", "application/json"), "payload type: got \"application/json\""},
		{"S10 no signature", edit(t, whole, "signatures", []any{}), "got 0 signatures"},
		{"S10 two signatures", edit(t, whole, "signatures", []any{one, one}), "got 2 signatures"},
		{"S10 signature over other bytes", edit(t, whole, "payload", base64.StdEncoding.EncodeToString(statementAbout(hash("a"), attest.PredicateProvenance))), "not signed with a key of the policy"},
		{"S11 payload that is no JSON", layer([]byte("not JSON")).Body, "parsing in-toto statement"},
		{"S11 truncated payload", layer(about[:100]).Body, "parsing in-toto statement"},
		{"S11 truncated envelope", whole[:len(whole)/2], "envelope"},
		{"S11 envelope that is no JSON", []byte("<xml>"), "envelope"},
		{"S24 another digest", layer(statementAbout(hash("b"), attest.PredicateSPDX)).Body, "does not match any digest"},
	} {
		l := layer(about)
		l.Body = tt.body
		if f := c.checkLegacy(l, hash("a")); f.answer != bad || !strings.Contains(f.err.Error(), tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, f, tt.want)
		}
	}
}

// What is handed out was signed by as many keys as the policy asks for, about that manifest.
func TestAttestationsAreThoseThatCount(t *testing.T) {
	k, other, mallory, a := imgtest.SigningKey(t), imgtest.SigningKey(t), imgtest.SigningKey(t), newRegistry(t)
	p, err := policyOf(t, k, other, "rules:\n- repositories: ["+a+"]\n  signers: {threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	index := imgtest.SmallIndex(t, "kubelet")
	h := imgtest.Release{Repository: a, Content: index, Signers: signers(k, other)}.Push(t)
	d := describe(t, index)
	attach(t, a, k, d, attest.PredicateSPDX, `{"by":"one key"}`)
	attach(t, a, mallory, d, attest.PredicateSPDX, `{"by":"one key"}`)
	for _, signer := range []*sign.Key{k, other} {
		attach(t, a, signer, d, attest.PredicateProvenance, provenanceBy)
	}
	v, err := newWorld(t, p).Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	got := v.Attestations(h)
	if len(got) != 1 || got[0].PredicateType != attest.PredicateProvenance || string(got[0].Predicate) != provenanceBy {
		t.Errorf("got %s, want the provenance that both have signed", got)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Attestations(m.Manifests[0].Digest); len(got) > 0 {
		t.Errorf("of a manifest that nobody attested: got %s", got)
	}
	if got := new(Verified).Attestations(h); got != nil {
		t.Errorf("of nothing verified: got %s", got)
	}
}

// An attestation says what something is made of; it does not say "use it".
func TestAttestationIsNoSignature(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	d, s := unsignedImage(t, a)
	attach(t, a, k, d, attest.PredicateProvenance, provenanceBy)
	_, err := w.Verify(t.Context(), s)
	refused(t, err, Unsigned)
}
