package oci_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/oci"
)

// packed is a directory as a tar file, after edit has changed its entries.
func packed(t *testing.T, dir, prefix string, edit func(h *tar.Header, body []byte) []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: prefix + filepath.ToSlash(name), Mode: 0o644, Size: int64(len(body))}
		if edit != nil {
			body = edit(h, body)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	}))
	check(t, w.Close())
	file := filepath.Join(t.TempDir(), "dist.tar")
	check(t, os.WriteFile(file, b.Bytes(), 0o644))
	return file
}

// An archive of a layout is read as the layout is, also where names begin with "./".
func TestArchiveIsASource(t *testing.T) {
	f := newFixture(t, 1000)
	dir := filepath.Join(t.TempDir(), "dist")
	publishTo(t, dir, f.release(t, "v1"))
	for _, prefix := range []string{"", "./"} {
		complete(t, newClient(), "oci:"+packed(t, dir, prefix, nil), f, "v1")
	}
	// It is not written.
	file := packed(t, dir, "", nil)
	before, err := os.ReadFile(file)
	check(t, err)
	if _, err := newClient().Publish(t.Context(), f.release(t, "v2"), oci.Destination{Repository: "oci:" + file}); err == nil {
		t.Error("an archive was written")
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed, or is gone: %v", err)
	}
}

func TestArchiveThatIsNotWhatItSays(t *testing.T) {
	f := newFixture(t, 1000)
	dir := filepath.Join(t.TempDir(), "dist")
	publishTo(t, dir, f.release(t, "v1"))
	layer := digestOf(f.layers[0].body).Hex
	for name, tt := range map[string]struct {
		edit func(h *tar.Header, body []byte) []byte
		want func(error) bool
	}{
		"as it was": {nil, func(err error) bool { return err == nil }},
		"blob changed": {func(h *tar.Header, body []byte) []byte {
			if strings.HasSuffix(h.Name, layer) {
				body[5] ^= 1
			}
			return body
		}, isDigestError},
		"blob gone": {func(h *tar.Header, body []byte) []byte {
			h.Name = strings.Replace(h.Name, layer, "other", 1)
			return body
		}, oci.NotFound},
		"no layout": {func(h *tar.Header, body []byte) []byte {
			h.Name = strings.Replace(h.Name, "oci-layout", "layout", 1)
			return body
		}, oci.Unreachable},
		"one name twice": {func(h *tar.Header, body []byte) []byte {
			h.Name = strings.Replace(h.Name, "oci-layout", "index.json", 1)
			return body
		}, oci.Unreachable},
		"blob a link": {func(h *tar.Header, body []byte) []byte {
			if strings.HasSuffix(h.Name, layer) {
				h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0
				return nil
			}
			return body
		}, oci.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if err := readThrough(t, repository(t, "oci:"+packed(t, dir, "", tt.edit)), f); !tt.want(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, body := range map[string]string{"empty": "", "text": strings.Repeat("no tar at all ", 100)} {
		file := filepath.Join(t.TempDir(), "dist.tar")
		check(t, os.WriteFile(file, []byte(body), 0o644))
		if err := readThrough(t, repository(t, "oci:"+file), f); oci.OutageOf(err) != oci.OutageUnread {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
