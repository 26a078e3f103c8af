package inspect

import (
	"archive/tar"
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// allocated returns how many bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func small(entries, text, bytes int64) *budget {
	b := &budget{}
	b.entries.Store(entries)
	b.text.Store(text)
	b.bytes.Store(bytes)
	return b
}

func TestBoundsOfAnImage(t *testing.T) {
	const name = "var/lib/dpkg/status"
	for what, tt := range map[string]struct {
		left  *budget
		items []item
		fine  bool
	}{
		"three entries":       {small(3, 1<<20, 0), []item{file("a", ""), file("b", ""), file("c", "")}, true},
		"four entries":        {small(3, 1<<20, 0), []item{file("a", ""), file("b", ""), file("c", ""), file("d", "")}, false},
		"four with whiteouts": {small(3, 1<<20, 0), []item{file("a", ""), file(".wh.b", ""), file("c", ""), file("d", "")}, false},
		"names":               {small(9, 8, 0), []item{file("abc", ""), file("abd", "")}, true},
		"long names":          {small(9, 8, 0), []item{file("abc", ""), file("abcd", "")}, false},
		"link":                {small(9, 8, 0), []item{link("abc", "defg")}, true},
		"long link":           {small(9, 8, 0), []item{link("abc", "defgh")}, false},
		"attribute":           {small(9, 8, 0), []item{file("a", "").attribute("u.x", "y")}, true},
		"long attribute":      {small(9, 8, 0), []item{file("a", "").attribute("u.x", "yy")}, false},
		"text":                {small(9, 32, 0), []item{file(name, "123456789012")}, true},
		"long text":           {small(9, 32, 0), []item{file(name, "1234567890123")}, false},
		"libraries":           {small(9, 12, 0), []item{program("a", library("libb.so.2", "c"))}, true},
		"many libraries":      {small(9, 12, 0), []item{program("a", library("libb.so.2", "c", "d"))}, false},
	} {
		_, err := listTar(bytes.NewReader(tarball(t, tt.items...)), tt.left)
		if (err == nil) != tt.fine {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if _, err := listTar(bytes.NewReader(tarball(t, file(name, strings.Repeat("x", maxKept+1)))), newBudget()); err == nil {
		t.Error("a status file above the bound: got no error")
	}
}

// TestB06BombEndsAtTheBound decompresses what would be far more than it may be.
func TestB06BombEndsAtTheBound(t *testing.T) {
	head := tarball(t, entry(tar.TypeDir, "a/", 0o755))[:512]
	huge := file("b", "")
	huge.Size = 1 << 30
	var h bytes.Buffer
	if err := tar.NewWriter(&h).WriteHeader(&huge.Header); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	var gz, zst bytes.Buffer
	z := gzip.NewWriter(&gz)
	s, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{head, h.Bytes()} {
		z.Write(data)
		s.Write(data)
	}
	for range 64 {
		z.Write(zeros)
		s.Write(zeros)
	}
	z.Close()
	s.Close()
	for name, data := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		layers, err := image(t, data).Layers()
		if err != nil {
			t.Fatal(err)
		}
		used := allocated(func() { _, err = readLayer(t.Context(), layers[0], small(9, 100, 1<<20)) })
		if err == nil || !strings.Contains(err.Error(), "when it is decompressed") {
			t.Errorf("%s: got %v, want it to end at the bound", name, err)
		}
		if used > 24<<20 {
			t.Errorf("%s: got %d bytes allocated", name, used)
		}
	}
}

// sparseOld is a file in GNU's old format with a map of so many regions.
func sparseOld(t *testing.T, regions int) []byte {
	i := file("sparse", "")
	i.Format = tar.FormatGNU
	block := tarball(t, i)[:512]
	block[156] = 'S'
	number := func(b []byte, n int64) { copy(b, fmt.Sprintf("%011o\x00", n)) }
	number(block[483:], 1<<30) // the real size
	put := func(b []byte, from, n int) {
		for k := range n {
			number(b[24*k:], int64(from+k)*1024)
			number(b[24*k+12:], 0)
		}
	}
	put(block[386:], 0, 4)
	block[482] = 1 // the map goes on
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	out := bytes.Clone(block)
	for from := 4; from < regions; from += 21 {
		more := make([]byte, 512)
		put(more, from, 21)
		if from+21 < regions {
			more[504] = 1
		}
		out = append(out, more...)
	}
	return append(out, make([]byte, 1024)...)
}

// sparsePAX is a file in the format PAX 1.0 with a map of so many regions.
func sparsePAX(t *testing.T, regions int) []byte {
	var m bytes.Buffer
	fmt.Fprintf(&m, "%d\n", regions)
	for k := range regions {
		fmt.Fprintf(&m, "%d\n0\n", k*1024)
	}
	m.Write(make([]byte, (512-m.Len()%512)%512))
	i := file("sparse", m.String())
	i.PAXRecords = map[string]string{"GNU_sparse.major": "1", "GNU_sparse.minor": "0", "GNU_sparse.name": "x", "GNU_sparse.realsize": "1073741824"}
	return bytes.ReplaceAll(tarball(t, i), []byte("GNU_sparse"), []byte("GNU.sparse"))
}

func TestB07SparseMapsAreBounded(t *testing.T) {
	for name, data := range map[string][]byte{
		"old GNU": sparseOld(t, 1_000_000), "old GNU, small": sparseOld(t, 25),
		"PAX 1.0": sparsePAX(t, 1_000_000), "PAX 1.0, small": sparsePAX(t, 25),
	} {
		var err error
		used := allocated(func() { _, err = listTar(bytes.NewReader(data), newBudget()) })
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
		if strings.Contains(name, "small") && !strings.Contains(err.Error(), "sparse file") && !strings.Contains(err.Error(), `type 'S'`) {
			t.Errorf("%s: got %v, want the entry to be refused for what it is", name, err)
		}
		if used > 64<<20 {
			t.Errorf("%s: got %d bytes allocated", name, used)
		}
	}
	if _, err := listTar(bytes.NewReader(tarball(t, file("sparse", "0\n"))), newBudget()); err != nil {
		t.Errorf("a plain file: %v", err)
	}
}
