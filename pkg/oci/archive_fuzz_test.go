package oci

import (
	"archive/tar"
	"bytes"
	"testing"
)

// Whatever a file is, where its entries are is within it or nobody says so.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{layoutFile, layoutIndex} {
		w.WriteHeader(&tar.Header{Name: name, Size: 2, Mode: 0o644})
		w.Write([]byte("{}"))
	}
	w.Close()
	f.Add(b.Bytes())
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, body []byte) {
		files, err := listArchive(bytes.NewReader(body))
		if err != nil {
			return
		}
		for name, s := range files {
			if s.at < 0 || s.size < 0 || s.at > int64(len(body)) {
				t.Errorf("%q is at %d, of %d bytes: %d", name, s.at, len(body), s.size)
			}
		}
	})
}
