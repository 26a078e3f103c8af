package sign_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

const email = "release@example.com"

// world is a Sigstore on loopback, and what trusts it.
type world struct {
	*imgtest.SigstoreServices
	trust    root.TrustedMaterial
	rootFile string
}

func newWorld(t *testing.T, now func() time.Time) *world {
	t.Helper()
	s, err := imgtest.NewSigstore(now)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{SigstoreServices: s.Serve(t), rootFile: filepath.Join(t.TempDir(), "trusted_root.json")}
	if err := os.WriteFile(w.rootFile, doc, 0o644); err != nil {
		t.Fatal(err)
	}
	if w.trust, err = verify.LoadTrust(w.rootFile); err != nil {
		t.Fatal(err)
	}
	return w
}

// services never wait between tries.
func (w *world) services(logs ...sign.Log) sign.Services {
	return sign.Services{Fulcio: w.Fulcio(), Logs: logs, Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

func (w *world) v1() sign.Services { return w.services(sign.Log{URL: w.RekorV1(), Version: 1}) }

func (w *world) v2() sign.Services {
	s := w.services(sign.Log{URL: w.RekorV2(), Version: 2})
	s.Timestamps = []string{w.TSA()}
	return s
}

func (w *world) keyless(s sign.Services) *sign.Keyless {
	return &sign.Keyless{Token: sign.FixedToken(sign.Secret(w.Token(email, nil))), Services: s, Trust: w.trust}
}

// policy trusts the identity for the repository; formats are not its business.
func (w *world) policy(t *testing.T, repository, subject, issuer string) *verify.Policy {
	t.Helper()
	text := fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s]\n  signers: {any: [{keyless: {issuer: %q, subject: %q, trustedRoot: %q}}]}\n"+
		"  attestations: [{type: %s}]\n", repository, issuer, subject, w.rootFile, attest.PredicateProvenance)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := verify.LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// offline verifies with nothing but the registry.
func offline(t *testing.T, p *verify.Policy, repository string, h v1.Hash) error {
	t.Helper()
	host, _, _ := strings.Cut(repository, "/")
	v := &verify.Verifier{Policy: p, Registry: &oci.Client{Transport: only(host)}}
	_, err := v.Verify(t.Context(), verify.Subject{Repository: repository, Digest: h})
	return err
}

// only lets requests to one host through.
type only string

func (o only) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != string(o) {
		return nil, errors.New("dialled " + r.URL.Host)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// publish signs a small image and attests its provenance with s.
func publish(t *testing.T, repository string, content v1.Image, s sign.Signer, bundle, legacy bool) (v1.Hash, []oci.Receipt) {
	t.Helper()
	h, receipts, err := tryPublish(t, repository, content, s, bundle, legacy)
	if err != nil {
		t.Fatal(err)
	}
	return h, receipts
}

// tryPublish is publish that may fail. It never waits between tries.
func tryPublish(t *testing.T, repository string, content v1.Image, s sign.Signer, bundle, legacy bool) (v1.Hash, []oci.Receipt, error) {
	t.Helper()
	client := &oci.Client{Retry: oci.Retry{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}}
	repo, err := client.Repository(repository)
	if err != nil {
		t.Fatal(err)
	}
	d, err := partial.Descriptor(content)
	if err != nil {
		t.Fatal(err)
	}
	s = sign.Keep(s, repo)
	r := oci.Release{Subject: content}
	var said []*sign.Attestation
	for predicateType, predicate := range map[string]string{attest.PredicateSignature: "{}", attest.PredicateProvenance: `{"buildDefinition":{}}`} {
		a, err := sign.Attest(t.Context(), s, *d, "test", predicateType, []byte(predicate), imgtest.ReleaseTime())
		if err != nil {
			t.Fatal(err)
		}
		img, err := a.Image()
		if err != nil {
			t.Fatal(err)
		}
		if predicateType == attest.PredicateProvenance {
			said = append(said, a)
		}
		if bundle {
			r.Attachments = append(r.Attachments, oci.Attachment{Subject: d.Digest, Image: img})
		}
	}
	r.Signatures = func(ctx context.Context, name string) (map[string]v1.Image, error) {
		if !legacy {
			return nil, nil
		}
		sig, err := sign.Legacy(ctx, name, d.Digest, s)
		if err != nil {
			return nil, err
		}
		att, err := sign.LegacyAttestations(said...)
		return map[string]v1.Image{sign.LegacyTag(d.Digest): sig, sign.LegacyAttestationTag(d.Digest): att}, err
	}
	receipts, err := client.Publish(t.Context(), r, oci.Destination{Repository: repository})
	return d.Digest, receipts, err
}

func TestKeylessSignatureIsVerifiedOffline(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct {
		name           string
		services       sign.Services
		bundle, legacy bool
	}{
		{"bundle, Rekor v1", w.v1(), true, false},
		{"bundle, Rekor v2 and timestamp", w.v2(), true, false},
		{"older layout, Rekor v1", w.v1(), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			repository := imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/kubelet"
			h, _ := publish(t, repository, imgtest.SmallImage(t, tt.name, "amd64"), w.keyless(tt.services), tt.bundle, tt.legacy)
			if err := offline(t, w.policy(t, repository, email, w.Issuer()), repository, h); err != nil {
				t.Fatal(err)
			}
			// S02, S03: one of the two names alone does not do, nor does another Sigstore.
			for _, p := range []*verify.Policy{
				w.policy(t, repository, "other@example.com", w.Issuer()), w.policy(t, repository, email, "https://issuer.test"),
				newWorld(t, nil).policy(t, repository, email, w.Issuer()),
			} {
				var refusal *verify.Refusal
				if err := offline(t, p, repository, h); !errors.As(err, &refusal) || refusal.Reason != verify.WrongSigner {
					t.Errorf("another identity: got %v", err)
				}
			}
		})
	}
}

// A release that is run again by another process publishes what is there.
func TestKeylessSignatureIsMadeOnce(t *testing.T) {
	for name, services := range map[string]func(*world) sign.Services{"v1": (*world).v1, "v2": (*world).v2} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			r := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			image := imgtest.SmallImage(t, "once", "amd64")
			first, _ := publish(t, r.Host()+"/kubelet", image, w.keyless(services(w)), true, true)
			logged := w.Asked("/log/entries")
			if logged != 3 { // signature, provenance, payload
				t.Errorf("%d log entries, want 3", logged)
			}
			r.Forget()
			again := w.keyless(services(w))
			again.Identity = sign.Identity{Subject: email, Issuer: w.Issuer()}
			again.Token = func(context.Context) (sign.Secret, error) { return nil, errors.New("no token was needed") }
			second, _ := publish(t, r.Host()+"/kubelet", image, again, true, true)
			if first != second {
				t.Fatal("two digests")
			}
			if writes := r.Writes(); len(writes) > 0 {
				t.Errorf("written again: %v", writes)
			}
		})
	}
}

