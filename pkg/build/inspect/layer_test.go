package inspect

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
)

// layersOf makes layers of a text: an entry on each line, "type name target", an
// empty line between layers. What a tar archive cannot hold is left out.
func layersOf(text string) [][]byte {
	var layers [][]byte
	for part := range strings.SplitSeq(text, "\n\n") {
		var out bytes.Buffer
		for line := range strings.SplitSeq(part, "\n") {
			words := append(strings.SplitN(line, " ", 3), "", "", "")
			if words[0] == "" {
				continue
			}
			i := entry(words[0][0], words[1], int64(len(words[0]))*0o1111)
			i.Linkname = words[2]
			if i.Typeflag == tar.TypeReg {
				i.Linkname, i.body, i.Size = "", words[2], int64(len(words[2]))
			}
			w := tar.NewWriter(&out)
			if w.WriteHeader(&i.Header) == nil {
				io.WriteString(w, i.body)
			}
			w.Flush() // without what ends an archive: more follows
		}
		layers = append(layers, out.Bytes())
	}
	return layers
}

func FuzzLayer(f *testing.F) {
	for _, text := range []string{
		"5 etc/\n0 etc/a hello\n1 etc/b etc/a\n2 bin usr/bin\n\n0 etc/.wh.a\n0 .wh..wh..opq\n0 usr/bin/sh",
		"0 a x\n1 b a\n3 c\n6 d\n\n2 a b\n1 c a\n\n5 b/\n0 b/.wh.c",
		"0 a/b/c\n555 a/\n\n0 a\n\n2 x /../a\n2 a x",
		"0 x \x7fELF\n0 var/lib/dpkg/status Package: x\n0 var/lib/dpkg/info/x.list /x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		layers := layersOf(text)
		m := &merger{root: implied("/", 0), layers: make([]Layer, len(layers))}
		left := small(1000, 1<<20, 0)
		for i, data := range layers {
			l, err := listTar(bytes.NewReader(data), left)
			if err != nil {
				return
			}
			if m.apply(i, l) != nil {
				return
			}
		}
		fs := &FS{byPath: make(map[string]*Entry)}
		fs.flatten(m.root)
		fs.nameInodes()
		for _, e := range fs.entries {
			if above := fs.Entry(path.Dir(e.Path)); path.Clean(e.Path) != e.Path || above == nil || above.Type != Directory {
				t.Errorf("got %q below %+v", e.Path, above)
			}
			if e.Inode != "" && fs.Entry(e.Inode) == nil {
				t.Errorf("got %q with inode %q", e.Path, e.Inode)
			}
			fs.Lookup(e.Path)
		}
		fs.Check(Gates{}, Expect{Architecture: "amd64"})
		fs.Report()
	})
}

// benchImage is an image of two layers with 48 MB of files, of which some are
// programs, that compress like programs: to about a third.
func benchImage(b *testing.B) (img v1.Image, uncompressed int64) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 4096)
	for i := range words {
		words[i] = fmt.Sprintf("%x ", r.Uint64()>>r.IntN(56))
	}
	var layers [][]byte
	for l := range 2 {
		var items []item
		for i := range 600 {
			var body bytes.Buffer
			if i%6 == 0 {
				body.WriteString(dynamic("libc.so.6"))
			}
			for body.Len() < 40_000 {
				body.WriteString(words[r.IntN(len(words))])
			}
			items = append(items, program(fmt.Sprintf("usr/lib/%d/%d", l, i), body.String()))
		}
		data := tarball(b, items...)
		uncompressed += int64(len(data))
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		z.Write(data)
		z.Close()
		layers = append(layers, packed.Bytes())
	}
	return image(b, layers...), uncompressed
}

// BenchmarkRead reads an image, one layer on each core.
func BenchmarkRead(b *testing.B) {
	img, size := benchImage(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(b.Context(), img, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadCached reads an image whose layers are known.
func BenchmarkReadCached(b *testing.B) {
	img, size := benchImage(b)
	cache := &Cache{Dir: b.TempDir()}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Read(b.Context(), img, cache); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecompress is what [BenchmarkRead] cannot be faster than, on one core.
func BenchmarkDecompress(b *testing.B) {
	img, size := benchImage(b)
	layers, err := img.Layers()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		for _, l := range layers {
			rc, err := l.Compressed()
			if err != nil {
				b.Fatal(err)
			}
			z, err := gzip.NewReader(rc)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, z); err != nil {
				b.Fatal(err)
			}
		}
	}
}
