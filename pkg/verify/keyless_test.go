package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/upstream"
)

const releaser = "release@example.com"

// keylessWorld is a Sigstore, and a collector whose rule trusts one identity of it.
type keylessWorld struct {
	*imgtest.SigstoreServices
	trust root.TrustedMaterial
	*collector
}

func newKeylessWorld(t *testing.T) *keylessWorld {
	t.Helper()
	s, err := imgtest.NewSigstore(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &keylessWorld{SigstoreServices: s.Serve(t)}
	w.collector = w.trusting(t)
	return w
}

// trusting is a collector that trusts the Sigstore as it is now; so does w.signer.
func (w *keylessWorld) trusting(t *testing.T) *collector {
	t.Helper()
	doc, err := w.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	if w.trust, err = parseTrust("trusted_root.json", doc); err != nil {
		t.Fatal(err)
	}
	who, err := newIdentity(releaser, w.Issuer(), w.trust)
	if err != nil {
		t.Fatal(err)
	}
	return &collector{rule: &Rule{identities: []*trustedIdentity{who}, threshold: 1}, now: time.Now()}
}

// signer signs for whom the token is, with a log of the version.
func (w *keylessWorld) signer(email string, version int) *sign.Keyless {
	s := sign.Services{Fulcio: w.Fulcio(), Logs: []sign.Log{{URL: w.RekorV1(), Version: 1}}}
	if version == 2 {
		s.Logs, s.Timestamps = []sign.Log{{URL: w.RekorV2(), Version: 2}}, []string{w.TSA()}
	}
	return &sign.Keyless{Token: sign.FixedToken(sign.Secret(w.Token(email, nil))), Services: s, Trust: w.trust}
}

// S01, S02, S03, S27 too: what a keyless bundle may lack or have of another.
func TestS13S14KeylessBundleThatIsNotWholeIsRefused(t *testing.T) {
	w := newKeylessWorld(t)
	whole := map[int][]byte{}
	for _, version := range []int{1, 2} {
		whole[version] = bundleOf(t, w.signer(releaser, version), statementAbout(hash("a"), predicateSignature))
		if f := w.checkBundle(whole[version], hash("a")); f.answer != good || f.by.name != releaser {
			t.Fatalf("Rekor v%d, the sibling of all these: %+v", version, f)
		}
	}
	of := func(doc []byte, path string) any {
		t.Helper()
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Split(path, ".") {
			v = v.(map[string]any)[key]
		}
		return v
	}
	const entries, times, cert = "verificationMaterial.tlogEntries", "verificationMaterial.timestampVerificationData", "verificationMaterial.certificate"
	other := bundleOf(t, w.signer(releaser, 1), statementAbout(hash("b"), predicateSignature))
	other2 := bundleOf(t, w.signer(releaser, 2), statementAbout(hash("b"), predicateSignature))
	later := strings.Replace(string(whole[1]), `"integratedTime":"1`, `"integratedTime":"2`, 1)
	withdrawn := strings.Replace(string(whole[2]), `"kind":"hashedrekord"`, `"kind":"dsse"`, 1)
	for _, tt := range []struct {
		name string
		doc  []byte
		want string
	}{
		{"S02 another identity", bundleOf(t, w.signer("mallory@example.com", 1), statementAbout(hash("a"), predicateSignature)), "signed by mallory@example.com (issuer " + w.Issuer() + "), who is nobody of the policy"},
		{"S02 another Sigstore", foreign(t), "who is nobody of the policy"},
		{"S05 another digest", other, "does not match any digest"},
		{"S13 entry of another artifact", edit(t, whole[1], entries, of(other, entries)), "log"},
		{"S13 entry of another artifact, v2", edit(t, whole[2], entries, of(other2, entries)), "log"},
		{"S13 certificate of another signature", edit(t, whole[1], cert, of(other, cert)), "certificate does not match"},
		{"S14 no entry", edit(t, whole[1], entries, nil), "log"},
		{"S14 no entry, but a timestamp", edit(t, whole[2], entries, nil), "log"},
		{"S14 time that the log did not sign", []byte(later), "log"},
		{"S14 Rekor v2 and no timestamp", edit(t, whole[2], times, nil), "timestamp"},
		{"S14 entry of a kind that was withdrawn", []byte(withdrawn), "which Rekor has withdrawn"},
		{"S27 malformed certificate", edit(t, whole[1], cert, map[string]any{"rawBytes": "AAAA"}), "certificate"},
		{"S27 no certificate", edit(t, whole[1], cert, map[string]any{}), "certificate"},
		{"S27 entry that is none", edit(t, whole[1], entries, []any{map[string]any{}}), "parse bundle"},
		{"other payload", edit(t, whole[1], "dsseEnvelope.payload", base64.StdEncoding.EncodeToString(statementAbout(hash("a"), predicateProvenance))), ""},
	} {
		f := w.checkBundle(tt.doc, hash("a"))
		if f.answer != bad || !strings.Contains(f.err.Error(), tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, f, tt.want)
		}
	}
	keys := &collector{rule: &Rule{keys: []*trustedKey{}}, now: time.Now()}
	if f := keys.checkBundle(whole[1], hash("a")); f.answer != bad || !strings.Contains(f.err.Error(), "want a key of the policy") {
		t.Errorf("a rule that trusts keys only: %+v", f)
	}
}

