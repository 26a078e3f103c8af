//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// noRoot is a trust root that trusts nobody: what a key verifies needs no more,
// and with it cosign does not look for the public one on the network.
const noRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// forms are the two layouts of a signature and how cosign is told to look at one.
var forms = map[string]string{"bundle": "--new-bundle-format=true", "legacy tag": "--new-bundle-format=false"}

func TestCosignVerifiesEverythingOnBothRegistries(t *testing.T) {
	for _, recipe := range []peers.Recipe{peers.Cosign2(), peers.Cosign3()} {
		c := newCosign(t, recipe)
		for what, ref := range everything(t) {
			for form, flag := range forms {
				t.Run(recipe.Name+"/"+form+"/"+what, func(t *testing.T) {
					_, digest, _ := strings.Cut(ref, "@")
					out := output(t, c.verify(t, shared.at("release.pub"), flag, ref))
					if !strings.Contains(out, digest) {
						t.Errorf("got %s, want a payload that names %s", out, digest)
					}
				})
			}
		}
	}
}

func TestCosignRefusesAnotherKey(t *testing.T) {
	other := t.TempDir() + "/other"
	output(t, shared.Command(t.Context(), "keygen", other))
	ref := shared.Image(0) + "@" + shared.Released.Image().Digest
	for _, recipe := range []peers.Recipe{peers.Cosign2(), peers.Cosign3()} {
		c := newCosign(t, recipe)
		for form, flag := range forms {
			t.Run(recipe.Name+"/"+form, func(t *testing.T) {
				output(t, c.verify(t, shared.at("release.pub"), flag, ref)) // the sibling that must pass
				refused(t, c.verify(t, other+".pub", flag, ref))
			})
		}
	}
}

func TestCosignRefusesWhatWasNotSigned(t *testing.T) {
	ref := shared.Registries[0].Addr + "/unsigned/kubelet"
	crane := program(t, peers.Crane())
	output(t, exec.Command(crane, "--insecure", "copy", shared.Image(0)+"@"+shared.Released.Image().Digest, ref+":v1"))
	for _, recipe := range []peers.Recipe{peers.Cosign2(), peers.Cosign3()} {
		c := newCosign(t, recipe)
		for form, flag := range forms {
			t.Run(recipe.Name+"/"+form, func(t *testing.T) {
				refused(t, c.verify(t, shared.at("release.pub"), flag, ref+"@"+shared.Released.Image().Digest))
			})
		}
	}
}

func TestCosignVerifiesTheAttestations(t *testing.T) {
	image := shared.Released.Image()
	for _, recipe := range []peers.Recipe{peers.Cosign2(), peers.Cosign3()} {
		c := newCosign(t, recipe)
		for i := range shared.Registries {
			repo, bundles := forCosign(t, shared.Image(i)), forCosign(t, shared.Bundle(i))
			for _, p := range image.Platforms {
				out := output(t, c.attestation(t, "https://spdx.dev/Document", repo+"@"+p.Digest))
				if !strings.Contains(out, "payload") {
					t.Errorf("%s, SPDX of %s: got %s, want a DSSE envelope", recipe.Name, p.Platform, out)
				}
				refused(t, c.attestation(t, "https://cyclonedx.org/bom", repo+"@"+p.Digest))
			}
			output(t, c.attestation(t, "https://slsa.dev/provenance/v1", repo+"@"+image.Digest))
			output(t, c.attestation(t, "https://slsa.dev/provenance/v1", bundles+"@"+shared.Released.Bundle().Digest))
		}
	}
}

// everything is what a release signs, by digest, on each registry.
func everything(t *testing.T) map[string]string {
	refs := map[string]string{}
	for i := range shared.Registries {
		on := fmt.Sprintf(" on registry %d", i+1)
		refs["index"+on] = forCosign(t, shared.Image(i)) + "@" + shared.Released.Image().Digest
		refs["bundle"+on] = forCosign(t, shared.Bundle(i)) + "@" + shared.Released.Bundle().Digest
		for _, p := range shared.Released.Image().Platforms {
			refs[p.Platform+on] = forCosign(t, shared.Image(i)) + "@" + p.Digest
		}
	}
	return refs
}

// forCosign is a name under which cosign reaches a repository without TLS. Only
// 127.0.0.1 is taken for loopback when cosign 2 looks for bundles: its
// --allow-http-registry has no say there (GetBundles parses the name anew).
func forCosign(t *testing.T, repository string) string {
	t.Helper()
	addr, path, _ := strings.Cut(repository, "/")
	if strings.HasPrefix(addr, "127.0.0.1:") {
		return repository
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go peers.Forward(l, addr)
	return l.Addr().String() + "/" + path
}

// cosign runs one version of cosign, which has its own home and reaches
// nothing but loopback.
type cosign struct {
	path, root string
	env        []string
}

func newCosign(t *testing.T, r peers.Recipe) cosign {
	t.Helper()
	home := t.TempDir()
	return cosign{program(t, r), write(t, "root.json", noRoot), append(os.Environ(), "HOME="+home, "TUF_ROOT="+home,
		"HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,127.0.0.2")}
}

func (c cosign) verify(t *testing.T, key, form, ref string) *exec.Cmd {
	return c.command(t, "verify", "--key", key, form, ref)
}

func (c cosign) attestation(t *testing.T, predicateType, ref string) *exec.Cmd {
	return c.command(t, "verify-attestation", "--key", shared.at("release.pub"), "--type", predicateType, "--new-bundle-format=true", ref)
}

func (c cosign) command(t *testing.T, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), c.path, append([]string{verb, "--insecure-ignore-tlog", "--trusted-root", c.root}, args...)...)
	cmd.Env = c.env
	return cmd
}
