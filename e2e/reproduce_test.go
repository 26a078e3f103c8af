//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Two builds that share nothing but their inputs: neither finds a layer of the
// other, or of the release.
func TestBuildIsTheSameWhateverTheMachineIsSetTo(t *testing.T) {
	settings := []struct {
		umask string
		env   []string
	}{
		{"022", []string{"TZ=UTC", "LC_ALL=C", "GOMAXPROCS=2", "HOME=" + t.TempDir()}},
		{"077", []string{"TZ=Asia/Kolkata", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "GOMAXPROCS=1", "HOME=" + t.TempDir(), "USER=somebody"}},
	}
	var trees []map[string]string
	for i, s := range settings {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", i*3), "layout")
		build := shared.Command(t.Context(), "build", "images/kubelet", "-o", dir)
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `umask "$0" && exec "$@"`, s.umask, build.Path}, build.Args[1:]...)...)
		cmd.Dir = build.Dir
		cmd.Env = append(append(build.Env, "IMGCTL_CACHE="+emptyOfLayers(t)), s.env...)
		output(t, cmd)
		trees = append(trees, tree(t, dir))
	}
	if len(trees[0]) < 7 { // index.json, oci-layout, index, two manifests, two configs, layers
		t.Fatalf("got only %v", trees[0])
	}
	for name, sum := range trees[0] {
		if trees[1][name] != sum {
			t.Errorf("%s: got %q, want %q", name, trees[1][name], sum)
		}
	}
	if len(trees[0]) != len(trees[1]) {
		t.Errorf("got %d files, want %d", len(trees[1]), len(trees[0]))
	}
	blob := "blobs/" + strings.Replace(shared.Released.Image().Digest, ":", "/", 1)
	if _, ok := trees[0][blob]; !ok {
		t.Errorf("the layout does not hold the released index %s", blob)
	}
}

// emptyOfLayers is a cache with what was downloaded, and without what was made of it.
func emptyOfLayers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := newCache(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree is the digest of every file below dir, by its path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		sums[filepath.ToSlash(rel)] = fmt.Sprintf("%x", h.Sum(nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
