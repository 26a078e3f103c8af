package atomicfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

func TestWriteReplacesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, body := range []string{"old", "new and longer"} {
		if err := atomicfile.WriteBytes(path, 0o640, []byte(body)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != body {
			t.Errorf("got %q, %v; want %q", got, err, body)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o640 {
		t.Errorf("got mode %v, %v; want 0640", fi.Mode(), err)
	}
	alone(t, path)
}

func TestFailedWriteLeavesTheOldFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := atomicfile.WriteBytes(path, 0o644, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	r := io.MultiReader(iotest.OneByteReader(io.LimitReader(zeros{}, 1<<10)), iotest.ErrReader(broken))
	if err := atomicfile.Write(path, 0o644, r); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("got %q, want the old content", got)
	}
	alone(t, path)
}

func TestSymlinkReplacesALinkAndAFile(t *testing.T) {
	link := filepath.Join(t.TempDir(), "l")
	if err := os.WriteFile(link, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"a", "b"} {
		if err := atomicfile.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("got %q, %v; want %q", got, err, target)
		}
	}
	alone(t, link)
}

func TestWriteIntoNowhere(t *testing.T) {
	if err := atomicfile.WriteBytes(filepath.Join(t.TempDir(), "no", "f"), 0o644, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

// alone fails when anything but path is in its directory.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("directory holds %v, %v; want only %s", entries, err, filepath.Base(path))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
