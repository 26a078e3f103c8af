package oci_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	gcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/imgctl/imgctl/pkg/oci"
)

func publishTo(t *testing.T, dir string, r oci.Release) {
	t.Helper()
	_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: "oci:" + dir})
	check(t, err)
}

// The layout is that of image-spec: go-containerregistry's reader finds all of
// it. An untagged release is listed by its own descriptor, alone.
func TestLayoutIsReadByOthers(t *testing.T) {
	f := newFixture(t, 1000)
	for name, tags := range map[string][]string{"untagged": nil, "tagged": {"v1"}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dist")
			publishTo(t, dir, oci.Release{Subject: f.index, Tags: tags})
			p, err := gcrlayout.FromPath(dir)
			check(t, err)
			ix, err := p.ImageIndex()
			check(t, err)
			m, err := ix.IndexManifest()
			check(t, err)
			if len(m.Manifests) != 1 || m.Manifests[0].Digest != f.digest(t) {
				t.Fatalf("index.json: got %+v, want the index alone", m.Manifests)
			}
			if got := m.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; got != strings.Join(tags, "") {
				t.Errorf("ref.name: got %q, want %q", got, tags)
			}
			child, err := ix.ImageIndex(f.digest(t))
			check(t, err)
			children, err := child.IndexManifest()
			check(t, err)
			for _, d := range children.Manifests {
				img, err := child.Image(d.Digest)
				check(t, err)
				layers, err := img.Layers()
				check(t, err)
				for _, l := range layers {
					rc, err := l.Compressed()
					check(t, err)
					want, _ := l.Digest()
					if got, _, err := v1.SHA256(rc); err != nil || got != want {
						t.Errorf("layer: got %s, %v; want %s", got, err, want)
					}
					rc.Close()
				}
			}
			if skopeo, err := exec.LookPath("skopeo"); err == nil { // one more reader, where it is installed
				if out, err := exec.Command(skopeo, "inspect", "oci:"+dir).CombinedOutput(); err != nil {
					t.Errorf("skopeo: %v: %s", err, out)
				}
			}
		})
	}
}

// The same release gives the same bytes, in whatever order things arrive.
func TestLayoutIsReproducible(t *testing.T) {
	f := newFixture(t, 1000)
	var first string
	for range 3 {
		dir := filepath.Join(t.TempDir(), "dist")
		r := f.release(t, "v1", "latest", "v1-amd64")
		r.Signatures = nil // they name the directory
		publishTo(t, dir, r)
		b, err := os.ReadFile(filepath.Join(dir, "index.json"))
		check(t, err)
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Errorf("got  %s\nwant %s", b, first)
		}
	}
}

func TestUntaggedEntryBecomesTheTag(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist")
	f := newFixture(t, 10)
	publishTo(t, dir, oci.Release{Subject: f.index})
	repo := repository(t, "oci:"+dir)
	check(t, repo.Tag(t.Context(), "v1", f.digest(t)))
	if entries := listed(t, dir); len(entries) != 1 || entries[0].Annotations["org.opencontainers.image.ref.name"] != "v1" {
		t.Errorf("got %+v, want one entry with the tag", entries)
	}
	publishTo(t, dir, oci.Release{Subject: f.index})
	if entries := listed(t, dir); len(entries) != 1 {
		t.Errorf("got %+v, want nothing added to what keeps it", entries)
	}
	g := newFixture(t, 11)
	publishTo(t, dir, oci.Release{Subject: g.index})
	var changed *oci.Changed
	if err := repo.Tag(t.Context(), "v1", g.digest(t)); !errors.As(err, &changed) {
		t.Errorf("got %v, want a *Changed", err)
	}
	check(t, repo.Retag(t.Context(), "v1", g.digest(t)))
	if d, err := repo.Resolve(t.Context(), "v1"); err != nil || d.Digest != g.digest(t) {
		t.Errorf("got %s, %v", d.Digest, err)
	}
}

func listed(t *testing.T, dir string) []v1.Descriptor {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	check(t, err)
	var ix v1.IndexManifest
	check(t, json.Unmarshal(b, &ix))
	return ix.Manifests
}

