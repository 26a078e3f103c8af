//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who has nothing but the reference and the policy makes each released image
// again, from a cache without layers, and gets the same digests.
func TestReleasedImagesAreRebuiltFromTheirProvenance(t *testing.T) {
	for i, image := range shared.Released.Images() {
		ref := shared.Image(i%2) + "@" + image.Digest
		cmd := shared.Command(t.Context(), "rebuild", ref, "--policy", "policies/kubelet.yaml", "--json")
		cmd.Env = append(cmd.Env, "IMGCTL_CACHE="+emptyOfLayers(t))
		var got struct {
			Digest, Variant string
			Equal           bool
			Inputs          int
		}
		if err := json.Unmarshal([]byte(output(t, cmd)), &got); err != nil {
			t.Fatal(err)
		}
		if !got.Equal || got.Digest != image.Digest || got.Variant != image.Variant {
			t.Errorf("%s: got %+v", ref, got)
		}
		t.Logf("%s %s: equal, of %d inputs", image.Name, image.Variant, got.Inputs)
	}
}

// One byte of one input: the file is named, and nothing is built of it.
func TestARebuildOfAChangedInputNamesTheFile(t *testing.T) {
	dir := copySpec(t)
	ref := shared.Image(0) + "@" + shared.Released.Image().Digest
	args := []string{"rebuild", ref, "--policy", "policies/kubelet.yaml", "--spec", dir}
	output(t, shared.Command(t.Context(), args...))
	for _, name := range []string{"image.yaml", "image.lock.json", "debian-archive-keyring.gpg"} {
		file := filepath.Join(dir, name)
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after := append([]byte{}, before...)
		after[len(after)/2] ^= 1
		if err := os.WriteFile(file, after, 0o644); err != nil {
			t.Fatal(err)
		}
		if out := refused(t, shared.Command(t.Context(), args...)); !strings.Contains(out, name) {
			t.Errorf("got %s, want %s named", out, name)
		}
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
