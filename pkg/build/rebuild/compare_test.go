package rebuild

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/oci"
)

func TestEqualIndexesHaveNoDifference(t *testing.T) {
	make := func() v1.ImageIndex {
		return index(t, image(t, "amd64", packed(t, archive(t, files()...), 6)), image(t, "arm64", packed(t, archive(t, files()...), 6)))
	}
	r, err := Compare(make(), make())
	must(t, err)
	if r.Difference != nil || !r.Index.Equal() || len(r.Images) != 2 {
		t.Errorf("got %+v, %v", r, r.Difference)
	}
	for _, image := range r.Images {
		if !image.Manifest.Equal() || !image.Config.Equal() || len(image.Layers) != 1 || !image.Layers[0].Equal() || image.Layers[0].Published == "" {
			t.Errorf("got %+v", image)
		}
	}
}

// changed returns the files with one of them changed.
func changed(i int, change func(*entry)) []entry {
	all := files()
	change(&all[i])
	return all
}

// The first difference is named in the words in which a person would look for it.
func TestTheFirstDifferenceOfALayerIsNamed(t *testing.T) {
	whole := archive(t, files()...)
	big := files()[2].body
	for _, tt := range []struct {
		name      string
		published []byte
		want      Difference
	}{
		{"one byte", archive(t, changed(1, func(e *entry) { *e = reg("usr/a", "contAnt of a") })...),
			Difference{File: "usr/a", Field: "content", Range: &Range{4, 5}, Pair: Pair{"416e74206f662061", "656e74206f662061"}}},
		{"two places far apart", archive(t, changed(2, func(e *entry) { *e = reg("usr/b", "X"+big[1:100_000]+"YZ"+big[100_002:]) })...),
			Difference{File: "usr/b", Field: "content", Range: &Range{0, 100_002}, Pair: Pair{"58313233343536373839616263646566", "30313233343536373839616263646566"}}},
		{"at the end of a chunk", archive(t, changed(2, func(e *entry) { *e = reg("usr/b", big[:65_535]+"XY"+big[65_537:]) })...),
			Difference{File: "usr/b", Field: "content", Range: &Range{65_535, 65_537}, Pair: Pair{"58593132333435363738396162636465", "66303132333435363738396162636465"}}},
		{"shorter", archive(t, changed(1, func(e *entry) { *e = reg("usr/a", "content") })...),
			Difference{File: "usr/a", Field: "content", Range: &Range{7, 12}, Pair: Pair{"", "206f662061"}}},
		{"longer", archive(t, changed(1, func(e *entry) { *e = reg("usr/a", "content of a\n") })...),
			Difference{File: "usr/a", Field: "content", Range: &Range{12, 13}, Pair: Pair{"0a", ""}}},
		{"mode", archive(t, changed(1, func(e *entry) { e.h.Mode = 0o4755 })...),
			Difference{File: "usr/a", Field: "mode", Pair: Pair{"4755", "0644"}}},
		{"owner", archive(t, changed(1, func(e *entry) { e.h.Uid, e.h.Uname = 7, "seven" })...),
			Difference{File: "usr/a", Field: "owner", Pair: Pair{`7:0 "seven":""`, `0:0 "":""`}}},
		{"time", archive(t, changed(1, func(e *entry) { e.h.ModTime = time.Unix(1_780_000_001, 0) })...),
			Difference{File: "usr/a", Field: "time", Pair: Pair{"2026-05-28T20:26:41Z", "2026-05-28T20:26:40Z"}}},
		{"attributes", archive(t, changed(1, func(e *entry) { e.h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "\x01"} })...),
			Difference{File: "usr/a", Field: "attributes", Pair: Pair{`["SCHILY.xattr.user.a=01"]`, "[]"}}},
		{"target", archive(t, changed(3, func(e *entry) { e.h.Linkname = "b" })...),
			Difference{File: "usr/c", Field: "target", Pair: Pair{"b", "a"}}},
		{"type", archive(t, changed(3, func(e *entry) { *e = reg("usr/c", "") })...),
			Difference{File: "usr/c", Field: "type", Pair: Pair{`'0'`, `'2'`}}},
		{"name", archive(t, changed(1, func(e *entry) { e.h.Name = "usr/A" })...),
			Difference{File: "usr/A", Field: "entry", Pair: Pair{"usr/A", "usr/a"}}},
		{"one more", archive(t, append(files(), reg("usr/d", ""))...),
			Difference{File: "usr/d", Field: "entry", Pair: Pair{Published: "usr/d"}}},
		{"one less", archive(t, files()[:3]...),
			Difference{File: "usr/c", Field: "entry", Pair: Pair{Rebuilt: "usr/c"}}},
		{"what follows the end", append(bytes.Clone(whole), 1, 2),
			Difference{Field: "archive", Range: &Range{int64(len(whole)), int64(len(whole) + 2)}, Pair: Pair{"0102", ""}}},
		{"padding", flip(whole, 512+512+100), // behind the content of usr/a
			Difference{Field: "archive", Range: &Range{1124, 1125}, Pair: Pair{"01000000000000000000000000000000", "00000000000000000000000000000000"}}},
		{"no archive", bytes.Repeat([]byte("x"), 1024),
			Difference{Field: "archive", Pair: Pair{"archive/tar: invalid tar header", "a tar archive"}}},
		{"cut", whole[:2000],
			Difference{Field: "archive", Pair: Pair{"unexpected EOF", "a tar archive"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rebuilt := index(t, image(t, "amd64", packed(t, whole, 6)), image(t, "arm64", packed(t, whole, 6)))
			r, err := Compare(index(t, image(t, "amd64", packed(t, whole, 6)), image(t, "arm64", packed(t, tt.published, 6))), rebuilt)
			must(t, err)
			tt.want.Platform, tt.want.Part = "linux/arm64", "layer 1"
			sameDifference(t, r.Difference, &tt.want)
			if r.Images[0].Manifest.Equal() != true || r.Images[1].Layers[0].Equal() {
				t.Errorf("got %+v", r.Images)
			}
		})
	}
}