// foreign is a bundle for the same name from a Sigstore that nobody trusts.
func foreign(t *testing.T) []byte {
	t.Helper()
	w := newKeylessWorld(t)
	return bundleOf(t, w.signer(releaser, 1), statementAbout(hash("a"), predicateSignature))
}

// legacyLayer is a keyless signature in the older layout, signed in some way.
func (w *keylessWorld) legacyLayer(t *testing.T, h v1.Hash, how imgtest.Signing) cosign.Layer {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"quay.io/x/y"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, h)
	how.Email, how.Issuer = releaser, w.Issuer()
	signed, err := w.Sign(bytes.NewReader(payload), how)
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(string(signed.Cert))
	if err != nil {
		t.Fatal(err)
	}
	l := cosign.Layer{MediaType: cosign.PayloadMediaType, Body: payload, Annotations: map[string]string{
		cosign.SignatureAnnotation: string(signed.Sig), cosign.CertificateAnnotation: string(text),
	}}
	if how.Unlogged {
		return l
	}
	e, err := upstream.ParseLogEntry(signed.Entry)
	if err != nil {
		t.Fatal(err)
	}
	promise, err := json.Marshal(map[string]any{"SignedEntryTimestamp": e.SET, "Payload": map[string]any{
		"body": base64.StdEncoding.EncodeToString(e.Body), "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": hex.EncodeToString(e.LogID),
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.Annotations[cosign.EntryAnnotation] = string(promise)
	return l
}

// S05 too: the same in the older layout, as cosign 2 writes it.
func TestS13S14S15KeylessLegacySignatureThatIsNotWholeIsRefused(t *testing.T) {
	w := newKeylessWorld(t)
	whole := w.legacyLayer(t, hash("a"), imgtest.Signing{})
	if f := w.checkLegacy(whole, hash("a")); f.answer != good || f.by.name != releaser {
		t.Fatalf("the sibling of all these: %+v", f)
	}
	with := func(annotation, value string) cosign.Layer {
		l := w.legacyLayer(t, hash("a"), imgtest.Signing{})
		l.Annotations[annotation] = value
		return l
	}
	of := w.legacyLayer(t, hash("b"), imgtest.Signing{}).Annotations
	for _, tt := range []struct {
		name string
		l    cosign.Layer
		want string
	}{
		{"S05 another digest", w.legacyLayer(t, hash("b"), imgtest.Signing{}), "vouches for"},
		{"S13 entry of another payload", with(cosign.EntryAnnotation, of[cosign.EntryAnnotation]), "log"},
		{"S14 no entry", w.legacyLayer(t, hash("a"), imgtest.Signing{Unlogged: true}), "log"},
		{"S14 entry that is none", with(cosign.EntryAnnotation, `{}`), "parse log entry"},
		{"S15 certificate expired when it was used", w.legacyLayer(t, hash("a"), imgtest.Signing{Late: 11 * time.Minute}), "certificate"},
		{"certificate that no log has", w.legacyLayer(t, hash("a"), imgtest.Signing{NoSCT: true}), "certificate timestamp"},
		{"two names in one certificate", w.legacyLayer(t, hash("a"), imgtest.Signing{Also: []string{"mallory@example.com"}}), "2 subject alternative names"},
		{"S27 certificate that is none", with(cosign.CertificateAnnotation, "-----BEGIN"), "no PEM certificate"},
		{"signature of another payload", with(cosign.SignatureAnnotation, of[cosign.SignatureAnnotation]), ""},
	} {
		if f := w.checkLegacy(tt.l, hash("a")); f.answer != bad || !strings.Contains(f.err.Error(), tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, f, tt.want)
		}
	}
}

// S15, CVE-2026-24122: a signature counts only where the whole chain above it was
// valid for that, at that time. The rows differ in the intermediate alone.
func TestS15IntermediateMustBeGoodForWhatItIssued(t *testing.T) {
	w := newKeylessWorld(t)
	bundles := map[string][]byte{}
	for name, version := range map[string]int{"Rekor v1": 1, "Rekor v2": 2} {
		bundles[name] = bundleOf(t, w.signer(releaser, version), statementAbout(hash("a"), predicateSignature))
	}
	layer := w.legacyLayer(t, hash("a"), imgtest.Signing{})
	for _, tt := range []struct {
		name   string
		change func(*x509.Certificate)
		want   answer
	}{
		{"as it was", nil, good},
		{"expired before", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(30 * time.Minute) }, bad},
		{"expires later", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(30 * time.Hour) }, good},
		{"for TLS alone", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, bad},
		{"for code signing", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, good},
		{"no authority", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }, bad},
	} {
		if err := w.Reissue(tt.change); err != nil {
			t.Fatal(err)
		}
		c := w.trusting(t)
		found := map[string]finding{"legacy": c.checkLegacy(layer, hash("a"))}
		for name, doc := range bundles {
			found[name] = c.checkBundle(doc, hash("a"))
		}
		for name, f := range found {
			if f.answer != tt.want || f.answer == bad && !strings.Contains(f.err.Error(), "leaf certificate verification failed") {
				t.Errorf("%s, %s: got %+v", tt.name, name, f)
			}
		}
	}
}

