package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// text is n bytes, at most two frames and one byte, as programs and their documents
// have them: words that come again often, and passages that come again later.
func text(n int) []byte { return corpus()[:n:n] }

var corpus = sync.OnceValue(func() []byte {
	const n = 2*frameSize + 1
	r := rand.New(rand.NewPCG(3, 4))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	b := make([]byte, 0, n+4096)
	for len(b) < n {
		if len(b) > 1<<16 && r.IntN(200) == 0 {
			from := r.IntN(len(b) - 4096)
			b = append(b, b[from:from+1+r.IntN(4096)]...)
			continue
		}
		b = append(append(b, words[int(float64(len(words))*r.Float64()*r.Float64())]...), byte(r.IntN(3)+' '))
	}
	return b[:n]
})

func TestACompressionSaysWhatItIs(t *testing.T) {
	for _, tt := range []struct {
		c             Compression
		version, text string
		mediaType     types.MediaType
	}{
		{Compression{}, Version, "gzip 6", types.OCILayer},
		{Compression{Algorithm: Gzip}, Version, "gzip 6", types.OCILayer},
		{Compression{Level: 6}, Version, "gzip 6", types.OCILayer},
		{Compression{Level: 9}, "pgzip-9-1MiB", "gzip 9", types.OCILayer},
		{Compression{Algorithm: Zstd}, "zstd-default-4MiB", "zstd 3", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 1}, "zstd-fastest-4MiB", "zstd 1", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 2}, "zstd-fastest-4MiB", "zstd 2", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 5}, "zstd-default-4MiB", "zstd 5", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 6}, "zstd-better-4MiB", "zstd 6", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 9}, "zstd-better-4MiB", "zstd 9", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 10}, "zstd-best-4MiB", "zstd 10", types.OCILayerZStd},
		{Compression{Algorithm: Zstd, Level: 22}, "zstd-best-4MiB", "zstd 22", types.OCILayerZStd},
	} {
		if err := tt.c.Validate(); err != nil {
			t.Errorf("%+v: %v", tt.c, err)
		}
		if tt.c.Version() != tt.version || tt.c.String() != tt.text || tt.c.MediaType() != tt.mediaType {
			t.Errorf("%+v: got %s, %s, %s, want %s, %s, %s", tt.c, tt.c.Version(), tt.c, tt.c.MediaType(), tt.version, tt.text, tt.mediaType)
		}
	}
}

func TestACompressionThatThereIsNotIsRefused(t *testing.T) {
	for want, c := range map[string]Compression{
		`algorithm: got "lz4", want gzip or zstd`:    {Algorithm: "lz4"},
		`algorithm: got "GZIP", want gzip or zstd`:   {Algorithm: "GZIP", Level: 99},
		`level: got 10, want 1 to 9 for gzip`:        {Level: 10},
		`level: got -1, want 1 to 9 for gzip`:        {Algorithm: Gzip, Level: -1},
		`level: got 23, want 1 to 22 for zstd`:       {Algorithm: Zstd, Level: 23},
		`level: got -5, want 1 to 22 for zstd`:       {Algorithm: Zstd, Level: -5},
		`algorithm: got "` + strings.Repeat("x", 40): {Algorithm: strings.Repeat("x", 1000)},
	} {
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 100 {
			t.Errorf("%.50v: got %v, want %s", c, err, want)
		}
		dir := t.TempDir()
		_, getErr := (&Store{Dir: dir, Compression: c}).Get(context.Background(), "k", new(any), func(io.Writer) (any, error) { return nil, nil })
		if getErr == nil || getErr.Error() != "compression: "+err.Error() {
			t.Errorf("%.50v: Get: got %v", c, getErr)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%.50v: left %v", c, left)
		}
	}
}

