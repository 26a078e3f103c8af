//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whatever the size of the image, bringing it to two registries and reading it
// back takes at most 64 MiB, the program included.
func TestPublishingTakesLittleMemory(t *testing.T) {
	for _, variant := range []string{"slim", "full"} {
		args := []string{"sync", "oci:" + layoutOf(t, variant), "--key", "release.pub"}
		for _, r := range shared.Registries {
			args = append(args, r.Addr+"/memory/kubelet")
		}
		took, peak := measured(t, shared.Command(t.Context(), args...))
		t.Logf("%s: %s, %d KiB", variant, took, peak)
		if peak > 64<<10 {
			t.Errorf("%s: got %d KiB, want at most 64 MiB", variant, peak)
		}
	}
}

// measured runs a command. It returns how long that took, and the most memory that it
// had, in KiB: by a small program, since the kernel also counts what a process had
// before it became another.
func measured(t *testing.T, cmd *exec.Cmd) (took time.Duration, peak int64) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "peak")
	cmd.Args = append([]string{"time", "-f", "%M", "-o", report, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/time"
	began := time.Now()
	output(t, cmd)
	took = time.Since(began)
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if peak, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		t.Fatal(err)
	}
	return took, peak
}

// layoutOf is the released image in the directory that the release wrote, "dir:tag".
func layoutOf(t *testing.T, variant string) string {
	t.Helper()
	for _, a := range shared.Released.Artifacts {
		for _, d := range a.Destinations {
			if dir, ok := strings.CutPrefix(d.Repository, "oci:"); ok && a.Variant == variant && len(a.Platforms) > 0 {
				return shared.at(dir) + ":" + a.Tags[0]
			}
		}
	}
	t.Fatalf("no release of %s in a directory", variant)
	return ""
}
