//go:build e2e

package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// The files of a bundle are the same whoever reads it: imgctl, oras and regctl by the
// machine's tag, Flux by its own. bundle.lock among them says so of each file.
func TestEverybodyReadsTheSameFilesOfABundle(t *testing.T) {
	tag := shared.Bundle(0) + ":" + shared.Released.Bundle().Tags[0] + "-fcos-worker"
	want := installed(t, tag)
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	oras, regctl, flux := program(t, peers.Oras(root)), program(t, peers.Regctl()), program(t, peers.Flux(root))
	host, _, _ := strings.Cut(tag, "/")
	for name, pull := range map[string]func(dir string) *exec.Cmd{
		"oras":   func(dir string) *exec.Cmd { return exec.Command(oras, "pull", "--plain-http", "-o", dir, tag) },
		"regctl": func(dir string) *exec.Cmd { return regctlPull(regctl, host, tag, dir) },
		"Flux":   func(dir string) *exec.Cmd { return exec.Command(flux, tag+"-flux", dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := pull(dir)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			output(t, cmd)
			got := filesBelow(t, dir)
			wantListedFiles(t, got, got["bundle.lock"])
			delete(got, "bundle.lock")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-installed +read by %s:\n%s", name, diff)
			}
		})
	}
}

// regctlPull is without TLS, which regctl has to be told beforehand.
func regctlPull(regctl, host, tag, dir string) *exec.Cmd {
	return exec.Command("sh", "-ec", `"$1" registry set --tls disabled "$2"; exec "$1" artifact get -o "$3" "$4"`, "sh", regctl, host, dir, tag)
}

// installed returns the files that imgctl puts on a machine of the tag, without the
// first slash.
func installed(t *testing.T, tag string) map[string]string {
	t.Helper()
	root := t.TempDir()
	output(t, shared.Command(t.Context(), "pull", tag, "--policy", "policies/kubelet.yaml", "--root", root, "--unsafe-owners"))
	return filesBelow(t, filepath.Join(root, "var/lib/imgctl/current/tree"))
}

func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(body)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: got %d files, %v", dir, len(files), err)
	}
	return files
}

// wantListedFiles holds files against the list that came with them.
func wantListedFiles(t *testing.T, files map[string]string, lock string) {
	t.Helper()
	list, err := content.Read([]byte(lock))
	if err != nil {
		t.Fatal(err)
	}
	if list.Family != "fcos" || list.Role != "worker" || len(list.Files) != len(files)-1 {
		t.Errorf("got the list of %s %s, of %d files, with %d files", list.Family, list.Role, len(list.Files), len(files)-1)
	}
	for _, f := range list.Files {
		h, n, err := v1.SHA256(strings.NewReader(files[f.Path[1:]]))
		if err != nil || h.String() != f.Digest || n != f.Size || f.Owner != "root" || f.Type == "" {
			t.Errorf("%s: got %s, %d bytes, %v; the list says %+v", f.Path, h, n, err, f)
		}
	}
}

// A client that knows nothing of imgctl finds the manifest for a machine by the
// annotations of the index.
func TestTheIndexOfABundleSaysWhatIsForWhom(t *testing.T) {
	crane := program(t, peers.Crane())
	var index v1.IndexManifest
	ref := shared.Bundle(0) + "@" + shared.Released.Bundle().Digest
	if err := json.Unmarshal([]byte(output(t, exec.Command(crane, "--insecure", "manifest", ref))), &index); err != nil {
		t.Fatal(err)
	}
	got, err := content.Pick(&index, content.Machine{Family: "fcos", Role: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range shared.Released.Bundle().Platforms {
		tagged := strings.TrimSpace(output(t, exec.Command(crane, "--insecure", "digest", shared.Bundle(0)+":"+p.Tags[0])))
		if tagged != p.Digest || index.Manifests[i].Digest.String() != p.Digest {
			t.Errorf("%s: got %s by its tag and %s in the index, want %s", p.Platform, tagged, index.Manifests[i].Digest, p.Digest)
		}
	}
	if got.Digest.String() != shared.Released.Bundle().Platforms[0].Digest {
		t.Errorf("got %s, want %s", got.Digest, shared.Released.Bundle().Platforms[0].Digest)
	}
	output(t, exec.Command(crane, "--insecure", "validate", "--remote", ref))
}

// podman of Debian 13, version 5.4, pulls artifacts and lists what is in them; from 5.5
// on it extracts that, too. It looks at no signature here: docs/interop.md says why.
func TestPodmanReadsTheFilesOfABundle(t *testing.T) {
	d := &debian13{
		dir: unpackDebian(t, "trixie", func(ix *deb.Index) ([]deb.Package, error) { return ix.Closure([]string{"podman"}) }),
		env: []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"},
	}
	d.write(t, "etc/containers/policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
	d.write(t, "etc/hosts", readFile(t, "/etc/hosts"))
	artifact := func(args ...string) string {
		return output(t, d.command(t, "podman", append([]string{"--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", "vfs", "artifact"}, args...)...))
	}
	tag := shared.Bundle(0) + ":" + shared.Released.Bundle().Tags[0] + "-fcos-worker"
	artifact("pull", "--quiet", "--tls-verify=false", tag)
	inspected := artifact("inspect", tag)
	for name, want := range installed(t, tag) {
		h, _, err := v1.SHA256(strings.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(inspected, `"`+name+`"`) || !strings.Contains(inspected, h.String()) {
			t.Errorf("%s, %s: not in %s", name, h, inspected)
		}
		if got := string(readFile(t, filepath.Join(d.dir, "var/lib/containers/storage/artifacts/blobs/sha256", h.Hex))); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
