//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/peers"
)

const (
	doesBundle   = "bundle"   // verifies the sigstore bundle
	doesLegacy   = "legacy"   // verifies the older layout
	doesChildren = "children" // verifies what it takes from the index, and not the index
)

// cosignProofs are those of a version of cosign: each with our key, and refused
// with another and where nothing is signed.
func (r *registries) cosignProofs(t *testing.T, column string, recipe peers.Recipe, other string) (list []proof) {
	t.Helper()
	path, root := program(t, recipe), write(t, "root.json", noRoot)
	for _, row := range rows {
		for _, form := range []struct{ does, flag, prefix string }{
			{doesBundle, "--new-bundle-format=true", inBoth},
			{doesLegacy, "--new-bundle-format=false", inLegacy}, // where cosign 2 cannot take a bundle instead
		} {
			verb := []string{"verify"}
			if row == rowSBOM {
				verb = []string{"verify-attestation", "--type", typeSPDX}
			}
			list = append(list, proof{column, row, form.does, func(t *testing.T, s *site) {
				run := func(key, prefix string) *exec.Cmd {
					ref := r.ref(s, prefix, row)
					if s.plain {
						ref = forCosign(t, ref)
					}
					return r.command(t, path, slices.Concat(verb, []string{"--insecure-ignore-tlog", "--trusted-root", root, form.flag, "--key", key, ref})...)
				}
				output(t, run(shared.at("release.pub"), form.prefix))
				refused(t, run(other, form.prefix))
				refused(t, run(shared.at("release.pub"), inUnsigned))
			}})
		}
	}
	return list
}

// debian13 is a root directory with podman and skopeo of Debian 13. Those of
// Debian 12 have the signatures of sigstore taken out.
type debian13 struct {
	dir string
	env []string
}

// debianProofs are those of podman and skopeo, which go by policy.json.
func (r *registries) debianProofs(t *testing.T, other string) []proof {
	t.Helper()
	d := newDebian13(t, r, other)
	podman := func(t *testing.T, policy, ref string) *exec.Cmd {
		return d.command(t, "podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "pull", "-q", "--signature-policy", policy, ref)
	}
	one := func(t *testing.T, policy, ref string) *exec.Cmd {
		remove(t, filepath.Join(d.dir, "copy"))
		return d.command(t, "skopeo", "--policy", policy, "copy", "-q", "--remove-signatures", "docker://"+ref, "dir:/copy")
	}
	all := func(t *testing.T, policy, ref string) *exec.Cmd {
		cmd := one(t, policy, ref)
		cmd.Args = append(cmd.Args, "--all")
		return cmd
	}
	var list []proof
	for _, p := range []struct {
		column, row, does string
		run               func(t *testing.T, policy, ref string) *exec.Cmd
	}{
		{"podman", rowIndex, doesChildren, podman},
		{"podman", rowChild, doesLegacy, podman},
		{"skopeo", rowIndex, doesChildren, all},
		{"skopeo", rowChild, doesLegacy, one},
		{"skopeo", rowBundle, doesLegacy, one},
	} {
		list = append(list, proof{p.column, p.row, p.does, func(t *testing.T, s *site) {
			output(t, p.run(t, "/policy.json", r.ref(s, inBoth, p.row)))
			refused(t, p.run(t, "/other.json", r.ref(s, inBoth, p.row)))
			refused(t, p.run(t, "/policy.json", r.ref(s, inUnsigned, p.row)))
			if p.does == doesChildren {
				r.signChildren(t, s)
				output(t, p.run(t, "/policy.json", r.ref(s, inChildren, p.row)))
			}
		}})
	}
	return list
}

// signChildren signs the platform manifests of an index, and not the index.
func (r *registries) signChildren(t *testing.T, s *site) {
	t.Helper()
	r.released[inChildren] = r.released[inBoth]
	output(t, r.imgctl(t, "push", r.ref(s, inBoth, rowIndex), s.image(inChildren)))
	for _, p := range r.released[inBoth].Image().Platforms {
		output(t, r.imgctl(t, "sign", s.image(inChildren)+"@"+p.Digest, "--key", "release.key"))
	}
}

// newDebian13 unpacks the packages and configures them as an administrator would.
func newDebian13(t *testing.T, r *registries, other string) *debian13 {
	t.Helper()
	d := &debian13{dir: unpackDebian(t, "trixie", func(ix *deb.Index) ([]deb.Package, error) { return ix.Closure([]string{"podman", "skopeo"}) })}
	key := func(path string) map[string]any {
		return map[string]any{"type": "sigstoreSigned", "keyData": readFile(t, path), "signedIdentity": map[string]any{"type": "matchRepository"}}
	}
	for name, by := range map[string]string{"policy.json": shared.at("release.pub"), "other.json": other} {
		docker := map[string]any{}
		for _, s := range r.all {
			docker[s.addr] = []any{key(by)}
		}
		policy, err := json.Marshal(map[string]any{"default": []any{map[string]any{"type": "reject"}}, "transports": map[string]any{"docker": docker}})
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, name, policy)
	}
	signed := "docker:\n"
	for _, s := range r.all {
		signed += "  " + s.addr + ": {use-sigstore-attachments: true}\n"
	}
	d.write(t, "etc/containers/registries.d/signed.yaml", []byte(signed))
	d.write(t, "etc/containers/registries.conf", []byte("unqualified-search-registries = []\n[[registry]]\nlocation = \""+r.all[2].addr+"\"\ninsecure = true\n"))
	for name, path := range map[string]string{"ca.pem": r.ca, "auth.json": r.authFile, "etc/hosts": "/etc/hosts"} {
		d.write(t, name, readFile(t, path))
	}
	d.env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "SSL_CERT_FILE=/ca.pem", "REGISTRY_AUTH_FILE=/auth.json", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"}
	return d
}

func (d *debian13) write(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// command runs a program in the root directory. What it mounts goes with it.
func (d *debian13) command(t *testing.T, program string, args ...string) *exec.Cmd {
	const enter = `mount --rbind . . && cd "$PWD" && mount -t proc proc proc && mount --rbind /dev dev && exec chroot . "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", enter, "sh", program}, args...)...)
	cmd.Dir, cmd.Env = d.dir, d.env
	return cmd
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
