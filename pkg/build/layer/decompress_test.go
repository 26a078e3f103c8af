package layer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// readAll decompresses at most limit bytes.
func readAll(data []byte, mediaType types.MediaType, limit int64) ([]byte, error) {
	r, err := Decompress(bytes.NewReader(data), mediaType, limit)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	return plain, errors.Join(err, r.Close())
}

func TestDecompressReadsWhatMediaTypesSay(t *testing.T) {
	data := text(300_000)
	packed := map[types.MediaType][]byte{
		types.OCILayer:                compressed(t, Compression{}, 2, bytes.NewReader(data)),
		types.DockerLayer:             compressed(t, Compression{Level: 1}, 2, bytes.NewReader(data)),
		types.OCILayerZStd:            compressed(t, Compression{Algorithm: Zstd}, 2, bytes.NewReader(data)),
		types.OCIUncompressedLayer:    data,
		types.DockerUncompressedLayer: data,
	}
	for mediaType, body := range packed {
		if got, err := readAll(body, mediaType, int64(len(data))); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes, %v, want %d", mediaType, len(got), err, len(data))
		}
		if got, err := readAll(body, mediaType, int64(len(data))-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %d bytes, %v, want %v", mediaType, len(got), err, ErrTooLarge)
		}
		if strings.HasSuffix(string(mediaType), ".tar") {
			continue // it has no end that could be missing
		}
		for name, damaged := range map[string][]byte{
			"truncated": body[:len(body)-1],
			"garbage":   append(bytes.Clone(body), "garbage"...),
			"one bit":   flipped(body),
			"empty":     nil,
		} {
			got, err := readAll(damaged, mediaType, int64(len(data)))
			// That nothing at all is no content is for the caller's digest to say.
			if err == nil && (name != "empty" || len(got) > 0) {
				t.Errorf("%s, %s: got %d bytes and no error", mediaType, name, len(got))
			}
		}
	}
	for _, mediaType := range []types.MediaType{"", types.OCIRestrictedLayer, types.OCIManifestSchema1, "application/vnd.oci.image.layer.v1.tar+lz4"} {
		if _, err := readAll(data, mediaType, 1<<30); err == nil || !strings.Contains(err.Error(), "got media type") {
			t.Errorf("%q: got %v", mediaType, err)
		}
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// A frame of a few bytes may ask for any amount of memory: it gets so much and no more.
func TestDecompressBoundsTheWindow(t *testing.T) {
	for _, tt := range []struct {
		window int
		want   error
	}{
		{8 << 20, nil},
		{maxWindow, nil},
		{2 * maxWindow, zstd.ErrWindowSizeExceeded},
		{1 << 29, zstd.ErrWindowSizeExceeded},
	} {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b, zstd.WithWindowSize(tt.window), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		z.Write([]byte("a"))
		z.Flush() // else the encoder knows how little it is
		z.Write([]byte("b"))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(b.Bytes(), types.OCILayerZStd, 10)
		if !errors.Is(err, tt.want) || err == nil && string(got) != "ab" {
			t.Errorf("window of %d bytes: got %q, %v, want %v", tt.window, got, err, tt.want)
		}
	}
}

// B10: a bomb is given up at the limit, not when memory or disk is full.
func TestDecompressGivesABombUp(t *testing.T) {
	for _, c := range []Compression{{}, {Algorithm: Zstd, Level: 1}} {
		bomb := compressed(t, c, 2, io.LimitReader(zeros{}, 64<<20))
		r, err := Decompress(bytes.NewReader(bomb), c.MediaType(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if !errors.Is(err, ErrTooLarge) || n > 1<<20 {
			t.Errorf("%s: got %d bytes, %v, want %v", c, n, err, ErrTooLarge)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// FuzzDecompress: whatever a registry sends, no more than the limit comes out.
func FuzzDecompress(f *testing.F) {
	const limit = 1 << 20
	mediaTypes := []types.MediaType{types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer}
	for i, c := range []Compression{{}, {Algorithm: Zstd}} {
		f.Add(byte(i), compressed(f, c, 1, bytes.NewReader(text(200))))
		f.Add(byte(i), compressed(f, c, 1, io.LimitReader(zeros{}, 2*limit)))
		f.Add(byte(i), compressed(f, c, 1, bytes.NewReader(nil)))
	}
	f.Add(byte(2), []byte("a tar archive"))
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		mediaType := mediaTypes[int(kind)%len(mediaTypes)]
		got, err := readAll(data, mediaType, limit)
		if len(got) > limit {
			t.Fatalf("%s: got %d bytes, want at most %d", mediaType, len(got), limit)
		}
		if err != nil {
			return
		}
		again, err := readAll(data, mediaType, int64(len(got)))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%s: the second time: %d bytes, %v, want %d", mediaType, len(again), err, len(got))
		}
	})
}
