package verify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
	"github.com/imgctl/imgctl/pkg/sign"
)

// describe describes an image or an index.
func describe(t *testing.T, content partial.Describable) v1.Descriptor {
	t.Helper()
	d, err := partial.Descriptor(content)
	if err != nil {
		t.Fatal(err)
	}
	return *d
}

func taggable(t *testing.T, content any) remote.Taggable {
	t.Helper()
	return content.(remote.Taggable)
}

func open(t *testing.T, w *world, repository string) *oci.Repository {
	t.Helper()
	r, err := w.Registry.Repository(repository)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pushTag(t *testing.T, repository, tag string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(repository+":"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

func pushDigest(t *testing.T, repository string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(repository+"@"+describe(t, img).Digest.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

// attach signs a statement about d and pushes it.
func attach(t *testing.T, repository string, k *sign.Key, d v1.Descriptor, predicateType, predicate string) {
	t.Helper()
	pushDigest(t, repository, attachment(t, k, d, predicateType, predicate))
}

// pushBundle pushes any bytes as the bundle of d.
func pushBundle(t *testing.T, repository string, d v1.Descriptor, body []byte) {
	t.Helper()
	img, err := artifact.Artifact{
		ArtifactType: sign.BundleMediaType,
		Layers:       []artifact.Content{{MediaType: sign.BundleMediaType, Body: body}},
		Subject:      &d,
	}.Image()
	if err != nil {
		t.Fatal(err)
	}
	pushDigest(t, repository, img)
}

// signedImage pushes an image without a signature and returns what is needed to add some.
func unsignedImage(t *testing.T, repository string) (v1.Descriptor, Subject) {
	t.Helper()
	image := imgtest.SmallImage(t, "kubelet", "amd64")
	h := imgtest.Release{Repository: repository, Content: image}.Push(t)
	return describe(t, image), Subject{repository, h}
}

func statementAbout(h v1.Hash, predicateType string) []byte {
	return fmt.Appendf(nil, `{"_type":%q,"subject":[{"name":"kubelet","digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, statementType, h.Hex, predicateType)
}

// Bundles that are none. Each is refused alone, and none hides a good one.
func TestS10S11S27BadBundlesAreRefusedAndHideNothing(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	d, s := unsignedImage(t, a)
	good := bundleOf(t, k, statementAbout(d.Digest, predicateSignature))
	signed := func(payload string) []byte { return bundleOf(t, k, []byte(payload)) }
	rows := []struct {
		name string
		body []byte
		want string
	}{
		{"empty", []byte{}, "parse bundle"},
		{"not JSON", []byte("<xml>"), "parse bundle"},
		{"truncated", good[:len(good)/2], "parse bundle"},
		{"null", []byte("null"), "parse bundle"},
		{"empty object", []byte("{}"), "parse bundle"},
		{"other media type", edit(t, good, "mediaType", "application/json"), "unsupported media type"},
		{"later version", edit(t, good, "mediaType", "application/vnd.dev.sigstore.bundle.v9.0+json"), "not yet supported"},
		{"no verification material", edit(t, good, "verificationMaterial", nil), "verification material"},
		{"malformed certificate", edit(t, good, "verificationMaterial", map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}), "want a key of the policy"},
		{"empty certificate chain", edit(t, good, "verificationMaterial", map[string]any{"x509CertificateChain": map[string]any{}}), "certificate chain"},
		{"no envelope", edit(t, good, "dsseEnvelope", nil), "content"},
		{"null envelope parts", edit(t, good, "dsseEnvelope", map[string]any{}), "payload type: got \"\""},
		{"message signature", edit(t, edit(t, good, "dsseEnvelope", nil), "messageSignature", map[string]any{"signature": "AAAA"}), "no DSSE envelope"},
		{"other payload type", edit(t, good, "dsseEnvelope.payloadType", "application/json"), "payload type: got \"application/json\""},
		{"no signature", edit(t, good, "dsseEnvelope.signatures", []any{}), "got 0 signatures"},
		{"two signatures", edit(t, good, "dsseEnvelope.signatures", []any{map[string]any{"sig": "AAAA"}, map[string]any{"sig": "AAAA"}}), "got 2 signatures"},
		{"empty signature", edit(t, good, "dsseEnvelope.signatures", []any{map[string]any{}}), "not signed with a key"},
		{"signature over other bytes", edit(t, good, "dsseEnvelope.payload", base64.StdEncoding.EncodeToString([]byte(`{}`))), "not signed with a key"},
		{"unparsable payload", signed("not JSON"), "parsing in-toto statement"},
		{"truncated payload", signed(string(statementAbout(d.Digest, predicateSignature)[:100])), "parsing in-toto statement"},
		{"statement about nothing", signed(`{"_type":"` + statementType + `","predicateType":"` + predicateSignature + `","subject":[]}`), "match"},
		{"statement of another type", signed(strings.Replace(string(statementAbout(d.Digest, predicateSignature)), "Statement/v1", "Statement/v7", 1)), "statement type"},
		{"statement without predicate type", signed(string(statementAbout(d.Digest, ""))), "no predicate type"},
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			d, s := unsignedImage(t, a+"/"+strings.ToLower(strings.ReplaceAll(tt.name, " ", "-")))
			w := newWorld(t, trusting(t, []string{s.Repository}, k))
			pushBundle(t, s.Repository, d, tt.body)
			_, err := w.Verify(t.Context(), s)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
			var reason Reason = Malformed
			if strings.Contains(err.Error(), "no signature that counts") {
				reason = WrongSigner
			}
			refused(t, err, reason)
		})
		pushBundle(t, a, d, tt.body)
	}
	pushBundle(t, a, d, good)
	v, err := w.Verify(t.Context(), s)
	if err != nil {
		t.Fatalf("a good bundle among %d bad ones: %v", len(rows), err)
	}
	if got := len(v.Report().Notes); got != len(rows) {
		t.Errorf("notes: got %d, want %d: %q", got, len(rows), v.Report().Notes)
	}
}

// S27: a panic in a parser is that bundle's fault and nobody else's.
func TestPanicIsOneBadBundle(t *testing.T) {
	f := isolate(t.Context(), candidate{id: "sha256:ab", read: func(context.Context) finding { panic("index out of range") }})
	if f.answer != bad || f.reason != Malformed || f.what != "sha256:ab" || !strings.Contains(f.err.Error(), "index out of range") {
		t.Errorf("got %+v", f)
	}
}

// edit sets or, for nil, removes a field of a JSON document.
func edit(t *testing.T, doc []byte, path string, value any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	keys := strings.Split(path, ".")
	at := m
	for _, k := range keys[:len(keys)-1] {
		at = at[k].(map[string]any)
	}
	if last := keys[len(keys)-1]; value == nil {
		delete(at, last)
	} else {
		at[last] = value
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Simple-signing payloads that do not vouch.
func TestS05S11BadPayloadsAreRefused(t *testing.T) {
	h := hash("a")
	whole := `{"critical":{"identity":{"docker-reference":"quay.io/x/y"},"image":{"docker-manifest-digest":"` + h.String() + `"},"type":"cosign container image signature"},"optional":null}`
	k := imgtest.SigningKey(t)
	pub, err := parseKey("k.pub", k.PublicPEM())
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{rule: &Rule{keys: []*trustedKey{pub}}, now: noon}
	check := func(payload string) finding {
		signed, err := k.Sign(t.Context(), sign.Payload(payload))
		if err != nil {
			t.Fatal(err)
		}
		b := new(bundle.Bundle)
		if err := b.UnmarshalJSON(signed.Bundle); err != nil {
			t.Fatal(err)
		}
		l, err := cosign.Signature(b.Bundle, []byte(payload), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.checkLegacy(l, h)
	}
	for _, tt := range []struct{ name, payload, want string }{
		{"other digest", strings.ReplaceAll(whole, h.Hex, hash("b").Hex), "vouches for " + hash("b").String()},
		{"no digest", strings.ReplaceAll(whole, h.String(), ""), "vouches for ,"},
		{"other type", strings.Replace(whole, "cosign container", "atomic container", 1), `type: got "atomic container image signature"`},
		{"unknown critical key", strings.Replace(whole, `"type"`, `"expires":"now","type"`, 1), "unknown field"},
		{"not JSON", "hello", "invalid character"},
		{"truncated", whole[:40], "unexpected"},
		{"two documents", whole + whole, "more text follows"},
		{"null", "null", `type: got ""`},
		{"empty", "", "EOF"},
	} {
		if f := check(tt.payload); f.answer != bad || !strings.Contains(f.err.Error(), tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, f, tt.want)
		}
	}
	for _, payload := range []string{whole, strings.Replace(whole, "null", `{"creator":"cosign","n":1}`, 1), strings.Replace(whole, "cosign container image signature", predicateSignature, 1)} {
		if f := check(payload); f.answer != good {
			t.Errorf("%s: %v", payload, f.err)
		}
	}
	forged := cosign.Layer{MediaType: cosign.PayloadMediaType, Annotations: map[string]string{cosign.SignatureAnnotation: "bm90IGEgc2lnbmF0dXJl"}, Body: []byte(whole)}
	if f := c.checkLegacy(forged, h); f.answer != bad || f.reason != WrongSigner {
		t.Errorf("a signature that is none: %+v", f)
	}
}

// Legacy layers that are not signatures.
func TestBadLegacyLayersAreRefusedAndHideNothing(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	d, s := unsignedImage(t, a)
	layer := func(mediaType, signature string, body []byte) artifact.Content {
		c := artifact.Content{MediaType: mediaType, Body: body}
		if signature != "" {
			c.Annotations = map[string]string{cosign.SignatureAnnotation: signature}
		}
		return c
	}
	layers := []artifact.Content{
		layer("text/plain", "AAAA", []byte("x")),
		layer(cosign.PayloadMediaType, "", []byte("y")),
		layer(cosign.PayloadMediaType, "***", []byte("z")),
		layer(cosign.PayloadMediaType, "AAAA", make([]byte, maxPayload+1)), // S21
	}
	push := func() {
		t.Helper()
		img, err := artifact.Artifact{Config: artifact.Content{MediaType: string(types.OCIConfigJSON), Body: []byte("{}")}, Layers: layers}.Image()
		if err != nil {
			t.Fatal(err)
		}
		pushTag(t, a, sign.LegacyTag(d.Digest), img)
	}
	push()
	_, err := w.Verify(t.Context(), s)
	refused(t, err, Malformed, "no signature that can be read", "media type: got \"text/plain\"", "2 more did not count")

	own, err := sign.Legacy(t.Context(), a, d.Digest, k)
	if err != nil {
		t.Fatal(err)
	}
	m, err := own.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	l, err := own.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := l[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, m.Layers[0].Size)
	if _, err := rc.Read(body); err != nil {
		t.Fatal(err)
	}
	layers = append(layers, layer(cosign.PayloadMediaType, m.Layers[0].Annotations[cosign.SignatureAnnotation], body))
	push()
	if _, err := w.Verify(t.Context(), s); err != nil {
		t.Errorf("a good layer after %d bad ones: %v", len(layers)-1, err)
	}
}

// S07, S21: one good signature among a thousand that are garbage.
func TestManyBadSignaturesAreBounded(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	d, s := unsignedImage(t, a)
	list := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for i := range 1000 {
		list.Manifests = append(list.Manifests, v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Size: 700, ArtifactType: sign.BundleMediaType,
			Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", i)},
		})
	}
	body, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	referrers := func(body []byte) {
		w.net.faults = nil
		w.net.add(func(req *http.Request) (*http.Response, error) {
			if !strings.Contains(req.URL.Path, "/referrers/") {
				return nil, nil
			}
			return respond(req, "application/vnd.oci.image.index.v1+json", body), nil
		})
	}
	referrers(body)
	_, err = w.Verify(t.Context(), s)
	refused(t, err, Malformed, "256 of 1000 were examined")
	if n := w.net.asked("GET", "/manifests/sha256:0000"); n > maxReferrers {
		t.Errorf("%d referrers were fetched, want at most %d", n, maxReferrers)
	}

	// What calls itself a signature is examined first, wherever the list has it.
	attach(t, a, k, d, predicateSignature, "{}")
	own := describe(t, attachment(t, k, d, predicateSignature, "{}"))
	own.ArtifactType, own.Annotations = sign.BundleMediaType, map[string]string{predicateAnnotation: predicateSignature}
	list.Manifests = append(list.Manifests, own)
	if body, err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	referrers(body)
	v, err := w.Verify(t.Context(), s)
	if err != nil {
		t.Fatalf("one good among a thousand: %v", err)
	}
	if n := len(v.Report().Notes); n == 0 || n > maxNotes {
		t.Errorf("%d notes", n)
	}
}

// S21: a bundle of a gigabyte, and a signature image with 10^5 layers, are not fetched.
func TestHugeEvidenceIsNotFetched(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	d, s := unsignedImage(t, a)
	huge := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":%q,"digest":%q,"size":1073741824}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		sign.BundleMediaType, sign.BundleMediaType, hash("c"), d.MediaType, d.Digest, d.Size)
	layers := strings.Repeat(`{"mediaType":"`+cosign.PayloadMediaType+`","digest":"`+hash("d").String()+`","size":10},`, 20000)
	many := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + hash("e").String() + `","size":2},"layers":[` + strings.TrimSuffix(layers, ",") + `]}`

	w := newWorld(t, trusting(t, []string{a}, k))
	w.net.add(serve(a, "referrers/", "application/vnd.oci.image.index.v1+json",
		fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d}]}`, digestOf(huge), len(huge))))
	w.net.add(serve(a, "manifests/"+digestOf(huge).String(), "application/vnd.oci.image.manifest.v1+json", huge))
	w.net.add(serve(a, "manifests/"+sign.LegacyTag(d.Digest), "application/vnd.oci.image.manifest.v1+json", many))
	w.net.add(serve(a, "manifests/"+digestOf(many).String(), "application/vnd.oci.image.manifest.v1+json", many))
	_, err := w.Verify(t.Context(), s)
	refused(t, err, Malformed, "it has 1073741824 bytes, want at most 16777216")
	if n := w.net.asked("/blobs/"); n != 0 {
		t.Errorf("%d blobs were fetched", n)
	}
}

func digestOf(body string) v1.Hash {
	h, _, err := v1.SHA256(strings.NewReader(body))
	if err != nil {
		panic(err) // reading a string cannot fail
	}
	return h
}

// A referrer of some other kind is no signature, bad or good.
func TestOtherReferrersAreIgnored(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	w := newWorld(t, trusting(t, []string{a}, k))
	d, s := unsignedImage(t, a)
	for _, artifactType := range []string{"application/spdx+json", "application/vnd.oci.empty.v1+json"} {
		img, err := artifact.Artifact{ArtifactType: artifactType, Layers: []artifact.Content{{MediaType: "application/spdx+json", Body: []byte("{}")}}, Subject: &d}.Image()
		if err != nil {
			t.Fatal(err)
		}
		pushDigest(t, a, img)
	}
	_, err := w.Verify(t.Context(), s)
	refused(t, err, Unsigned)
}

// cosign 2.6 writes no usable artifactType into the fallback tag, and no annotations.
func TestBundleIsFoundUnderAUselessArtifactType(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	d, s := unsignedImage(t, a)
	attach(t, a, k, d, predicateSignature, "{}")
	own := describe(t, attachment(t, k, d, predicateSignature, "{}"))
	for _, artifactType := range []string{"", "application/vnd.oci.empty.v1+json", "application/vnd.oci.image.config.v1+json"} {
		own.ArtifactType, own.Annotations = artifactType, nil
		body, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{own}})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, trusting(t, []string{a}, k))
		w.net.add(serve(a, "referrers/", "application/vnd.oci.image.index.v1+json", string(body)))
		if _, err := w.Verify(t.Context(), s); err != nil {
			t.Errorf("artifactType %q: %v", artifactType, err)
		}
	}
}
