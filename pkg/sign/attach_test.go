package sign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/imgctl/imgctl/pkg/attest"
)

var created = time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("somewhere", 3600))

func subject() v1.Descriptor {
	return v1.Descriptor{
		MediaType: types.OCIImageIndex,
		Size:      491,
		Digest:    v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)},
		Platform:  &v1.Platform{OS: "linux", Architecture: "amd64"}, // must not leak into the subject field
	}
}

func manifestOf(t *testing.T, img v1.Image) (m v1.Manifest, artifactType string, raw []byte) {
	t.Helper()
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var typed struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := errors.Join(json.Unmarshal(raw, &m), json.Unmarshal(raw, &typed)); err != nil {
		t.Fatal(err)
	}
	return m, typed.ArtifactType, raw
}

func layerBody(t *testing.T, img v1.Image, n int) []byte {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[n].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	body, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestAttachedSignatureIsWhatCosign3Reads(t *testing.T) {
	k := newKey(t)
	a, err := Attest(t.Context(), k, subject(), "kubelet", attest.PredicateSignature, []byte("{}"), created)
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.Image()
	if err != nil {
		t.Fatal(err)
	}
	m, artifactType, raw := manifestOf(t, img)
	if artifactType != BundleMediaType || string(m.Layers[0].MediaType) != BundleMediaType || len(m.Layers) != 1 {
		t.Errorf("artifact type %q, layers %v", artifactType, m.Layers)
	}
	if m.Config.MediaType != "application/vnd.oci.empty.v1+json" || m.Config.Size != 2 {
		t.Errorf("config: got %v, want the empty one", m.Config)
	}
	if m.Subject == nil || m.Subject.Digest != subject().Digest || m.Subject.Platform != nil {
		t.Errorf("subject: got %v", m.Subject)
	}
	want := map[string]string{
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
		"org.opencontainers.image.created":  "2026-07-01T11:00:00Z",
	}
	for key, value := range want {
		if m.Annotations[key] != value {
			t.Errorf("annotation %s: got %q, want %q", key, m.Annotations[key], value)
		}
	}
	if len(m.Annotations) != len(want) {
		t.Errorf("annotations: %v in %s", m.Annotations, raw)
	}
	checkBundle(t, k, layerBody(t, img, 0))
}

// checkBundle parses the bundle as sigstore's library does and checks the
// signature with nothing but the definition of DSSE.
func checkBundle(t *testing.T, k *Key, doc []byte) {
	t.Helper()
	var b bundle.Bundle
	if err := b.UnmarshalJSON(doc); err != nil {
		t.Fatal(err)
	}
	if b.MediaType != BundleMediaType || b.VerificationMaterial.GetPublicKey().GetHint() != k.Fingerprint() {
		t.Errorf("media type %q, hint %q", b.MediaType, b.VerificationMaterial.GetPublicKey().GetHint())
	}
	e := b.GetDsseEnvelope()
	if e.GetPayloadType() != "application/vnd.in-toto+json" || len(e.GetSignatures()) != 1 {
		t.Fatalf("envelope: %v", e)
	}
	digest := sha256.Sum256([]byte("DSSEv1 28 application/vnd.in-toto+json " + itoa(len(e.Payload)) + " " + string(e.Payload)))
	if !ecdsa.VerifyASN1(k.Public(), digest[:], e.Signatures[0].Sig) {
		t.Error("the envelope's signature does not verify")
	}
	var s struct {
		Type          string `json:"_type"`
		PredicateType string
		Predicate     json.RawMessage
		Subject       []struct{ Digest map[string]string }
	}
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != attest.PredicateSignature || string(s.Predicate) != "{}" {
		t.Errorf("statement: %s", e.Payload)
	}
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != subject().Digest.Hex {
		t.Errorf("subject of the statement: %v", s.Subject)
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// image is the artifact of an attestation.
func image(a *Attestation, err error) (v1.Image, error) {
	if err != nil {
		return nil, err
	}
	return a.Image()
}

func TestSigningTwiceGivesTheSameBytes(t *testing.T) {
	k, other := newKey(t), newKey(t)
	digest := func(s Signer) (d [2]v1.Hash) {
		t.Helper()
		a, err := image(Attest(t.Context(), s, subject(), "kubelet", attest.PredicateProvenance, []byte(`{"b":1,"a":2}`), created))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Legacy(t.Context(), "quay.io/poseidon/kubelet", subject().Digest, s)
		if err != nil {
			t.Fatal(err)
		}
		for i, img := range []v1.Image{a, l} {
			if d[i], err = img.Digest(); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	if a, b := digest(k), digest(k); a != b {
		t.Errorf("one key, two digests: %v, %v", a, b)
	}
	if a, b := digest(k), digest(other); a[0] == b[0] || a[1] == b[1] {
		t.Errorf("two keys, one digest: %v, %v", a, b)
	}
}

// protojson varies its white space by build; whatever it writes, the bundle has none.
func TestBundleIsCompactJSON(t *testing.T) {
	signed, err := newKey(t).Sign(t.Context(), Statement(`{"a": "x y"}`))
	if err != nil {
		t.Fatal(err)
	}
	doc := signed.Bundle
	var compact bytes.Buffer
	if err := json.Compact(&compact, doc); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(compact.Bytes(), doc) || bytes.Contains(doc, []byte(" ")) {
		t.Errorf("white space in %s", doc)
	}
}

func TestLegacySignatureIsWhatCosign2AndPodmanRead(t *testing.T) {
	k := newKey(t)
	img, err := Legacy(t.Context(), "docker.io/psdn/kubelet", subject().Digest, k)
	if err != nil {
		t.Fatal(err)
	}
	m, artifactType, _ := manifestOf(t, img)
	if artifactType != "" || m.Subject != nil || m.MediaType != types.OCIManifestSchema1 || m.Config.MediaType != types.OCIConfigJSON {
		t.Errorf("manifest: %+v, artifact type %q", m, artifactType)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != "application/vnd.dev.cosign.simplesigning.v1+json" {
		t.Fatalf("layers: %v", m.Layers)
	}
	body := layerBody(t, img, 0)
	want := `{"critical":{"identity":{"docker-reference":"index.docker.io/psdn/kubelet"},"image":{"docker-manifest-digest":"` +
		subject().Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`
	if string(body) != want {
		t.Errorf("payload: got %s, want %s", body, want)
	}
	signature, err := base64.StdEncoding.DecodeString(m.Layers[0].Annotations["dev.cosignproject.cosign/signature"])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	if !ecdsa.VerifyASN1(k.Public(), sum[:], signature) {
		t.Error("the signature does not verify over the payload")
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != m.Layers[0].Digest || len(config.History) != 1 {
		t.Errorf("config: %+v", config)
	}
	if got, want := LegacyTag(subject().Digest), "sha256-"+strings.Repeat("ab", 32)+".sig"; got != want {
		t.Errorf("tag: got %q, want %q", got, want)
	}
}

func TestLegacyHoldsOneLayerForEachSigner(t *testing.T) {
	a, b := newKey(t), newKey(t)
	img, err := Legacy(t.Context(), "quay.io/poseidon/kubelet", subject().Digest, a, b)
	if err != nil {
		t.Fatal(err)
	}
	m, _, _ := manifestOf(t, img)
	if len(m.Layers) != 2 || m.Layers[0].Digest != m.Layers[1].Digest {
		t.Fatalf("layers: %v", m.Layers)
	}
	if m.Layers[0].Annotations[SignatureAnnotation] == m.Layers[1].Annotations[SignatureAnnotation] {
		t.Error("two signers, one signature")
	}
}

func TestLegacyRefusesWhatHasNoName(t *testing.T) {
	for _, tt := range []struct{ repository, want string }{
		{"oci:dist", "a directory has no name to sign for"},
		{"quay.io/Poseidon/kubelet", "sign quay.io/Poseidon/kubelet@sha256:"},
	} {
		if _, err := Legacy(t.Context(), tt.repository, subject().Digest, newKey(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.repository, err, tt.want)
		}
	}
	if _, err := Legacy(t.Context(), "quay.io/poseidon/kubelet", subject().Digest); err == nil {
		t.Error("signed by nobody")
	}
}

func TestAttestRefusesWhatCannotBeAStatement(t *testing.T) {
	k := newKey(t)
	sha512 := subject()
	sha512.Digest = v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("ab", 64)}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name      string
		ctx       context.Context
		subject   v1.Descriptor
		typ       string
		predicate string
	}{
		{"predicate is not JSON", t.Context(), subject(), attest.PredicateSPDX, "<xml>"},
		{"no predicate type", t.Context(), subject(), "", "{}"},
		{"other digest algorithm", t.Context(), sha512, attest.PredicateSPDX, "{}"},
		{"no subject", t.Context(), v1.Descriptor{}, attest.PredicateSPDX, "{}"},
		{"interrupted", cancelled, subject(), attest.PredicateSPDX, "{}"},
	} {
		if _, err := Attest(tt.ctx, k, tt.subject, "kubelet", tt.typ, []byte(tt.predicate), created); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if _, err := Attest(t.Context(), k, subject(), "kubelet", attest.PredicateSPDX, []byte("{}"), created); err != nil {
		t.Errorf("the sibling of all these: %v", err)
	}
}