// compressed returns what the compression makes of data with so many workers.
func compressed(t testing.TB, c Compression, jobs int, data io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := newCompressor(&b, c, jobs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(struct{ io.Writer }{z}, struct{ io.Reader }{data}); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// B01: neither the number of cores or workers nor the sizes of writes decide a
// byte. An encoder that has made other frames before makes the same as a new one.
func TestTheBytesDependOnTheContentAlone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, tt := range []struct {
		c Compression
		n int
	}{
		{Compression{}, 3*blockSize + 1},
		{Compression{Level: 9}, 3*blockSize + 1},
		{Compression{Algorithm: Zstd, Level: 1}, frameSize + frameSize/2},
		{Compression{Algorithm: Zstd, Level: 3}, frameSize + frameSize/2},
		{Compression{Algorithm: Zstd, Level: 9}, frameSize + frameSize/4},
		{Compression{Algorithm: Zstd, Level: 19}, frameSize + frameSize/8},
	} {
		t.Run(tt.c.String(), func(t *testing.T) {
			data := text(tt.n)
			want := compressed(t, tt.c, 1, bytes.NewReader(data))
			for name, run := range map[string]struct {
				jobs int
				r    io.Reader
			}{
				"two workers":             {2, bytes.NewReader(data)},
				"eight workers":           {8, bytes.NewReader(data)},
				"small and large writes":  {2, iotest.HalfReader(bytes.NewReader(data))},
				"writes of an odd length": {1, &oddReader{r: bytes.NewReader(data), n: 65_521}},
			} {
				runtime.GOMAXPROCS(min(run.jobs, 2))
				if got := compressed(t, tt.c, run.jobs, run.r); !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes differ from the first %d", name, len(got), len(want))
				}
			}
		})
	}
}

// oddReader reads pieces of n bytes.
type oddReader struct {
	r io.Reader
	n int
}

func (o *oddReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.n)]) }

// Version stands for these bytes in every key: it must change when they do.
func TestTheBytesAreThoseOfTheVersion(t *testing.T) {
	long, mixed := []byte(strings.Repeat("imgctl ", 400_000)), text(2*frameSize)
	for _, tt := range []struct {
		c             Compression
		data          []byte
		version, want string
	}{
		{Compression{}, long, "pgzip-6-1MiB", "86cb16265df6ce92a6413308284d2caad3e3870f1a6573910f3375639845d674"},
		{Compression{}, mixed, "pgzip-6-1MiB", "88e3ff90828d3702040c2156983401e87275d5de990a26f588809cd6ed7d4cd0"},
		{Compression{Algorithm: Zstd, Level: 1}, mixed, "zstd-fastest-4MiB", "61b53cc2027812010647adfa4975187993ec128b49f0bcea087946628b154440"},
		{Compression{Algorithm: Zstd, Level: 3}, mixed, "zstd-default-4MiB", "2d479aaca8d0a22715370742c1c11220399f755f1962cad4f31631e7d8e4d589"},
		{Compression{Algorithm: Zstd, Level: 9}, mixed, "zstd-better-4MiB", "1b86468d6f94be54032cd537b6d03fd5f651c77c31796e47f91904df518ff10f"},
		{Compression{Algorithm: Zstd, Level: 19}, mixed, "zstd-best-4MiB", "7cb7f518e80d63408afb51276bc273cb0c0138fb8389551263eb6a3adfc0b3d8"},
	} {
		l, _, _ := get(t, &Store{Dir: t.TempDir(), Compression: tt.c}, "k", tt.data)
		if tt.c.Version() != tt.version || l.digest.Hex != tt.want {
			t.Errorf("%s: %s gives %s, want %s and %s", tt.c, tt.c.Version(), l.digest.Hex, tt.version, tt.want)
		}
		checkContent(t, l, tt.data)
	}
}

// Sizes at which frames begin and end.
func TestZstdFramesHoldTheirContent(t *testing.T) {
	data := text(2*frameSize + 1)
	for _, n := range []int{0, 1, frameSize - 1, frameSize, frameSize + 1, 2 * frameSize, 2*frameSize + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			got := compressed(t, Compression{Algorithm: Zstd, Level: 1}, 2, bytes.NewReader(data[:n]))
			var h zstd.Header
			if err := h.Decode(got); err != nil || h.HasFCS && h.FrameContentSize > frameSize || h.WindowSize > frameSize {
				t.Errorf("first frame: %+v, %v, want at most %d bytes", h, err, frameSize)
			}
			r, err := Decompress(bytes.NewReader(got), types.OCILayerZStd, int64(n))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if plain, err := io.ReadAll(r); err != nil || !bytes.Equal(plain, data[:n]) {
				t.Errorf("got %d bytes, %v, want %d", len(plain), err, n)
			}
		})
	}
}

