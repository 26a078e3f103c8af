//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// setting is what a machine is set to where a build runs.
type setting struct {
	umask string
	env   []string
}

// settings are 24 of them: every combination of some umasks, time zones, locales and numbers of cores.
func settings() []setting {
	var all []setting
	for _, umask := range []string{"022", "077", "000"} {
		for _, zone := range []string{"UTC", "Asia/Kolkata"} {
			for _, locale := range []string{"C", "tr_TR.UTF-8"} {
				for _, cores := range []string{"1", "2"} {
					all = append(all, setting{umask, []string{"TZ=" + zone, "LC_ALL=" + locale, "LANG=" + locale, "GOMAXPROCS=" + cores, "USER=user" + umask}})
				}
			}
		}
	}
	return all
}

// buildMemory is the most memory that a build may take, in KiB: images grow, and
// it must not grow with them.
const buildMemory = 300 << 10

// Builds on two machines, that is with two caches which share nothing but what
// was downloaded: the first of each finds no layer, those after it find theirs.
func TestBuildIsTheSameWhateverTheMachineIsSetTo(t *testing.T) {
	machines := []string{emptyOfLayers(t), emptyOfLayers(t)}
	var first map[string]string
	var most int64
	for i, s := range settings() {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", i%3), "layout")
		build := shared.Command(t.Context(), "build", "images/kubelet", "-o", dir)
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `umask "$0" && exec "$@"`, s.umask, build.Path}, build.Args[1:]...)...)
		cmd.Dir = build.Dir
		cmd.Env = append(append(build.Env, "IMGCTL_CACHE="+machines[i%2], "HOME="+t.TempDir()), s.env...)
		_, peak := measured(t, cmd)
		most = max(most, peak)
		got := tree(t, dir)
		if first == nil {
			first = got
		}
		if !maps.Equal(got, first) {
			t.Errorf("umask %s, %v: got %v, want %v", s.umask, s.env, got, first)
		}
	}
	for _, image := range shared.Released.Images() {
		if _, ok := first["blobs/"+strings.Replace(image.Digest, ":", "/", 1)]; !ok {
			t.Errorf("the layout does not hold the released index %s", image.Digest)
		}
	}
	if most > buildMemory {
		t.Errorf("a build took %d KiB of memory, want at most %d", most, buildMemory)
	}
	t.Logf("%d builds, one set of %d files, at most %d KiB of memory", len(settings()), len(first), most)
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
