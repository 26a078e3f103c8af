package kubelab

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestCommandOfAUnitIsWhatSystemdWouldRun(t *testing.T) {
	for line, want := range map[string][]string{
		`/usr/bin/sh -c "echo $$HOME %%"`:                  {"/usr/bin/sh", "-c", "echo $HOME %"},
		`-/usr/bin/podman rm kubelet`:                      {"/usr/bin/podman", "rm", "kubelet"},
		`/usr/bin/podman run ${KUBELET_IMAGE} --flag=a\ b`: nil, // systemd knows no such escape
		`/usr/bin/podman run ${KUBELET_IMAGE} --flag`:      {"/usr/bin/podman", "run", imageVariable, "--flag"},
		``: nil,
	} {
		got, err := commandOf(line)
		if (err == nil) != (want != nil) || !slices.Equal(got, want) && want != nil {
			t.Errorf("%s: got %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestWaitEndsWithTheAnswerOrTheHope(t *testing.T) {
	gone, no := errors.New("gone"), errors.New("no")
	left := 3
	countdown := func(context.Context) error {
		if left--; left > 0 {
			return no
		}
		return nil
	}
	if err := Wait(t.Context(), func() error { return nil }, countdown); err != nil || left != 0 {
		t.Errorf("got %v with %d left, want the third answer", err, left)
	}
	never := func(context.Context) error { return no }
	if err := Wait(t.Context(), func() error { return gone }, never); !errors.Is(err, gone) || !errors.Is(err, no) {
		t.Errorf("got %v, want the answer and why there is no hope", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := Wait(ended, func() error { return nil }, never); !errors.Is(err, context.Canceled) || !errors.Is(err, no) {
		t.Errorf("got %v, want the answer and the end of the context", err)
	}
}

func TestEveryMachineKnowsTheOthers(t *testing.T) {
	l := &Lab{names: []string{"one", "two"}}
	if got, want := string(l.hosts()), "127.0.0.1 localhost\n10.77.0.1 one api.cluster.test\n10.77.0.2 two\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The archive lists one image under all its names, and the image has the program
// under all of its own.
func TestImageHasEveryNameAndEveryComponent(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "kube")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var digests []v1.Hash
	for range 2 {
		l := &Lab{dir: t.TempDir(), bin: t.TempDir()}
		if err := os.Symlink(program, filepath.Join(l.bin, pauseProgram)); err != nil {
			t.Fatal(err)
		}
		digest, err := l.Image("etcd", "kubelet")
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
		files := unarchived(t, l.image)
		for _, name := range []string{Reference("etcd", digest), Reference("kubelet", digest), sandboxImage} {
			if !strings.Contains(files["index.json"], `"`+name+`"`) {
				t.Errorf("got the index %s, want %s in it", files["index.json"], name)
			}
		}
		if blob := "blobs/sha256/" + digest.Hex; files[blob] == "" {
			t.Errorf("%s is not in the archive", blob)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("got %s, then %s", digests[0], digests[1])
	}
}

// unarchived returns the files of a tar by name.
func unarchived(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := make(map[string]string)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(body)
	}
}

func TestControlGroupsAreRemovedFromWithin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	if err := os.MkdirAll(filepath.Join(dir, "kubepods", "pod"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := removeGroups(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want it removed", err)
	}
}
