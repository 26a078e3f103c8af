//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/lab"
)

// Keyless signatures with a real Fulcio, Rekor v2 and timestamp authority, on a
// registry with the referrers API and on one with the fallback tag. What verified
// while they ran verifies when none of them is left.
func TestKeylessSignaturesVerifyWithEverythingDead(t *testing.T) {
	s := newSigstore(t)
	api := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	registries := []string{shared.Registries[0].Addr, api.Host()}
	token := s.write(t, "token", s.token("file@example.com")+"\n")

	signed := make([]string, len(registries))
	if !t.Run("Sign", func(t *testing.T) {
		for i, registry := range registries {
			t.Run(registry, func(t *testing.T) {
				t.Parallel() // the log takes a second for each entry
				signed[i] = strings.TrimSpace(s.run(t, s.imgctl(t, "push", "-q", "oci:layout:latest", registry+"/keyless/tool")))
				s.sign(t, signed[i], token)
			})
		}
	}) {
		return
	}
	released := s.release(t, registries[0], api)
	check := func(t *testing.T) {
		for _, ref := range signed {
			s.wantSigned(t, ref)
		}
		for _, repository := range released {
			s.wantReleased(t, repository)
		}
	}
	t.Run("WhileTheyRun", check)
	s.stop(t)
	t.Run("WhenTheyAreDead", check)
	t.Run("NothingIsSignedWithoutThem", func(t *testing.T) {
		late := s.keyless(t, "sign", signed[0])
		late.Env = append(late.Env, "SIGSTORE_ID_TOKEN="+s.token("late@example.com"))
		if said := s.fails(t, 1, late); !strings.Contains(said, "ask Fulcio for a certificate") {
			t.Errorf("got %s, want Fulcio named", said)
		}
	})
	t.Run("NoTokenWasSaid", func(t *testing.T) { s.wantNoLeak(t, token) })
}

// sign signs ref with a token from each of the places that one can be in, and
// with cosign.
func (s *sigstore) sign(t *testing.T, ref, token string) {
	t.Helper()
	s.run(t, s.keyless(t, "sign", ref, "--identity-token-file", token))
	byEnvironment := s.keyless(t, "sign", ref, "--formats", "bundle")
	byEnvironment.Env = append(byEnvironment.Env, "SIGSTORE_ID_TOKEN="+s.token("env@example.com"))
	s.run(t, byEnvironment)
	byJob := s.keyless(t, "sign", ref, "--formats", "bundle")
	byJob.Env = append(byJob.Env, s.asJob()...)
	s.run(t, byJob)
	theirs := write(t, "token", s.people.Token("cosign@example.com", nil))
	s.run(t, s.byCosign(t, "sign", "--yes", "--recursive", "--identity-token", theirs, "--signing-config", s.SigningConfig, ref))
}

// wantSigned wants each signature seen, and identities refused of which one half
// is another's.
func (s *sigstore) wantSigned(t *testing.T, ref string) {
	t.Helper()
	for _, who := range []identity{s.person("file@example.com"), s.person("env@example.com"), s.job(), s.person("cosign@example.com")} {
		s.wantSignedBy(t, ref, who)
	}
	s.wantRefused(t, ref, s.person("other@example.com"))
	s.wantRefused(t, ref, identity{"file@example.com", s.job().issuer})
}

// release releases as a job of GitHub to two registries of which one is down,
// and heals that. It returns both repositories.
func (s *sigstore) release(t *testing.T, required string, other *imgtest.Registry) []string {
	t.Helper()
	repositories := []string{required + "/keyless-release/tool", other.Host() + "/keyless-release/tool"}
	policy := s.policy(t, "release-policy", s.job(), "  attestations: [{type: https://slsa.dev/provenance/v1}, {type: https://spdx.dev/Document}]\n", repositories...)
	s.write(t, "release.yaml", fmt.Sprintf(`apiVersion: imgctl.dev/v1
kind: Release
image: tool
formats: [bundle]
destinations: [{repository: %s}, {repository: %s, bestEffort: true}]
tags: ["{version}"]
signers: [{keyless: {issuer: %q, subject: %q, signingConfig: %q, trustedRoot: %q}}]
policy: %s
`, repositories[0], repositories[1], s.job().issuer, s.job().subject, s.SigningConfig, s.TrustedRoot, filepath.Base(policy)))
	release := func(args ...string) *exec.Cmd {
		cmd := s.imgctl(t, append([]string{"release"}, args...)...)
		cmd.Env = append(cmd.Env, s.asJob()...)
		return cmd
	}
	other.ReadOnly()
	s.fails(t, 7, release())
	other.Heal()
	s.run(t, release("--heal"))
	s.run(t, s.imgctl(t, "release")) // no token: everything is signed
	return repositories
}

// wantReleased wants imgctl and cosign to see the release and its attestations,
// and none of another type or by another signer.
func (s *sigstore) wantReleased(t *testing.T, repository string) {
	t.Helper()
	s.run(t, s.imgctl(t, "verify", repository+":latest", "--policy", "release-policy.yaml"))
	lock, err := os.ReadFile(filepath.Join(s.dir, "release.lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var released lab.Released
	if err := json.Unmarshal(lock, &released); err != nil || len(released.Artifacts) != 1 || len(released.Artifacts[0].Platforms) != 2 {
		t.Fatalf("got %v and %s, want one image for two platforms", err, lock)
	}
	attestation := func(who identity, predicateType, digest string) *exec.Cmd {
		return s.byCosign(t, "verify-attestation", append(s.asked(who), "--type", predicateType, repository+"@"+digest)...)
	}
	const sbom, provenance = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"
	image := released.Artifacts[0]
	for _, p := range image.Platforms {
		s.run(t, attestation(s.job(), sbom, p.Digest))
	}
	s.run(t, attestation(s.job(), provenance, image.Digest))
	s.fails(t, 1, attestation(s.job(), "https://cyclonedx.org/bom", image.Digest))
	s.fails(t, 1, attestation(s.person("file@example.com"), provenance, image.Digest))
}
