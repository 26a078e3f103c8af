package build

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

func FuzzParseLock(f *testing.F) {
	real, err := os.ReadFile(filepath.Join("..", "..", "images", "kubelet", LockFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real[:2000])
	f.Add([]byte(`{"apiVersion":"imgctl.dev/v1","kind":"ImageLock","created":"2026-09-12T07:55:41Z","spec":"","upstream":{"version":"","files":{"linux/amd64":[{"path":"a","sha512":""}]}},"debian":{"packages":{}}}`))
	f.Add([]byte(`{"a":[{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLock("lock", data)
		var se *strict.Error
		if err != nil {
			if !errors.As(err, &se) {
				t.Errorf("got %v, want a *strict.Error", err)
			}
			return
		}
		written, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseLock("lock", written)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if rewritten, err := again.Bytes(); err != nil || !bytes.Equal(written, rewritten) {
			t.Errorf("%v: a lock is written in two ways", err)
		}
	})
}