func flip(data []byte, i int) []byte {
	data = bytes.Clone(data)
	data[i] ^= 1
	return data
}

func sameDifference(t *testing.T, got, want *Difference) {
	t.Helper()
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

func TestTheFormInWhichALayerIsPackedIsADifference(t *testing.T) {
	content := archive(t, files()...)
	rebuilt := index(t, image(t, "amd64", packed(t, content, 6)))
	for name, tt := range map[string]struct {
		layer v1.Layer
		want  string
	}{
		"level":       {packed(t, content, 1), "compression"},
		"none":        {static.NewLayer(content, types.OCIUncompressedLayer), "compression"},
		"not gzip":    {static.NewLayer([]byte("no gzip at all"), types.OCILayer), "archive"},
		"media type":  {static.NewLayer(content, "application/x-bittorrent"), "archive"},
		"another zip": {static.NewLayer(content, types.OCILayerZStd), "archive"},
	} {
		r, err := Compare(index(t, image(t, "amd64", tt.layer)), rebuilt)
		must(t, err)
		if d := r.Difference; d == nil || d.Field != tt.want || d.Part != "layer 1" || d.File != "" {
			t.Errorf("%s: got %v, want %s", name, d, tt.want)
		}
	}
}

func TestWhatIsNoLayerIsCompared(t *testing.T) {
	layer := packed(t, archive(t, files()...), 6)
	one := func() v1.Image { return image(t, "amd64", layer) }
	two := image(t, "arm64", layer)
	rebuilt := index(t, one(), two)
	digestOf := func(d digester) string {
		h, err := d.Digest()
		must(t, err)
		return h.String()
	}
	config := func(change func(*v1.ConfigFile)) v1.Image {
		c, err := one().ConfigFile()
		must(t, err)
		c = c.DeepCopy()
		change(c)
		img, err := mutate.ConfigFile(one(), c)
		must(t, err)
		return img
	}
	annotated := mutate.Annotations(one(), map[string]string{"a": "b"}).(v1.Image)
	for name, tt := range map[string]struct {
		published v1.ImageIndex
		want      Difference
	}{
		"environment": {index(t, config(func(c *v1.ConfigFile) { c.Config.Env[1] = "B=3" }), two),
			Difference{Platform: "linux/amd64", Part: "config", Field: "config.Env[1]", Pair: Pair{`"B=3"`, `"B=2"`}}},
		"user": {index(t, config(func(c *v1.ConfigFile) { c.Config.User = "nobody" }), two),
			Difference{Platform: "linux/amd64", Part: "config", Field: "config.User", Pair: Pair{`"nobody"`, ""}}},
		"one variable less": {index(t, config(func(c *v1.ConfigFile) { c.Config.Env = c.Config.Env[:1] }), two),
			Difference{Platform: "linux/amd64", Part: "config", Field: "config.Env[1]", Pair: Pair{"", `"B=2"`}}},
		"annotation of a manifest": {index(t, annotated, two),
			Difference{Platform: "linux/amd64", Part: "manifest", Field: "annotations", Pair: Pair{`{"a":"b"}`, ""}}},
		"annotation of the index": {mutate.Annotations(index(t, one(), two), map[string]string{"a": "b"}).(v1.ImageIndex),
			Difference{Part: "index", Field: "annotations", Pair: Pair{`{"a":"b"}`, ""}}},
		"order": {index(t, two, one()),
			Difference{Part: "index", Field: "manifests[0].digest", Pair: Pair{`"` + digestOf(two) + `"`, `"` + digestOf(one()) + `"`}}},
		"platform missing": {index(t, two),
			Difference{Platform: "linux/amd64", Part: "index", Field: "image", Pair: Pair{"", digestOf(one())}}},
		"platform more": {index(t, one(), two, image(t, "riscv64", layer)),
			Difference{Platform: "linux/riscv64", Part: "index", Field: "image", Pair: Pair{digestOf(image(t, "riscv64", layer)), ""}}},
		"platform twice": {index(t, one(), two, config(func(c *v1.ConfigFile) { c.Config.User = "nobody" })),
			Difference{Platform: "linux/amd64", Part: "index", Field: "image",
				Pair: Pair{digestOf(config(func(c *v1.ConfigFile) { c.Config.User = "nobody" })), ""}}},
		"a layer more": {index(t, image(t, "amd64", layer, packed(t, nil, 6)), two),
			Difference{Platform: "linux/amd64", Part: "layer 2", Field: "layer", Pair: Pair{digestOf(packed(t, nil, 6)), ""}}},
		"a layer less": {index(t, image(t, "amd64"), two),
			Difference{Platform: "linux/amd64", Part: "layer 1", Field: "layer", Pair: Pair{"", digestOf(layer)}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Compare(tt.published, rebuilt)
			must(t, err)
			sameDifference(t, r.Difference, &tt.want)
		})
	}
}

// servedLayer promises a layer and serves another one, as package oci tells it.
type servedLayer struct {
	v1.Layer
	served []byte
	err    error // at the end; nil: what package oci says of other bytes
}

func (l servedLayer) Compressed() (io.ReadCloser, error) {
	end := l.err
	if end == nil {
		end = &oci.DigestError{Object: "blob", What: "sha256", Got: "other", Want: "bytes"}
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(l.served), failing{end})), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// The digests are equal and the bytes are not: the place that serves them is at fault.
func TestAPlaceThatServesOtherBytesIsFound(t *testing.T) {
	layer := packed(t, archive(t, files()...), 6)
	rebuilt := index(t, image(t, "amd64", layer))
	for name, tt := range map[string]struct {
		served []byte
		want   Difference
	}{
		"one file": {compressedOf(t, packed(t, archive(t, changed(1, func(e *entry) { *e = reg("usr/a", "content of A") })...), 6)),
			Difference{File: "usr/a", Field: "content", Range: &Range{11, 12}, Pair: Pair{"41", "61"}}},
		"nothing": {nil, Difference{Field: "archive", Pair: Pair{"decompress: EOF", "a tar archive"}}},
		"half":    {compressedOf(t, layer)[:100], Difference{Field: "archive", Pair: Pair{"decompress: unexpected EOF", "a tar archive"}}},
	} {
		published := index(t, image(t, "amd64", servedLayer{Layer: layer, served: tt.served}))
		r, err := Compare(published, rebuilt)
		must(t, err)
		tt.want.Platform, tt.want.Part, tt.want.Served = "linux/amd64", "layer 1", true
		t.Log(name)
		sameDifference(t, r.Difference, &tt.want)
		if !r.Index.Equal() || !strings.Contains(r.Difference.String(), "as it is served") {
			t.Errorf("got %+v, %s", r.Index, r.Difference)
		}
	}
}

// An outage is no difference.
func TestALayerThatCannotBeReadIsNoAnswer(t *testing.T) {
	layer, outage := packed(t, archive(t, files()...), 6), fmt.Errorf("connection reset")
	for name, served := range map[string][]byte{"at once": nil, "half way": compressedOf(t, layer)[:100]} {
		published := index(t, image(t, "amd64", servedLayer{Layer: layer, served: served, err: outage}))
		r, err := Compare(published, index(t, image(t, "amd64", layer)))
		if err == nil || !strings.Contains(err.Error(), "linux/amd64: layer 1: connection reset") {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

func compressedOf(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Compressed()
	must(t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	must(t, err)
	return data
}

// What a stranger has written does not make the line longer or break it.
func TestADifferenceIsOneShortLine(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	published := image(t, "amd64", packed(t, archive(t, reg("usr/\n"+long[:90], "")), 6))
	config, err := published.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.Config.Env = []string{long}
	other, err := mutate.ConfigFile(image(t, "amd64"), config)
	must(t, err)
	for _, pair := range [][2]v1.Image{
		{published, image(t, "amd64", packed(t, archive(t, files()...), 6))},
		{other, image(t, "amd64")},
	} {
		r, err := Compare(index(t, pair[0]), index(t, pair[1]))
		must(t, err)
		if line := r.Difference.String(); len(line) > 1000 {
			t.Errorf("got %d bytes: %.200s…", len(line), line)
		}
	}
}

// naive is diffStreams for those who have all in memory.
func naive(a, b []byte) *Range {
	if bytes.Equal(a, b) {
		return nil
	}
	r := Range{To: int64(max(len(a), len(b)))}
	for r.From < int64(min(len(a), len(b))) && a[r.From] == b[r.From] {
		r.From++
	}
	if len(a) == len(b) {
		for a[r.To-1] == b[r.To-1] {
			r.To--
		}
	}
	return &r
}

func FuzzDiffStreams(f *testing.F) {
	f.Add([]byte("abc"), []byte("abd"), uint(0))
	f.Add([]byte("abc"), []byte("ab"), uint(65_535))
	f.Add([]byte(""), []byte("x"), uint(131_072))
	f.Fuzz(func(t *testing.T, a, b []byte, before uint) {
		common := bytes.Repeat([]byte{7}, int(before%200_000))
		a, b = slices.Concat(common, a), slices.Concat(common, b)
		s, err := diffStreams(bytes.NewReader(a), bytes.NewReader(b))
		must(t, err)
		want := naive(a, b)
		switch {
		case (s == nil) != (want == nil):
			t.Fatalf("got %+v, want %+v", s, want)
		case s == nil:
			return
		case s.Range != *want:
			t.Fatalf("got %+v, want %+v", s.Range, *want)
		}
		for shown, of := range map[*[]byte][]byte{&s.published: a, &s.rebuilt: b} {
			from := min(int(s.From), len(of))
			if end := min(len(of), from+maxShown); !bytes.Equal(*shown, of[from:end]) {
				t.Fatalf("got %x, want %x", *shown, of[from:end])
			}
		}
	})
}

// FuzzDiffFiles: whatever a published layer holds, there is an answer, and equal is only what is equal.
func FuzzDiffFiles(f *testing.F) {
	whole := archive(f, reg("usr/a", "content of a"), reg("usr/b", ""))
	f.Add(whole)
	f.Add(archive(f, reg("usr/a", "content of A"), reg("usr/b", "")))
	f.Add(archive(f, reg("usr/a", "").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"} })))
	f.Fuzz(func(t *testing.T, published []byte) {
		d, err := withContents(static.NewLayer(published, types.OCIUncompressedLayer), packed(t, whole, 1), diffFiles)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := withContents(static.NewLayer(published, types.OCIUncompressedLayer), packed(t, whole, 1), diffArchives)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(published, whole) != (d == nil && raw == nil) {
			t.Fatalf("got %v and %v", d, raw)
		}
		if d != nil && len(d.String()) > 2000 {
			t.Fatalf("%d bytes", len(d.String()))
		}
	})
}