// What is in a directory is as little trusted as what comes from a registry.
func TestLayoutThatIsNotWhatItSays(t *testing.T) {
	f := newFixture(t, 1000)
	blob := func(h v1.Hash) string { return filepath.Join("blobs/sha256", h.Hex) }
	rewrite := func(name string, edit func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, name), edit(b), 0o644))
		}
	}
	replace := func(name string, how func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, name)))
			check(t, how(filepath.Join(dir, name)))
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	check(t, os.WriteFile(outside, f.layers[0].body, 0o644))
	for name, tt := range map[string]struct {
		break_ func(*testing.T, string)
		want   func(error) bool
	}{
		"manifest changed":   {rewrite(blob(f.digest(t)), func(b []byte) []byte { b[5] ^= 1; return b }), isDigestError},
		"manifest gone":      {replace(blob(f.digest(t)), func(string) error { return nil }), oci.NotFound},
		"manifest huge":      {rewrite(blob(f.digest(t)), func(b []byte) []byte { return make([]byte, oci.MaxManifest+1) }), oci.Malformed},
		"manifest a FIFO":    {replace(blob(f.digest(t)), func(p string) error { return syscall.Mkfifo(p, 0o644) }), oci.Unreachable},
		"blob changed":       {rewrite(blob(digestOf(f.layers[0].body)), func(b []byte) []byte { b[5] ^= 1; return b }), isDigestError},
		"blob longer":        {rewrite(blob(digestOf(f.layers[0].body)), func(b []byte) []byte { return append(b, 0) }), isDigestError},
		"blob a link out":    {replace(blob(digestOf(f.layers[0].body)), func(p string) error { return os.Symlink(outside, p) }), oci.Unreachable},
		"index.json no JSON": {rewrite("index.json", func([]byte) []byte { return []byte("<html>") }), oci.Malformed},
		"index.json an image": {rewrite("index.json", func([]byte) []byte {
			return []byte(`{"schemaVersion":2,"config":` + emptyDesc + `,"layers":[]}`)
		}), oci.Malformed},
		"index.json, tag twice": {rewrite("index.json", func(b []byte) []byte {
			e := `{"mediaType":"` + indexType + `","size":1,"digest":"sha256:` + hexA + `","annotations":{"org.opencontainers.image.ref.name":"v1"}}`
			return []byte(`{"schemaVersion":2,"manifests":[` + e + `,` + e + `]}`)
		}), oci.Malformed},
		"index.json gone":      {replace("index.json", func(string) error { return nil }), oci.NotFound},
		"directory gone":       {func(t *testing.T, dir string) { check(t, os.RemoveAll(dir)) }, oci.NotFound},
		"directory not a file": {func(t *testing.T, dir string) { check(t, os.RemoveAll(dir)); check(t, os.WriteFile(dir, nil, 0o644)) }, oci.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dist")
			publishTo(t, dir, f.release(t, "v1"))
			repo := repository(t, "oci:"+dir)
			check(t, readThrough(t, repo, f))
			tt.break_(t, dir)
			if err := readThrough(t, repo, f); !tt.want(err) || !strings.Contains(err.Error(), "dist") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// readThrough reads a tag, its manifest and a layer.
func readThrough(t *testing.T, repo *oci.Repository, f *fixture) error {
	t.Helper()
	d, err := repo.Resolve(t.Context(), "v1")
	if err != nil {
		return err
	}
	if _, err := repo.Manifest(t.Context(), d.Digest); err != nil {
		return err
	}
	layer := v1.Descriptor{MediaType: "a/b", Size: 1000, Digest: digestOf(f.layers[0].body)}
	_, err = repo.ReadBlob(t.Context(), layer, 1000)
	return err
}

// A broken file is written again by the next publish.
func TestBrokenLayoutIsHealed(t *testing.T) {
	f := newFixture(t, 1000)
	dir := filepath.Join(t.TempDir(), "dist")
	publishTo(t, dir, f.release(t, "v1"))
	for _, h := range []v1.Hash{f.digest(t), digestOf(f.layers[0].body)} {
		check(t, os.Truncate(filepath.Join(dir, "blobs/sha256", h.Hex), 3))
	}
	publishTo(t, dir, f.release(t, "v1"))
	complete(t, newClient(), "oci:"+dir, f, "v1")
}

func TestFullDiskIsAnErrorWithItsName(t *testing.T) {
	f := newFixture(t, 10)
	dir := filepath.Join(t.TempDir(), "dist")
	check(t, os.WriteFile(dir, nil, 0o644)) // where a directory should be
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: "oci:" + dir + "/sub"})
	if err == nil || !strings.Contains(err.Error(), "oci:"+dir+"/sub: ") {
		t.Errorf("got %v", err)
	}
}