// failAfter takes n bytes.
type failAfter struct {
	n   int
	err error
}

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestAWriterThatFailsEndsTheCompression(t *testing.T) {
	full := errors.New("disk full")
	for _, room := range []int{0, 10_000, 1_500_000} {
		for _, c := range []Compression{{}, {Algorithm: Zstd, Level: 1}} {
			z, err := newCompressor(&failAfter{room, full}, c, 2)
			if err != nil {
				t.Fatal(err)
			}
			_, err = z.Write(text(2*frameSize + 1))
			if err := errors.Join(err, z.Close()); !errors.Is(err, full) {
				t.Errorf("%s, room for %d: got %v, want %v", c, room, err, full)
			}
		}
	}
}

// Who forgets the compression in his key gets what he asked for all the same.
func TestALayerIsCompressedAsTheStoreSays(t *testing.T) {
	dir, data := t.TempDir(), text(100_000)
	var last *Layer
	for _, c := range []Compression{{}, {Algorithm: Zstd}, {Algorithm: Zstd, Level: 19}, {Level: 9}, {}} {
		l, _, made := get(t, &Store{Dir: dir, Compression: c}, "k", data)
		if !made {
			t.Errorf("%s: took what was compressed in another way", c)
		}
		if got, _ := l.MediaType(); got != c.MediaType() {
			t.Errorf("%s: got %s", c, got)
		}
		if last != nil && (l.digest == last.digest || l.diffID != last.diffID) {
			t.Errorf("%s: got %+v after %+v, want another digest of the same content", c, l, last)
		}
		checkContent(t, l, data)
		last = l
	}
	// Two levels that mean the same bytes are one layer.
	get(t, &Store{Dir: dir, Compression: Compression{Algorithm: Zstd, Level: 10}}, "k", data)
	if _, _, made := get(t, &Store{Dir: dir, Compression: Compression{Algorithm: Zstd, Level: 22}}, "k", nil); made {
		t.Error("level 22 was made again after level 10")
	}
}

// A record of before there was a choice has no compression: it is gzip at level 6.
func TestARecordWithoutCompressionIsTheDefault(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	data := text(10_000)
	get(t, s, "k", data)
	path := s.Dir + "/k.json"
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Replace(record, []byte(`"compression":"`+Version+`",`), nil, 1)
	if bytes.Equal(old, record) {
		t.Fatalf("no compression in %s", record)
	}
	if err := os.WriteFile(path, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, made := get(t, s, "k", nil); made {
		t.Error("an older record was not believed")
	}
	s.Compression.Level = 9
	if _, _, made := get(t, s, "k", data); !made {
		t.Error("an older record was taken for another compression")
	}
}

// BenchmarkCompress says how fast a layer is written, hashes and all, and how
// small it becomes. IMGCTL_BENCH_TAR names the content; without it, it is made up.
func BenchmarkCompress(b *testing.B) {
	data := bytes.Repeat(text(2*frameSize), 4) // that it repeats makes no difference: no window is so large
	if name := os.Getenv("IMGCTL_BENCH_TAR"); name != "" {
		var err error
		if data, err = os.ReadFile(name); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []Compression{
		{Gzip, 1}, {Gzip, 6}, {Gzip, 9}, {Zstd, 1}, {Zstd, 3}, {Zstd, 9}, {Zstd, 19},
	} {
		b.Run(strings.ReplaceAll(c.String(), " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var l *Layer
			for b.Loop() {
				l, _, _ = get(b, &Store{Dir: b.TempDir(), Compression: c, Jobs: runtime.GOMAXPROCS(0)}, "k", data)
			}
			b.ReportMetric(float64(l.size)/float64(len(data))*100, "%size")
		})
	}
}
