package verify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/sign"
)

const fine = "rules:\n- repositories: [quay.io/poseidon/kubelet]\n  signers: {any: [{key: {file: k.pub}}]}\n"

// S19 and the typos: what is not clearly a policy is none, and the place is named.
func TestPolicyRefusesWhatItCannotMean(t *testing.T) {
	k, l := imgtest.SigningKey(t), imgtest.SigningKey(t)
	if _, err := policyOf(t, k, l, fine); err != nil {
		t.Fatalf("the sibling of all these: %v", err)
	}
	for _, tt := range []struct{ name, rules, want string }{
		{"no rules", "", "policy.yaml:1:1: rules: the list is empty"},
		{"null rules", "rules: null\n", "policy.yaml:3:8: rules: the list is empty"},
		{"empty rules", "rules: []\n", "policy.yaml:3:8: rules: the list is empty"},
		{"unknown key", fine + "  freshnes: {maxAge: 1h}\n", `policy.yaml:6:3: unknown field "freshnes"`},
		{"duplicate key", fine + "  repositories: [quay.io/a/b]\n", "policy.yaml:6:3: "},
		{"second document", fine + "---\nrules: []\n", "a second document"},
		{"no repositories", "rules:\n- signers: {any: [{key: {file: k.pub}}]}\n", "policy.yaml:4:3: repositories: the list is empty"},
		{"empty repositories", strings.Replace(fine, "[quay.io/poseidon/kubelet]", "[]", 1), "policy.yaml:4:17: repositories: the list is empty"},
		{"null repository", strings.Replace(fine, "[quay.io/poseidon/kubelet]", "[~]", 1), "policy.yaml:4:"},
		{"no signers", "rules:\n- repositories: [quay.io/a/b]\n", `policy.yaml:4:3: signers: the list "any" is empty`},
		{"empty any", strings.Replace(fine, "[{key: {file: k.pub}}]", "[]", 1), `policy.yaml:5:18: signers: the list "any" is empty`},
		{"null signer", strings.Replace(fine, "{key: {file: k.pub}}", "~", 1), "want key: {file: …}"},
		{"no key file", strings.Replace(fine, "file: k.pub", "", 1), "want key: {file: …}"},
		{"key file missing", strings.Replace(fine, "k.pub", "m.pub", 1), "policy.yaml:5:32: open m.pub: no such file or directory (`imgctl keygen` makes a key pair)"},
		{"key file is none", strings.Replace(fine, "k.pub", "policy.yaml", 1), "policy.yaml:5:32: policy.yaml: no PEM block"},
		{"keyless without subject", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a}}", 1), "policy.yaml:5:30: keyless: want an issuer and a subject"}, // S03
		{"keyless without issuer", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {subject: b}}", 1), "keyless: want an issuer and a subject"},
		{"keyless with a pattern", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a, subject: \"b/*\"}}", 1), "compared exactly"}, // S04
		{"keyless null", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: ~}", 1), "want key: {file: …} or keyless"},
		{"keyless beside a key", strings.Replace(fine, "{key: {file: k.pub}}", "{key: {file: k.pub}, keyless: {issuer: https://a, subject: b}}", 1), "got key and keyless"},
		{"one identity twice", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a, subject: b}}, {keyless: {issuer: https://a, subject: b}}", 1), "b is the same signer as b"}, // S08
		{"trust root missing", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a, subject: b, trustedRoot: none.json}}", 1), "open none.json: no such file"},
		{"trust root is none", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a, subject: b, trustedRoot: k.pub}}", 1), "trusted root k.pub: "},
		{"one key twice", strings.Replace(fine, "{key: {file: k.pub}}", "{key: {file: k.pub}}, {key: {file: ./k.pub}}", 1), "policy.yaml:5:54: ./k.pub is the same signer as k.pub"},
		{"threshold 0", strings.Replace(fine, "any:", "threshold: 0, any:", 1), "policy.yaml:5:24: threshold: got 0, want 1 to 1"},
		{"threshold -1", strings.Replace(fine, "any:", "threshold: -1, any:", 1), "threshold: got -1"},
		{"threshold above the keys", strings.Replace(fine, "any:", "threshold: 2, any:", 1), "threshold: got 2, want 1 to 1"},
		{"threshold is text", strings.Replace(fine, "any:", "threshold: two, any:", 1), "policy.yaml:5:24: "},
		{"window ends before it begins", strings.Replace(fine, "k.pub", "k.pub, notBefore: 2027-01-01T00:00:00Z, notAfter: 2026-01-01T00:00:00Z", 1), "notAfter: got 2026-01-01T00:00:00Z, want a time after notBefore"},
		{"window is no time", strings.Replace(fine, "k.pub", "k.pub, notAfter: soon", 1), `policy.yaml:5:49: got "soon", want a time such as 2027-01-31T00:00:00Z`},
		{"window is a date", strings.Replace(fine, "k.pub", "k.pub, notBefore: 2027-01-31", 1), `got "2027-01-31", want a time`},
		{"repository with a tag", strings.Replace(fine, "kubelet", "kubelet:v1", 1), "want a name without tag and digest"},
		{"upper case", strings.Replace(fine, "kubelet", "Kubelet", 1), "policy.yaml:4:18: "},
		{"star alone", strings.Replace(fine, "quay.io/poseidon/kubelet", `"*"`, 1), "a * may only be the whole last component"},
		{"star in a word", strings.Replace(fine, "kubelet", "kube*", 1), "a * may only be the whole last component"},
		{"star in the middle", strings.Replace(fine, "poseidon", "\"*\"", 1), "policy.yaml:4:"},
		{"two stars", strings.Replace(fine, "kubelet", "*/*", 1), "a * may only be the whole last component"},
		{"repository twice", strings.Replace(fine, "[quay.io/poseidon/kubelet]", "[psdn/kubelet, index.docker.io/psdn/kubelet]", 1), "policy.yaml:4:32: docker.io/psdn/kubelet is there twice"},
		{"source with a star", fine + "  sources: [quay.io/poseidon/*]\n", "policy.yaml:6:13: source quay.io/poseidon/*: where a repository ends in *"},
		{"source without the star", strings.Replace(fine, "kubelet]", "*]", 1) + "  sources: [docker.io/psdn/kubelet]\n", "where a repository ends in *"},
		{"attestation without type", fine + "  attestations: [{builder: https://a}]\n", "want type"},
		{"attestation twice", fine + "  attestations: [{type: https://a}, {type: https://a}]\n", "policy.yaml:6:44: type https://a is there twice"},
		{"builder of an SBOM", fine + "  attestations: [{type: https://spdx.dev/Document, builder: https://a}]\n", "builder: only attestations of type https://slsa.dev/provenance/v1"},
		{"source of an SBOM", fine + "  attestations: [{type: https://spdx.dev/Document, source: https://a}]\n", "source and parameters: only attestations of type https://slsa.dev/provenance/v1"},
		{"parameters of an SBOM", fine + "  attestations: [{type: https://spdx.dev/Document, parameters: [a]}]\n", "source and parameters: only"},
		{"no parameter at all", fine + "  attestations: [{type: https://slsa.dev/provenance/v1, parameters: []}]\n", "policy.yaml:6:69: parameters: the list is empty"},
		{"floor is no version", fine + "  minVersion: new\n", `policy.yaml:6:15: minVersion: got "new", want a version such as v1.34.0`},
		{"unknown layout", strings.Replace(fine, "any:", "format: dsse, any:", 1), `policy.yaml:5:21: format: got "dsse", want bundle or legacy`},
		{"subject and pattern", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {issuer: https://a, subject: b, subjectRegexp: c}}", 1), "got subject and subjectRegexp, want one"},
		{"pattern without issuer", strings.Replace(fine, "{key: {file: k.pub}}", "{keyless: {subjectRegexp: b}}", 1), "want an issuer and a subject"},
		{"signature as attestation", fine + "  attestations: [{type: https://sigstore.dev/cosign/sign/v1}]\n", "which signers asks for"},
		{"rule never reached", fine + "- repositories: [quay.io/poseidon/kubelet]\n  signers: {any: [{key: {file: l.pub}}]}\n", "policy.yaml:6:18: quay.io/poseidon/kubelet is never reached: rule 1 of policy.yaml matches it first"},
		{"rule behind a star", strings.Replace(fine, "kubelet", "*", 1) + "- repositories: [quay.io/poseidon/kubelet]\n  signers: {any: [{key: {file: l.pub}}]}\n", "is never reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policyOf(t, k, l, tt.rules)
			if err == nil {
				t.Fatalf("loaded: %+v", p)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %q\nwant %q", err, tt.want)
			}
		})
	}
}

