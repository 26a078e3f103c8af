//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/peers"
)

// sigstore is a real Fulcio, Rekor v2 and timestamp authority with two issuers
// of tokens, an image to sign, and all that was said while that happened.
type sigstore struct {
	*peers.Sigstore
	people, jobs *imgtest.Issuer
	issuers      *http.Server
	cosign       cosign
	dir          string // with image.yaml, token files, policies, and what commands write

	mu      sync.Mutex
	secrets []string     // what must be said nowhere
	said    bytes.Buffer // and where it must not be
}

// hear notes how a command was called and what it said.
func (s *sigstore) hear(cmd *exec.Cmd, text ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(&s.said, cmd.Args, text)
}

// identity is for whom a certificate is, as verifiers are told it.
type identity struct{ subject, issuer string }

func newSigstore(t *testing.T) *sigstore {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sigstore{dir: t.TempDir(), secrets: []string{imgtest.GitHubBearer}}
	mux := http.NewServeMux()
	for name, issuer := range map[string]**imgtest.Issuer{"people": &s.people, "jobs": &s.jobs} {
		if *issuer, err = imgtest.NewIssuer("http://"+l.Addr().String()+"/"+name, nil); err != nil {
			t.Fatal(err)
		}
		mux.Handle("/"+name+"/", *issuer)
	}
	s.issuers = &http.Server{Handler: mux}
	go s.issuers.Serve(l) // ends with stop
	programs, err := shared.Peers.Sigstore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Sigstore, err = peers.StartSigstore(t.Context(), programs, shortDir(t),
		peers.SigstoreIssuer{URL: s.people.URL(), Type: "email"}, peers.SigstoreIssuer{URL: s.jobs.URL(), Type: "github-workflow"})
	if err != nil {
		t.Fatal(errors.Join(err, s.issuers.Close()))
	}
	t.Cleanup(func() { s.stop(t) })
	s.cosign = newCosign(t, peers.Cosign3())
	writeTool(t, s.dir)
	s.run(t, s.imgctl(t, "lock", "tool", "--offline"))
	s.run(t, s.imgctl(t, "build", "tool", "-o", "layout", "--offline"))
	return s
}

// stop ends every service and both issuers; a second call does nothing.
func (s *sigstore) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.Stop(), s.issuers.Close()); err != nil {
		t.Error(err)
	}
	for _, address := range []string{s.Fulcio, s.Rekor, s.TSA, s.people.URL()} {
		if resp, err := http.Get(address); err == nil {
			resp.Body.Close()
			t.Errorf("%s still answers", address)
		}
	}
}

// toolSpec is an image that takes no time to build.
const toolSpec = `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/amd64, linux/arm64]
local:
- {source: tool, path: /usr/bin/tool}
entrypoint: [/usr/bin/tool]
`

// writeTool writes the spec into dir/tool.
func writeTool(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"image.yaml": toolSpec, "tool": "what a program would be\n"} {
		if err := os.WriteFile(filepath.Join(dir, "tool", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a file in s.dir and returns its path.
func (s *sigstore) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// imgctl prepares a run in s.dir that tells all it can tell.
func (s *sigstore) imgctl(t *testing.T, args ...string) *exec.Cmd {
	cmd := shared.Command(t.Context(), append(args, "--debug")...)
	cmd.Dir = s.dir
	return cmd
}

// keyless prepares a run that signs with these services.
func (s *sigstore) keyless(t *testing.T, args ...string) *exec.Cmd {
	return s.imgctl(t, append(args, "--keyless", "--signing-config", s.SigningConfig, "--trusted-root", s.TrustedRoot)...)
}

// run runs a command, which must succeed, and returns its stdout.
func (s *sigstore) run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	s.hear(cmd, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// fails runs a command, which must end with the code, and returns what it said.
func (s *sigstore) fails(t *testing.T, code int, cmd *exec.Cmd) string {
	t.Helper()
	out := refused(t, cmd)
	s.hear(cmd, out)
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%s: got exit code %d, want %d\n%s", strings.Join(cmd.Args, " "), got, code, out)
	}
	return out
}

// token makes a token for somebody, which nobody may print.
func (s *sigstore) token(email string) string {
	token := s.people.Token(email, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, token)
	return token
}

// asJob is the environment of a job in GitHub Actions.
func (s *sigstore) asJob() []string {
	return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + s.jobs.TokenURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + imgtest.GitHubBearer}
}

// person is who has the tokens that s.token makes.
func (s *sigstore) person(email string) identity { return identity{email, s.people.URL()} }

// job is who has the tokens that a job is given.
func (s *sigstore) job() identity { return identity{imgtest.Workflow, s.jobs.URL()} }

// policy trusts who for every repository of the registries.
func (s *sigstore) policy(t *testing.T, name string, who identity, attestations string, repositories ...string) string {
	t.Helper()
	return s.write(t, name+".yaml", fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s]\n"+
		"  signers: {any: [{keyless: {issuer: %q, subject: %q, trustedRoot: %q}}]}\n%s",
		strings.Join(repositories, ", "), who.issuer, who.subject, s.TrustedRoot, attestations))
}

