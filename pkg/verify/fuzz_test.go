package verify

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/strict"
)

// fuzzed is a collector that trusts one key, and that key's signer.
func fuzzed(f *testing.F) (*collector, func(statement string) []byte) {
	k := imgtest.SigningKey(f)
	pub, err := parseKey("k.pub", k.PublicPEM())
	if err != nil {
		f.Fatal(err)
	}
	sign := func(statement string) []byte { return bundleOf(f, k, []byte(statement)) }
	return &collector{rule: &Rule{keys: []*trustedKey{pub}}, now: noon}, sign
}

// FuzzBundle: no bundle that was not signed about the digest counts, whatever
// is in it, and none makes the parsers panic.
func FuzzBundle(f *testing.F) {
	c, sign := fuzzed(f)
	other := sign(string(statementAbout(hash("b"), predicateSignature)))
	f.Add(other)
	f.Add(other[:len(other)/2])
	f.Add(sign("not JSON"))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"x509CertificateChain":{}},"dsseEnvelope":{"signatures":[{}]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"AAAA"},"tlogEntries":[{}]},"messageSignature":{}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.1","verificationMaterial":{"publicKey":{},"tlogEntries":[{"canonicalizedBody":"e30="}]},"dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AA=="}]}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got := c.checkBundle(doc, hash("a")); got.answer != bad || got.err == nil {
			t.Fatalf("accepted %q: %+v", doc, got)
		}
	})
}

// FuzzStatement: whatever a key that counts has signed, it counts for the
// digest only if the statement says so.
func FuzzStatement(f *testing.F) {
	f.Add(string(statementAbout(hash("a"), predicateSignature)))
	f.Add(string(statementAbout(hash("b"), predicateProvenance)))
	f.Add(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":null}}],"predicate":7}`)
	f.Add("null")
	f.Fuzz(func(t *testing.T, payload string) {
		s, err := parseStatement([]byte(payload), hash("a"))
		if err != nil {
			return
		}
		if s.PredicateType == "" || !strings.Contains(strings.ToLower(payload), "statement") {
			t.Fatalf("accepted %q", payload)
		}
		_ = s.provenance() // must not panic
	})
}

// FuzzPayload: a simple-signing payload gives a digest or an error.
func FuzzPayload(f *testing.F) {
	f.Add(`{"critical":{"identity":{"docker-reference":"a"},"image":{"docker-manifest-digest":"sha256:ab"},"type":"cosign container image signature"},"optional":null}`)
	f.Add(`{"critical":null}`)
	f.Add(`{"critical":{"type":"cosign container image signature","type":"x"}}`)
	f.Add("[]")
	f.Fuzz(func(t *testing.T, payload string) {
		if digest, err := parsePayload([]byte(payload)); err != nil && (digest != "" || strings.Contains(err.Error(), "\n")) {
			t.Fatalf("%q: %q, %v", payload, digest, err)
		}
	})
}

// FuzzPolicy: a policy that loads has rules, and each of them asks for a
// signature; every mistake has a place.
func FuzzPolicy(f *testing.F) {
	pub := imgtest.SigningKey(f).PublicPEM()
	header := "apiVersion: imgctl.dev/v1\nkind: Policy\n"
	f.Add(header + fine)
	f.Add(header + strings.Replace(fine, "k.pub", "k.pub, notAfter: 2027-01-31T00:00:00Z", 1) + "  attestations: [{type: https://slsa.dev/provenance/v1, builder: a}]\n  sources: [\"oci:x\"]\n")
	f.Add(header + "rules: [{repositories: [\"quay.io/*\"], signers: {threshold: 1, any: [{keyless: {}}]}}]\n")
	f.Add(header + "rules: &a [*a]\n")
	f.Add("kind: Policy")
	f.Add(header + "rules:\n- repositories: !0\n0") // goccy/go-yaml 1.19.2 panics
	f.Fuzz(func(t *testing.T, text string) {
		p, err := decodePolicy("p.yaml", []byte(text), func(file string) ([]byte, error) {
			if file != "k.pub" {
				return nil, fs.ErrNotExist
			}
			return pub, nil
		})
		if err != nil {
			var e *strict.Error
			if !errors.As(err, &e) || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		for _, r := range p.rules {
			if r.threshold < 1 || len(r.keys) < r.threshold || len(r.repositories) == 0 {
				t.Fatalf("%q grants for nothing: %+v", text, r)
			}
		}
	})
}

// FuzzPublicKey: a key file is a P-256 key or an error.
func FuzzPublicKey(f *testing.F) {
	pub := imgtest.SigningKey(f).PublicPEM()
	f.Add(pub)
	f.Add(pub[:80])
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := parseKey("k.pub", file)
		if (k == nil) == (err == nil) || k != nil && k.fingerprint == "" {
			t.Fatalf("%+v, %v", k, err)
		}
	})
}
