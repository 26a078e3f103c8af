package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/pkg/verify"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// sigstore returns a fresh Sigstore and what trusts it.
func sigstore(t *testing.T) (*imgtest.Sigstore, root.TrustedMaterial) {
	t.Helper()
	s, err := imgtest.NewSigstore(nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	trust, err := verify.LoadTrust(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, trust
}

func kubernetes(trust root.TrustedMaterial) *verify.BlobVerifier {
	return &verify.BlobVerifier{Trust: trust, Identity: upstream.Identity, Issuer: upstream.Issuer}
}

func evidence(t *testing.T, s *imgtest.Sigstore, file string, how imgtest.Signing) *upstream.Evidence {
	t.Helper()
	signed, err := s.Sign(strings.NewReader(file), how)
	if err != nil {
		t.Fatal(err)
	}
	e, err := signed.Evidence()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The evidence in testdata was made by the public-good Sigstore in January 2024:
// fixture a.txt.sigstore of github.com/sigstore/protobuf-specs v0.5.2, its log
// entry brought into the form of Rekor's API. It has everything that a file of
// Kubernetes has but the name: certificate with SCT, promise, proof, checkpoint.
func TestTheBuiltInTrustRootAcceptsARealSignature(t *testing.T) {
	trust, err := verify.LoadTrust("")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/public-good.json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := upstream.ParseEvidence(data)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := upstream.ParseLogEntry(e.LogEntry)
	if err != nil {
		t.Fatal(err)
	}
	rekord, err := entry.HashedRekord()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := hex.DecodeString(rekord.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	v := &verify.BlobVerifier{Trust: trust, Identity: "a@tny.town", Issuer: "https://github.com/login/oauth"}
	if err := v.VerifyBlob(t.Context(), digest, *e); err != nil {
		t.Errorf("got %v, want it accepted", err)
	}
	if err := kubernetes(trust).VerifyBlob(t.Context(), digest, *e); err == nil || !strings.Contains(err.Error(), upstream.Identity) {
		t.Errorf("got %v, want it refused: it is not Kubernetes'", err)
	}
	_, other := sigstore(t)
	v.Trust = other
	if err := v.VerifyBlob(t.Context(), digest, *e); err == nil {
		t.Error("accepted under a trust root that does not know the log")
	}
}

func TestASignatureByKubernetesIsAccepted(t *testing.T) {
	s, trust := sigstore(t)
	for range 5 { // trees of several sizes
		e := evidence(t, s, "kubelet", imgtest.Signing{})
		digest := sha256.Sum256([]byte("kubelet"))
		if err := kubernetes(trust).VerifyBlob(t.Context(), digest[:], *e); err != nil {
			t.Fatal(err)
		}
	}
}

// U07, U09: each row is the accepted case of the test above with one thing wrong.
func TestNoOtherSignatureIsAccepted(t *testing.T) {
	s, trust := sigstore(t)
	stranger, _ := sigstore(t)
	digest := sha256.Sum256([]byte("kubelet"))
	for name, tt := range map[string]struct {
		by   *imgtest.Sigstore
		how  imgtest.Signing
		file string
		want string
	}{
		"other file":         {file: "another kubelet", want: "does not match"},
		"other identity":     {how: imgtest.Signing{Email: "krel-trust@k8s-releng-prod.iam.gserviceaccount.com"}, want: `expected SAN value "krel-staging@`},
		"identity with tail": {how: imgtest.Signing{Email: upstream.Identity + ".example.com"}, want: "expected SAN value"},
		"identity with head": {how: imgtest.Signing{Email: "x" + upstream.Identity}, want: "expected SAN value"},
		"second identity":    {how: imgtest.Signing{Also: []string{"mallory@example.com"}}, want: "got 2 subject alternative names, want one"},
		"other issuer":       {how: imgtest.Signing{Issuer: "https://accounts.example.com"}, want: "expected issuer value"},
		"issuer with tail":   {how: imgtest.Signing{Issuer: upstream.Issuer + "/"}, want: "expected issuer value"},
		"logged too late":    {how: imgtest.Signing{Late: 11 * time.Minute}, want: "integrated time outside certificate validity"},
		"logged too early":   {how: imgtest.Signing{Late: -time.Minute}, want: "integrated time outside certificate validity"},
		"no SCT":             {how: imgtest.Signing{NoSCT: true}, want: "certificate timestamp"},
		"other Sigstore":     {by: stranger, want: "not enough verified log entries"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.by == nil {
				tt.by = s
			}
			if tt.file == "" {
				tt.file = "kubelet"
			}
			e := evidence(t, tt.by, tt.file, tt.how)
			err := kubernetes(trust).VerifyBlob(t.Context(), digest[:], *e)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it refused: %s", err, tt.want)
			}
		})
	}
}

// Parts of two good signatures do not make a third.
func TestMixedEvidenceIsRefused(t *testing.T) {
	s, trust := sigstore(t)
	digest := sha256.Sum256([]byte("kubelet"))
	a, b := evidence(t, s, "kubelet", imgtest.Signing{}), evidence(t, s, "kubelet", imgtest.Signing{})
	for name, e := range map[string]upstream.Evidence{
		"signature":   {Signature: b.Signature, Certificate: a.Certificate, LogEntry: a.LogEntry},
		"certificate": {Signature: a.Signature, Certificate: b.Certificate, LogEntry: a.LogEntry},
		"log entry":   {Signature: a.Signature, Certificate: a.Certificate, LogEntry: b.LogEntry},
		"nothing":     {},
	} {
		if err := kubernetes(trust).VerifyBlob(t.Context(), digest[:], e); err == nil {
			t.Errorf("accepted with the %s of another signature", name)
		}
	}
	if err := kubernetes(trust).VerifyBlob(t.Context(), digest[:], *a); err != nil {
		t.Error(err)
	}
}

// Everything that the log has signed is checked, and no part may be left out
// but the proof, which a log does not give at first.
func TestALogEntryIsCheckedInAllItsParts(t *testing.T) {
	s, trust := sigstore(t)
	evidence(t, s, "before", imgtest.Signing{})
	e := evidence(t, s, "kubelet", imgtest.Signing{})
	digest := sha256.Sum256([]byte("kubelet"))
	for name, tt := range map[string]struct {
		change func(*upstream.LogEntry)
		good   bool
	}{
		"untouched":       {func(*upstream.LogEntry) {}, true},
		"without proof":   {func(e *upstream.LogEntry) { e.Proof = nil }, true},
		"without promise": {func(e *upstream.LogEntry) { e.SET = nil }, false},
		"time":            {func(e *upstream.LogEntry) { e.IntegratedTime++ }, false},
		"index":           {func(e *upstream.LogEntry) { e.LogIndex++ }, false},
		"log":             {func(e *upstream.LogEntry) { e.LogID[0] ^= 1 }, false},
		"promise":         {func(e *upstream.LogEntry) { e.SET[len(e.SET)-1] ^= 1 }, false},
		"body":            {func(e *upstream.LogEntry) { e.Body = append(e.Body, ' ') }, false},
		"root":            {func(e *upstream.LogEntry) { e.Proof.RootHash[0] ^= 1 }, false},
		"path":            {func(e *upstream.LogEntry) { e.Proof.Hashes[0][0] ^= 1 }, false},
		"no path":         {func(e *upstream.LogEntry) { e.Proof.Hashes = nil }, false},
		"tree size":       {func(e *upstream.LogEntry) { e.Proof.TreeSize++ }, false},
		"checkpoint": {func(e *upstream.LogEntry) {
			e.Proof.Checkpoint = strings.Replace(e.Proof.Checkpoint, "\n2\n", "\n3\n", 1)
		}, false},
		"unsigned checkpoint": {func(e *upstream.LogEntry) { e.Proof.Checkpoint, _, _ = strings.Cut(e.Proof.Checkpoint, "\u2014") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			entry, err := upstream.ParseLogEntry(e.LogEntry)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(entry)
			changed := *e
			if changed.LogEntry, err = json.Marshal(entry); err != nil {
				t.Fatal(err)
			}
			if err := kubernetes(trust).VerifyBlob(t.Context(), digest[:], changed); (err == nil) != tt.good {
				t.Errorf("got %v, want accepted: %v", err, tt.good)
			}
		})
	}
}

func TestAZeroVerifierAcceptsNothing(t *testing.T) {
	s, trust := sigstore(t)
	e := evidence(t, s, "kubelet", imgtest.Signing{})
	digest := sha256.Sum256([]byte("kubelet"))
	for name, v := range map[string]*verify.BlobVerifier{
		"zero":        {},
		"no identity": {Trust: trust, Issuer: upstream.Issuer},
		"no issuer":   {Trust: trust, Identity: upstream.Identity},
		"no trust":    {Identity: upstream.Identity, Issuer: upstream.Issuer},
	} {
		if err := v.VerifyBlob(t.Context(), digest[:], *e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestATrustRootThatTrustsNobodyIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty":      "",
		"not json":   "root",
		"no members": `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`,
		"too large":  strings.Repeat(" ", 1<<20) + "{}",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := verify.LoadTrust(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names the file", name, err)
		}
	}
	if _, err := verify.LoadTrust(filepath.Join(dir, "absent")); err == nil {
		t.Error("a missing file fell back to something")
	}
}

func FuzzVerifyBlob(f *testing.F) {
	data, err := os.ReadFile("testdata/public-good.json")
	if err != nil {
		f.Fatal(err)
	}
	good, err := upstream.ParseEvidence(data)
	if err != nil {
		f.Fatal(err)
	}
	trust, err := verify.LoadTrust("")
	if err != nil {
		f.Fatal(err)
	}
	v := &verify.BlobVerifier{Trust: trust, Identity: "a@tny.town", Issuer: "https://github.com/login/oauth"}
	digest := sha256.Sum256([]byte("not the file"))
	f.Add(good.Signature, good.Certificate, []byte(good.LogEntry))
	f.Add([]byte{0x30}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), []byte("{}"))
	f.Fuzz(func(t *testing.T, sig, cert, entry []byte) {
		// Nothing was ever signed for this digest.
		if v.VerifyBlob(t.Context(), digest[:], upstream.Evidence{Signature: sig, Certificate: bytes.Clone(cert), LogEntry: entry}) == nil {
			t.Error("accepted")
		}
	})
}
