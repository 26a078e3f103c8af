package download

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// A process that was killed leaves its file, which is a whole program of Kubernetes.
func TestFilesOfProcessesThatDiedAreRemovedAndNoOthers(t *testing.T) {
	c := &Client{Cache: t.TempDir()}
	died, lives := temp(t, c), temp(t, c)
	if err := died.Close(); err != nil { // as the kernel does it
		t.Fatal(err)
	}
	third := temp(t, c)
	if _, err := os.Stat(died.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the abandoned file: got %v, want it gone", err)
	}
	for _, f := range []*os.File{lives, third} {
		if _, err := f.WriteString(f.Name()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add(t.Context(), f.Name()); err != nil {
			t.Errorf("a file that is open: %v", err)
		}
	}
}

func temp(t *testing.T, c *Client) *os.File {
	t.Helper()
	f, err := c.Temp(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
