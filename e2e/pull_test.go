//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// A patch version changes the programs and leaves the packages: who has one image
// pulls nothing of the next but its programs. Here the next has no kubectl.
func TestOtherProgramsArePulledAlone(t *testing.T) {
	spec := filepath.Join(t.TempDir(), "kubelet")
	if err := os.CopyFS(spec, os.DirFS(shared.at("images/kubelet"))); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(spec, "image.yaml"), "\n  - {member: kubernetes/node/bin/kubectl, path: /usr/local/bin/kubectl}", "")
	output(t, shared.Command(t.Context(), "lock", spec))
	out := filepath.Join(t.TempDir(), "layout")
	output(t, shared.Command(t.Context(), "build", spec, "--variant", "slim", "-o", out))
	next := shared.Registries[0].Addr + "/next/kubelet:" + peers.KubeVersion
	output(t, skopeo(t, "copy", "-q", "--all", "--dest-tls-verify=false", "oci:"+out+":"+peers.KubeVersion, "docker://"+next))

	dir := shortDir(t)
	p, err := newPodman(dir, shared.Registries[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.unmount(); err != nil {
			t.Error(err)
		}
	})
	first := shared.Image(0) + "@" + shared.digest(t, "slim", "linux/amd64")
	output(t, p.command(t, "pull", "-q", first))
	said, err := p.command(t, "pull", next).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for i, d := range layersOf(t, next) {
		there := regexp.MustCompile("Copying blob (sha256:)?" + d.Digest.Hex[:12] + ".* already exists").Match(said)
		if packages := i == 0; there != packages {
			t.Errorf("layer %d, %s: already there: %v, want %v\n%s", i, d.Digest, there, packages, said)
		}
	}
}