// wantSignedBy wants imgctl and cosign to verify ref as signed by who.
func (s *sigstore) wantSignedBy(t *testing.T, ref string, who identity) {
	t.Helper()
	ours, theirs := s.verify(t, ref, who)
	s.run(t, ours)
	s.run(t, theirs)
}

// wantRefused wants them to refuse who did not sign it.
func (s *sigstore) wantRefused(t *testing.T, ref string, who identity) {
	t.Helper()
	ours, theirs := s.verify(t, ref, who)
	if said := s.fails(t, 12, ours); !strings.Contains(said, "who is nobody of the policy") {
		t.Errorf("imgctl: got %s, want the signer named", said)
	}
	if said := s.fails(t, 1, theirs); !strings.Contains(said, "failed to verify certificate identity") {
		t.Errorf("cosign: got %s, want another identity", said)
	}
}

// verify prepares a verification by imgctl and one by cosign.
func (s *sigstore) verify(t *testing.T, ref string, who identity) (ours, theirs *exec.Cmd) {
	t.Helper()
	repository, _, _ := strings.Cut(ref, "@")
	policy := s.policy(t, "policy-"+rand.Text(), who, "", repository)
	return s.imgctl(t, "verify", ref, "--policy", policy), s.byCosign(t, "verify", append(s.asked(who), ref)...)
}

// byCosign prepares a run of cosign, with the trust root that imgctl has.
func (s *sigstore) byCosign(t *testing.T, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), s.cosign.path, append([]string{verb, "--trusted-root", s.TrustedRoot}, args...)...)
	cmd.Env = s.cosign.env
	return cmd
}

// asked are the flags with which cosign asks for a signature by who, timestamped
// and in the log. There is no certificate log.
func (s *sigstore) asked(who identity) []string {
	return []string{"--certificate-identity", who.subject, "--certificate-oidc-issuer", who.issuer, "--use-signed-timestamps", "--insecure-ignore-sct"}
}

// wantNoLeak wants no token in what was said or is written, but in the one file
// that was made to hold one; there, as a sibling, it must be found.
func (s *sigstore) wantNoLeak(t *testing.T, held string) {
	t.Helper()
	texts := map[string][]byte{"what commands said, and how they were called": s.said.Bytes()}
	for _, dir := range []string{s.dir, filepath.Dir(s.TrustedRoot)} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			texts[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for where, text := range texts {
		if leaked := s.holdsSecret(text); leaked != (where == held) {
			t.Errorf("%s holds a token: %v", where, leaked)
		}
	}
}

// anyToken is how every token of the issuers begins: {"alg":"ES256" in base64.
const anyToken = "eyJhbGciOiJFUzI1NiI"

// holdsSecret reports whether a token is in the text, or what makes it one: its
// signature.
func (s *sigstore) holdsSecret(text []byte) bool {
	for _, secret := range append(s.secrets, anyToken) {
		parts := strings.Split(secret, ".")
		if bytes.Contains(text, []byte(parts[len(parts)-1])) {
			return true
		}
	}
	return false
}