// cosign compares the hash in the log entry with that of the layer under .att.
func TestLogEntryIsOfTheLegacyAttestation(t *testing.T) {
	w := newWorld(t, nil)
	d, err := partial.Descriptor(imgtest.SmallImage(t, "att", "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := sign.Attest(t.Context(), w.keyless(w.v1()), *d, "test", attest.PredicateSPDX, []byte(`{"a":"<b>"}`), imgtest.ReleaseTime())
	if err != nil {
		t.Fatal(err)
	}
	img, err := sign.LegacyAttestations(a)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	l := m.Layers[0]
	var entry struct{ Payload struct{ Body []byte } }
	if err := json.Unmarshal([]byte(l.Annotations[sign.EntryAnnotation]), &entry); err != nil {
		t.Fatal(err)
	}
	if l.MediaType != sign.EnvelopeMediaType || l.Annotations["predicateType"] != attest.PredicateSPDX || !strings.Contains(string(entry.Payload.Body), l.Digest.Hex) {
		t.Errorf("layer %+v, entry %s", l, entry.Payload.Body)
	}
	if chain := l.Annotations["dev.sigstore.cosign/chain"]; strings.Count(chain, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("chain: %s", chain)
	}
}

// No error tells the token, even when the service repeats it.
func TestTokenIsInNoError(t *testing.T) {
	w := newWorld(t, nil)
	token := w.Token(email, nil)
	w.Script("signingCert", 1, func(rw http.ResponseWriter, r *http.Request) {
		http.Error(rw, "bad: "+r.Header.Get("Authorization"), http.StatusBadRequest)
	})
	k := w.keyless(w.v1())
	k.Token = sign.FixedToken(sign.Secret(token))
	_, err := k.Sign(t.Context(), sign.Payload("x"))
	if err == nil || !strings.Contains(err.Error(), "REDACTED") {
		t.Fatalf("got %v", err)
	}
	for _, part := range strings.Split(token, ".") {
		if strings.Contains(err.Error(), part) {
			t.Errorf("%v tells a part of the token", err)
		}
	}
	if text := fmt.Sprintf("%v %+v", k.String(), sign.Secret(token)); strings.Contains(text, token) {
		t.Error("the token is printed")
	}
}

func TestTokenThatCannotDoIsRefusedByName(t *testing.T) {
	w := newWorld(t, nil)
	for name, tt := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"another audience":  {map[string]any{"aud": "https://example.com"}, "audience: got [https://example.com], want sigstore"},
		"expired":           {map[string]any{"exp": 1}, "it was valid until 1970-01-01T00:00:01Z"},
		"unverified e-mail": {map[string]any{"email_verified": false}, "has not verified"},
		"nobody":            {map[string]any{"email": nil, "sub": nil}, "names no subject"},
	} {
		k := w.keyless(w.v1())
		k.Token = sign.FixedToken(sign.Secret(w.Token(email, tt.claims)))
		if _, err := k.Sign(t.Context(), sign.Payload("x")); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if n := w.Asked("signingCert"); n > 0 {
		t.Errorf("Fulcio was asked %d times", n)
	}
	k := w.keyless(w.v1())
	k.Token = sign.FixedToken(sign.Secret(w.Token(email, nil)))
	k.Identity = sign.Identity{Subject: "somebody@example.com", Issuer: w.Issuer()}
	if _, err := k.Sign(t.Context(), sign.Payload("x")); err == nil || !strings.Contains(err.Error(), "want somebody@example.com") {
		t.Errorf("a certificate for somebody else: got %v", err)
	}
}

// S15: a certificate that has expired when the log receives the signature makes
// no signature; neither does a Sigstore that nobody trusts.
func TestS15WhatDoesNotVerifyIsNotReturned(t *testing.T) {
	var late time.Duration
	w := newWorld(t, func() time.Time { return time.Now().Add(late) })
	w.Script("rekor/api/v1/log/entries", 1, func(rw http.ResponseWriter, r *http.Request) {
		late = 11 * time.Minute
		http.StripPrefix("/rekor", w.Rekor()).ServeHTTP(rw, r)
	})
	if _, err := w.keyless(w.v1()).Sign(t.Context(), sign.Payload("x")); err == nil || !strings.Contains(err.Error(), "does not verify against the trust root") {
		t.Errorf("expired: got %v", err)
	}
	late = 0
	if _, err := w.keyless(w.v1()).Sign(t.Context(), sign.Payload("x")); err != nil {
		t.Errorf("in time: %v", err)
	}
	k := w.keyless(w.v1())
	k.Trust = newWorld(t, nil).trust
	if _, err := k.Sign(t.Context(), sign.Payload("x")); err == nil || !strings.Contains(err.Error(), "does not verify against the trust root") {
		t.Errorf("another trust root: got %v", err)
	}
}