// S19: a file that cannot be trusted, or read, is not a policy.
func TestPolicyFileFailsClosed(t *testing.T) {
	k, dir := imgtest.SigningKey(t), t.TempDir()
	path := imgtest.PolicyFile(t, dir, []string{"quay.io/poseidon/kubelet"}, k)
	if _, err := LoadPolicy(path); err != nil {
		t.Fatalf("the sibling of all these: %v", err)
	}
	for _, file := range []string{path, filepath.Join(dir, "release-1.pub")} {
		chmod(t, file, 0o666)
		if _, err := LoadPolicy(path); err == nil || !strings.Contains(err.Error(), "everybody may write it") {
			t.Errorf("%s is world-writable: got %v", filepath.Base(file), err)
		}
		chmod(t, file, 0o664) // the group is the owner's choice
		if _, err := LoadPolicy(path); err != nil {
			t.Errorf("%s is group-writable: %v", filepath.Base(file), err)
		}
	}
	if _, err := LoadPolicy(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	if _, err := LoadPolicy(dir); err == nil {
		t.Error("a directory was loaded")
	}
	for _, text := range []string{"", "null\n", "{}\n", "[]\n", "# nothing\n", "apiVersion: imgctl.dev/v1\nkind: Release\n", "apiVersion: imgctl.dev/v2\nkind: Policy\n"} {
		write(t, path, []byte(text))
		var e *strict.Error
		if _, err := LoadPolicy(path); !errors.As(err, &e) {
			t.Errorf("%q: got %v, want a *strict.Error", text, err)
		}
	}
	write(t, path, make([]byte, strict.MaxSize+1))
	if _, err := LoadPolicy(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge: got %v", err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestFirstRuleThatNamesTheRepositoryDecides(t *testing.T) {
	p, err := policyOf(t, imgtest.SigningKey(t), imgtest.SigningKey(t), `rules:
- repositories: [quay.io/poseidon/kubelet, psdn/kubelet]
  sources: [quay.io/poseidon/kubelet, index.docker.io/psdn/kubelet, "oci:/var/lib/imgctl/store"]
  signers: {any: [{key: {file: k.pub}}]}
- repositories: ["quay.io/poseidon/*", "docker.io/*"]
  sources: ["registry.example:5000/mirror/*", "quay.io/poseidon/*"]
  signers: {threshold: 2, any: [{key: {file: k.pub}}, {key: {file: l.pub}}]}
- repositories: [ghcr.io/a/b]
  signers: {any: [{key: {file: l.pub}}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		repository string
		rule       string // "": none
		sources    []string
	}{
		{"quay.io/poseidon/kubelet", "rule 1", []string{"quay.io/poseidon/kubelet", "docker.io/psdn/kubelet", "oci:/var/lib/imgctl/store"}},
		{"docker.io/psdn/kubelet", "rule 1", nil},
		{"index.docker.io/psdn/kubelet", "rule 1", nil},
		{"quay.io/poseidon/kubelet-bundle", "rule 2", []string{"registry.example:5000/mirror/kubelet-bundle", "quay.io/poseidon/kubelet-bundle"}},
		{"busybox", "rule 2", []string{"registry.example:5000/mirror/busybox", "quay.io/poseidon/busybox"}},
		{"ghcr.io/a/b", "rule 3", []string{"ghcr.io/a/b"}},
		{"quay.io/poseidon/a/b", "", nil},             // a star is one component
		{"quay.io/poseidon", "", nil},                 // and not none
		{"quay.io/poseidon.evil/kubelet", "", nil},    // S04: and no prefix of a word
		{"evil.example/quay.io/poseidon/k", "", nil},  // nor a suffix
		{"docker.io/other/kubelet", "", nil},          // docker.io/* is docker.io/library/*
		{"quay.io/poseidon/Kubelet", "", nil},         // no name at all
		{"quay.io/poseidon/kubelet:v1.36.2", "", nil}, // not a repository
	} {
		r, ok := p.Rule(tt.repository)
		if ok != (tt.rule != "") || ok && !strings.HasPrefix(r.String(), tt.rule+" of ") {
			t.Errorf("%s: got %v, want %q", tt.repository, r, tt.rule)
			continue
		}
		if tt.sources != nil && !slices.Equal(r.Sources(tt.repository), tt.sources) {
			t.Errorf("sources of %s: got %q, want %q", tt.repository, r.Sources(tt.repository), tt.sources)
		}
	}
}

// A directory in a policy is relative to the policy; one that the user names is relative to where he is.
func TestDirectoriesAreRelativeToThePolicy(t *testing.T) {
	dir := t.TempDir()
	path := imgtest.PolicyFile(t, dir, []string{"oci:dist"}, imgtest.SigningKey(t))
	p, err := LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	r, ok := p.Rule("oci:./dist")
	if !ok {
		t.Fatal("no rule for the directory beside the policy")
	}
	if got := r.Sources("oci:dist"); !slices.Equal(got, []string{"oci:" + filepath.Join(dir, "dist")}) {
		t.Errorf("sources: %q", got)
	}
	t.Chdir(t.TempDir())
	if _, ok := p.Rule("oci:dist"); ok {
		t.Error("a directory of that name elsewhere is the same")
	}
}

func TestKeyPolicyTrustsOneKeyForWhatIsNamed(t *testing.T) {
	k, a := imgtest.SigningKey(t), newRegistry(t)
	h := imgtest.Release{Repository: a, Signers: signers(k)}.Push(t)
	p, err := KeyPolicy("cosign.pub", k.PublicPEM(), a)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newWorld(t, p).Verify(t.Context(), Subject{a, h})
	if err != nil {
		t.Fatal(err)
	}
	if r := v.Report(); r.Rule != "--key cosign.pub" || !slices.Equal(r.Signers, []string{"cosign.pub"}) {
		t.Errorf("report: %+v", r)
	}
	_, err = newWorld(t, p).Verify(t.Context(), Subject{"quay.io/poseidon/kubelet", h})
	refused(t, err, Denied)

	if _, err := KeyPolicy("cosign.pub", k.PublicPEM()); err == nil {
		t.Error("a key that is trusted for nothing makes a policy")
	}
	if _, err := KeyPolicy("cosign.pub", k.PublicPEM(), "quay.io/*/kubelet"); err == nil {
		t.Error("a star in the middle makes a policy")
	}
}

// S27: key files that are none.
func TestPublicKeyFilesThatAreNone(t *testing.T) {
	k := imgtest.SigningKey(t)
	private, _, err := sign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := k.PublicPEM()
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "no PEM block in 0 bytes"},
		{"truncated", good[:60], "no PEM block"},
		{"private", private, "a private key, want its public half"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), `got PEM type "CERTIFICATE"`},
		{"garbage inside", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "parse public key"},
		{"other curve", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "want ECDSA P-256"},
		{"two keys", slices.Concat(good, good), "more text follows the key"},
	} {
		if _, err := parseKey(tt.name, tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := parseKey("good", good); err != nil {
		t.Error(err)
	}
}

// The repository's own policy is what it says, once `imgctl keygen` has made its key.
func TestShippedPolicyLoads(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "policies", "kubelet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "kubelet.yaml")
	write(t, path, data)
	if _, err := LoadPolicy(path); err == nil || !strings.Contains(err.Error(), "kubelet.pub: no such file") || !strings.Contains(err.Error(), "imgctl keygen") {
		t.Errorf("without a key: got %v", err)
	}
	write(t, filepath.Join(dir, "kubelet.pub"), imgtest.SigningKey(t).PublicPEM())
	p, err := LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	for repository, wantSBOM := range map[string]bool{
		"quay.io/poseidon/kubelet": true, "docker.io/psdn/kubelet": true,
		"quay.io/poseidon/kubelet-bundle": false, "docker.io/psdn/kubelet-bundle": false,
	} {
		r, ok := p.Rule(repository)
		if !ok {
			t.Errorf("no rule for %s", repository)
			continue
		}
		hasSBOM := slices.ContainsFunc(r.attestations, func(q requirement) bool { return q.predicateType == "https://spdx.dev/Document" })
		if len(r.Sources(repository)) != 2 || hasSBOM != wantSBOM {
			t.Errorf("%s: sources %q, SBOM required: %v", repository, r.Sources(repository), hasSBOM)
		}
	}
	if _, ok := p.Rule("quay.io/poseidon/typhoon"); ok {
		t.Error("a rule for what is not released")
	}
}
