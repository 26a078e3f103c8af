//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/peers"
)

func TestSkopeoReadsTheRegistriesAndTheDirectory(t *testing.T) {
	for _, ref := range []string{
		"docker://" + shared.Image(0) + ":" + peers.KubeVersion,
		"docker://" + shared.Image(1) + "@" + shared.Released.Image().Digest,
		"oci:" + shared.at("dist/kubelet") + ":" + peers.KubeVersion,
	} {
		raw := output(t, skopeo(t, "inspect", "--raw", ref))
		wantIndex(t, ref, []byte(raw))
		file := write(t, "manifest.json", raw)
		if got := strings.TrimSpace(output(t, skopeo(t, "manifest-digest", file))); got != shared.Released.Image().Digest {
			t.Errorf("%s: got digest %s, want %s", ref, got, shared.Released.Image().Digest)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			var image struct{ Architecture, Os string }
			if err := json.Unmarshal([]byte(output(t, skopeo(t, "inspect", "--override-os", "linux", "--override-arch", arch, ref))), &image); err != nil {
				t.Fatal(err)
			}
			if image.Architecture != arch || image.Os != "linux" {
				t.Errorf("%s for %s: got %+v", ref, arch, image)
			}
		}
	}
}

func TestSkopeoCopiesTheIndexUnchanged(t *testing.T) {
	to := filepath.Join(t.TempDir(), "copy")
	output(t, skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false",
		"docker://"+shared.Image(0)+"@"+shared.Released.Image().Digest, "oci:"+to+":copy"))
	wantIndex(t, to, []byte(output(t, skopeo(t, "inspect", "--raw", "oci:"+to+":copy"))))
}

func TestCraneReadsAndValidatesTheRegistries(t *testing.T) {
	crane := program(t, peers.Crane())
	for i := range shared.Registries {
		ref := shared.Image(i) + ":" + peers.KubeVersion
		if got := strings.TrimSpace(output(t, exec.Command(crane, "--insecure", "digest", ref))); got != shared.Released.Image().Digest {
			t.Errorf("%s: got %s, want %s", ref, got, shared.Released.Image().Digest)
		}
		wantIndex(t, ref, []byte(output(t, exec.Command(crane, "--insecure", "manifest", ref))))
		// Reads every layer, its digest and size. crane validate of v0.22.1 takes each for gzip.
		for _, platform := range shared.Released.Image().Platforms {
			output(t, exec.Command(crane, "--insecure", "export", "--platform", platform.Platform, ref, os.DevNull))
		}
		output(t, exec.Command(crane, "--insecure", "validate", "--remote", shared.Bundle(i)+"@"+shared.Released.Bundle().Digest))
	}
	refused(t, exec.Command(crane, "--insecure", "validate", "--remote", shared.Image(0)+":no-such-tag"))
}

func TestCranePushesTheBuiltDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	output(t, shared.Command(t.Context(), "build", "images/kubelet", "--variant", "slim", "-o", dir))
	crane := program(t, peers.Crane())
	ref := shared.Registries[1].Addr + "/pushed/by-crane:v1"
	output(t, exec.Command(crane, "--insecure", "push", "--index", dir, ref))
	got := []byte(output(t, exec.Command(crane, "--insecure", "manifest", ref)))
	var outer v1.IndexManifest // crane pushes the directory's index.json itself, which lists the image's index
	if err := json.Unmarshal(got, &outer); err != nil {
		t.Fatal(err)
	}
	if len(outer.Manifests) != 1 || outer.Manifests[0].Digest.String() != shared.Released.Image().Digest {
		t.Errorf("%s: got %s, want one entry, %s", ref, got, shared.Released.Image().Digest)
	}
}

// wantIndex checks that data is the index that was released.
func wantIndex(t *testing.T, from string, data []byte) {
	t.Helper()
	var m v1.IndexManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range m.Manifests {
		if d.Platform == nil {
			t.Fatalf("%s: got %s, want only platforms", from, data)
		}
		got[d.Platform.String()] = d.Digest.String()
	}
	for _, p := range shared.Released.Image().Platforms {
		if got[p.Platform] != p.Digest {
			t.Errorf("%s: got %v, want %s for %s", from, got, p.Digest, p.Platform)
		}
	}
	if len(got) != 2 {
		t.Errorf("%s: got %d manifests, want 2", from, len(got))
	}
}

func skopeo(t *testing.T, verb string, args ...string) *exec.Cmd {
	if verb == "inspect" {
		args = append([]string{"--tls-verify=false"}, args...)
	}
	return exec.CommandContext(t.Context(), "skopeo", append([]string{verb}, args...)...)
}
