//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/peers"
)

// moved is a machine of which the registry that it names is dead, and what imgctl
// wrote for it.
type moved struct {
	ref string // what the machine names, by digest
	dir string // the override
}

// newMoved verifies the released image under the name of a registry at which
// nobody is, with one that is alive as its other source.
func newMoved(t *testing.T) *moved {
	t.Helper()
	_, path, _ := strings.Cut(shared.Image(0), "/")
	dead := "127.0.0.1:1/" + path
	policy := write(t, "policy.yaml", fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s]\n  sources: [%s, %s]\n  signers: {any: [{key: {file: %s}}]}\n",
		dead, dead, shared.Image(0), shared.at("release.pub")))
	m := &moved{ref: dead + "@" + shared.Released.Image().Digest, dir: filepath.Join(t.TempDir(), "override")}
	said := output(t, shared.Command(t.Context(), "verify", dead+":"+peers.KubeVersion, "--policy", policy, "--override", m.dir))
	if !strings.Contains(said, "connection refused") || !strings.Contains(said, "Verified through "+shared.Image(0)) {
		t.Fatalf("got %s", said)
	}
	return m
}

// podman and skopeo, as Debian 13 has them, pull what the machine names although
// that registry is dead, and refuse it under a policy.json with another key.
func TestOverrideMovesPodmanAndSkopeo(t *testing.T) {
	m := newMoved(t)
	d := &debian13{dir: unpackDebian(t, "trixie", func(ix *deb.Index) ([]deb.Package, error) { return ix.Closure([]string{"podman", "skopeo"}) })}
	d.env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"}
	d.write(t, "etc/hosts", readFile(t, "/etc/hosts"))
	if err := os.Remove(filepath.Join(d.dir, "etc/containers/policy.json")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	podman := func(policy string) *exec.Cmd {
		return d.command(t, "podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "pull", "-q", "--signature-policy", policy, m.ref)
	}
	skopeo := func(policy string) *exec.Cmd {
		remove(t, filepath.Join(d.dir, "copy"))
		return d.command(t, "skopeo", "--policy", policy, "copy", "-q", "--remove-signatures", "docker://"+m.ref, "dir:/copy")
	}
	const ours, other = "/etc/containers/policy.json", "/other.json"
	output(t, exec.Command("sh", filepath.Join(m.dir, "apply.sh"), d.dir))
	emitted := readFile(t, filepath.Join(d.dir, ours))
	d.write(t, other, bytes.ReplaceAll(emitted, encoded(t, shared.at("release.pub")), encoded(t, otherKey(t))))
	for _, pull := range []func(string) *exec.Cmd{podman, skopeo} {
		refused(t, pull(other))
		output(t, pull(ours))
	}
	output(t, exec.Command("sh", filepath.Join(m.dir, "undo.sh"), d.dir))
	d.write(t, ours, emitted)
	refused(t, skopeo(ours)) // the registry is dead, and nobody says where else to look
}

// encoded is a file as JSON holds bytes.
func encoded(t *testing.T, path string) []byte {
	t.Helper()
	return []byte(base64.StdEncoding.EncodeToString(readFile(t, path)))
}

// otherKey is a public key of somebody else.
func otherKey(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "other")
	output(t, shared.Command(t.Context(), "keygen", name))
	return name + ".pub"
}

// containerd pulls by digest from the other registry, which has the same path.
func TestOverrideMovesContainerd(t *testing.T) {
	m := newMoved(t)
	dir := shortDir(t)
	_, address, stop := startContainerd(t, dir)
	pull := func(hosts string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "ctr", "--address", address, "images", "pull", "--hosts-dir", hosts, "--platform", "linux/amd64", m.ref)
	}
	empty := t.TempDir()
	refused(t, pull(empty))
	output(t, pull(filepath.Join(m.dir, "etc/containerd/certs.d")))
	if err := stop(); err != nil {
		t.Error(err)
	}
	if found, err := fs.Glob(os.DirFS(m.dir), "etc/containerd/certs.d/*/hosts.toml"); err != nil || len(found) != 1 {
		t.Errorf("got %q, %v", found, err)
	}
}
