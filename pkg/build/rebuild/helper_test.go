package rebuild

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/build"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry is a member of a tar archive.
type entry struct {
	h    tar.Header
	body string
}

// reg is a regular file.
func reg(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1_780_000_000, 0)}, body}
}

// with changes the header of an entry.
func (e entry) with(change func(*tar.Header)) entry {
	change(&e.h)
	return e
}

// archive is a tar archive.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		must(t, w.WriteHeader(&e.h))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// packed is a layer of the content, compressed by gzip at a level.
func packed(t testing.TB, content []byte, level int) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, level)
	must(t, err)
	_, err = z.Write(content)
	must(t, err)
	must(t, z.Close())
	return whole(t, static.NewLayer(b.Bytes(), types.OCILayer))
}

// whole gives a layer of package static the content that it has not.
func whole(t testing.TB, l v1.Layer) v1.Layer {
	t.Helper()
	l, err := partial.CompressedToLayer(l)
	must(t, err)
	return l
}

// files are those of the layer that the tests compare others with.
func files() []entry {
	return []entry{
		{tar.Header{Typeflag: tar.TypeDir, Name: "usr", Mode: 0o755, ModTime: time.Unix(1_780_000_000, 0)}, ""},
		reg("usr/a", "content of a"),
		reg("usr/b", string(bytes.Repeat([]byte("0123456789abcdef"), 10_000))),
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/c", Linkname: "a", Mode: 0o777, ModTime: time.Unix(1_780_000_000, 0)}, ""},
	}
}

// image has the layers.
func image(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{Env: []string{"A=1", "B=2"}}})
	must(t, err)
	for _, l := range layers {
		mediaType, err := l.MediaType()
		must(t, err)
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: mediaType})
		must(t, err)
	}
	return img
}

// index has the images, in their order.
func index(t testing.TB, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	ix := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		must(t, err)
		ix = mutate.AppendManifests(ix, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	return ix
}

// spec has no packages: one local file for each platform.
const spec = `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/amd64, linux/arm64]
local:
- {source: "bin/tool-{arch}", path: /usr/bin/tool}
entrypoint: [/usr/bin/tool]
compression: {programs: {algorithm: zstd}}
`

// project is a directory with the spec, its lock and its files.
func project(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, build.SpecFile), []byte(spec), 0o644))
	for _, arch := range []string{"amd64", "arm64"} {
		must(t, os.WriteFile(filepath.Join(dir, "bin", "tool-"+arch), slices.Repeat([]byte("the tool for "+arch+"\n"), 1000), 0o755))
	}
	s, err := build.LoadSpec(dir)
	must(t, err)
	l, err := (&build.Locker{}).Lock(context.Background(), s, nil)
	must(t, err)
	must(t, l.Save(dir))
	return dir
}

// built builds the project, at a time that need not be the lock's.
func built(t testing.TB, dir string, at time.Time) (*build.Spec, *build.Lock, *build.Result) {
	t.Helper()
	s, err := build.LoadSpec(dir)
	must(t, err)
	l, err := build.LoadLock(dir)
	must(t, err)
	if !at.IsZero() {
		l.Created = at
	}
	r, err := build.Build(context.Background(), &build.Layers{Materials: &build.Materials{Cache: t.TempDir()}}, s, l, s.Targets(l)[0])
	must(t, err)
	return s, l, r
}
