package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/lab"
)

func TestCommandIsPrintedThenRunAndItsFailureIsTheDemos(t *testing.T) {
	d, out := newDemo(t, "#!/bin/sh\necho \"got $*\"\nexit $CODE\n")
	t.Setenv("CODE", "0")
	if err := d.imgctl(t.Context(), "tree", "a/b:v1"); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\n$ imgctl tree a/b:v1\ngot tree a/b:v1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("CODE", "9")
	err := d.imgctl(t.Context(), "verify", "a/b:v1")
	if got := exitCode(t.Context(), err); got != 9 || !strings.Contains(err.Error(), "imgctl verify") {
		t.Errorf("got code %d, %v; want 9 and the command", got, err)
	}
}

func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"done":              {t.Context(), nil, 0},
		"no command failed": {t.Context(), errors.New("no disk"), 1},
		"interrupted":       {interrupted, &exec.ExitError{ProcessState: &os.ProcessState{}}, 130},
	} {
		if got := exitCode(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

func TestSizesAreThoseOfTheLayersOnTheRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/kubelet:v1"
	var index v1.ImageIndex = empty.Index
	for arch, sizes := range map[string][]int{"amd64": {3 << 20, 1 << 19}, "arm64": {1 << 20}} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image(t, sizes),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag.(name.Tag), index); err != nil {
		t.Fatal(err)
	}
	d, out := newDemo(t, "")
	if err := d.sizes(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`linux/amd64\n +3\.0 MiB  sha256:[0-9a-f]{12}  step\n +0\.5 MiB  sha256:[0-9a-f]{12}  step\n +3\.5 MiB  compressed, in 2 layers\n`,
		`linux/arm64\n +1\.0 MiB  sha256:[0-9a-f]{12}  step\n +1\.0 MiB  compressed, in 1 layers\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("got %s\nwant %s", out, want)
		}
	}
	if err := d.sizes(t.Context(), ref+"-of-nothing"); err == nil {
		t.Error("a tag that is not there: got no error")
	}
}

func TestFilesOfTheNodeAreListedWithModesAndLinks(t *testing.T) {
	d, out := newDemo(t, "")
	node := filepath.Join(d.lab.Dir, "node", "etc")
	if err := os.MkdirAll(node, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(node, "unit"), []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("unit", filepath.Join(node, "link")); err != nil {
		t.Fatal(err)
	}
	if err := d.list("node"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-rw-r-----        5  node/etc/unit\n", "node/etc/link -> unit\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %q", out, want)
		}
	}
	if err := d.list("elsewhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: got %v, want: not exist", err)
	}
}

func TestSummaryHasEveryPartWithItsTime(t *testing.T) {
	d, _ := newDemo(t, "")
	for _, title := range []string{"one", "two", ""} {
		d.part(title)
	}
	if len(d.times) != 2 || !regexp.MustCompile(`^ +\d+\.\d s  one$`).MatchString(d.times[0]) || !strings.HasSuffix(d.times[1], "s  two") {
		t.Errorf("got %q, want one and two, each with its seconds", d.times)
	}
}

// newDemo is a demo whose imgctl is a shell script.
func newDemo(t *testing.T, script string) (*demo, *strings.Builder) {
	t.Helper()
	l := &lab.Lab{Dir: t.TempDir(), Bin: t.TempDir()}
	if err := os.WriteFile(filepath.Join(l.Bin, "imgctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	return &demo{lab: l, out: &out}, &out
}

func image(t *testing.T, sizes []int) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for i, n := range sizes {
		layer := static.NewLayer(append(make([]byte, n-1), byte(i)), types.DockerLayer)
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "step"}}); err != nil {
			t.Fatal(err)
		}
	}
	return img
}