// S08: two signers are two only if they are different, whatever their kind.
func TestS08ThresholdOfAKeyAndAnIdentity(t *testing.T) {
	w := newKeylessWorld(t)
	k, a := imgtest.SigningKey(t), newRegistry(t)
	d, s := unsignedImage(t, a)
	dir := t.TempDir()
	doc, err := w.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"k.pub": k.PublicPEM(), "root.json": doc, "policy.yaml": fmt.Appendf(nil,
		"apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s]\n  signers: {threshold: 2, any: [{key: {file: k.pub}}, {keyless: {issuer: %q, subject: %s, trustedRoot: root.json}}]}\n", a, w.Issuer(), releaser)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := LoadPolicy(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	v := newWorld(t, p)
	push := func(by sign.Signer) { pushDigest(t, a, attachment(t, by, d, predicateSignature, "{}")) }
	push(w.signer(releaser, 1))
	push(w.signer(releaser, 1)) // another certificate, the same identity
	_, err = v.Verify(t.Context(), s)
	refused(t, err, TooFewSigners, "signed by 1 of the policy's signers ("+releaser+"), want 2")
	push(k)
	verified, err := v.Verify(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got := verified.Report().Signers; len(got) != 2 {
		t.Errorf("signers: got %v", got)
	}
}

// S21: a layer that claims a gigabyte is not fetched.
func TestS21LayerOfAGigabyteIsNotFetched(t *testing.T) {
	for mediaType, most := range legacyTypes {
		if most > maxBundle {
			t.Errorf("%s: up to %d bytes", mediaType, most)
		}
	}
	k, a := imgtest.SigningKey(t), newRegistry(t)
	d, s := unsignedImage(t, a)
	w := newWorld(t, trusting(t, []string{a}, k))
	layers := fmt.Sprintf(`{"mediaType":%q,"size":1073741824,"digest":"sha256:%s","annotations":{"%s":"AAAA"}}`, cosign.PayloadMediaType, hash("c").Hex, cosign.SignatureAnnotation)
	w.net.add(serve(a, "manifests/"+sign.LegacyTag(d.Digest), "application/vnd.oci.image.manifest.v1+json",
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[`+layers+`]}`))
	_, err := w.Verify(t.Context(), s)
	if err == nil || w.net.asked("GET", hash("c").Hex) > 0 {
		t.Errorf("got %v, and the blob was asked for %d times", err, w.net.asked("GET", hash("c").Hex))
	}
}

// FuzzLegacyLayer: no layer that nobody trusted has signed counts, and none
// makes the parsers panic.
func FuzzLegacyLayer(f *testing.F) {
	c, _ := fuzzed(f)
	f.Add(cosign.PayloadMediaType, "AAAA", "", "", "", []byte("{}"))
	f.Add(cosign.EnvelopeMediaType, "", "", `{"SignedEntryTimestamp":"AA==","Payload":{"body":"e30=","logID":"ab"}}`, `{"SignedRFC3161Timestamp":"AA=="}`, []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AA=="}]}`))
	f.Add(cosign.PayloadMediaType, "AAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "null", "null", []byte(""))
	f.Fuzz(func(t *testing.T, mediaType, signature, certificate, entry, timestamp string, body []byte) {
		l := cosign.Layer{MediaType: mediaType, Body: body, Annotations: map[string]string{
			cosign.SignatureAnnotation: signature, cosign.CertificateAnnotation: certificate, cosign.EntryAnnotation: entry, cosign.TimestampAnnotation: timestamp,
		}}
		if got := c.checkLegacy(l, hash("a")); got.answer != bad || got.err == nil || strings.Contains(got.err.Error(), "\n") {
			t.Fatalf("accepted %+v: %+v", l, got)
		}
	})
}
