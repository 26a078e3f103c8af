package inspect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Bounds of one image, all its layers taken together. A node image of Debian has
// ten thousand entries and 300 MB, one with everything for storage three times
// that; the images with which people train models are outside.
const (
	maxEntries = 200_000  // some 100 MB of memory
	maxText    = 64 << 20 // bytes of names, attributes and the like, which are all kept in memory
	maxBytes   = 8 << 30  // uncompressed: half a minute of decompression
	maxWindow  = 64 << 20 // bytes of memory for zstd; its strongest levels ask for 8 MiB, --long for 128
)

// An EntryError says that a layer holds an entry that no layer may hold.
type EntryError struct {
	Entry string // the name as it stands in the layer
	Why   string
}

// Error is one line.
func (e *EntryError) Error() string { return fmt.Sprintf("entry %.200q: %s", e.Entry, e.Why) }

// Read returns the file system of the image. Each layer is read once, as many
// side by side as there are cores, and compared with its digest. cache, which may
// be nil, remembers what was in a layer.
//
// Whiteouts are understood as the OCI image specification has them. What programs
// that unpack images understand differently, or what could lead them out of their
// directory, ends it with an [*EntryError]: names with "..", absolute ones, one
// name twice in a layer, names below a link or a file, hard links to anything but
// an earlier file of the layer, sparse files, whiteouts that are not empty files or that the
// specification does not know. Names that differ only by case are two files:
// Debian has such, and every file system that an image runs on keeps them apart.
func Read(ctx context.Context, img v1.Image, cache *Cache) (*FS, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("image layers: %w", err)
	}
	listings, err := readLayers(ctx, layers, cache)
	if err != nil {
		return nil, err
	}
	f, err := merge(layers, listings)
	if err != nil {
		return nil, err
	}
	f.Architecture = config.Architecture
	return f, nil
}

// readLayers lists all layers. Of several errors it returns that of the lowest layer.
func readLayers(ctx context.Context, layers []v1.Layer, cache *Cache) ([]*listing, error) {
	left := newBudget()
	listings, errs := make([]*listing, len(layers)), make([]error, len(layers))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range layers {
		g.Go(func() error {
			listings[i], errs[i] = cache.list(ctx, l, left)
			return nil
		})
	}
	g.Wait() // its error is in errs
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return listings, nil
}

// budget is what the layers of an image may still bring.
type budget struct{ entries, text, bytes atomic.Int64 }

func newBudget() *budget {
	b := &budget{}
	b.entries.Store(maxEntries)
	b.text.Store(maxText)
	b.bytes.Store(maxBytes)
	return b
}

// take counts an entry and what has to be remembered of it.
func (b *budget) take(e *Entry) error {
	if b.entries.Add(-1) < 0 {
		return fmt.Errorf("more than %d entries in the image", maxEntries)
	}
	text := len(e.Path) + len(e.Target) + len(e.Script)
	for name, value := range e.Attributes {
		text += len(name) + len(value)
	}
	if x := e.ELF; x != nil {
		text += len(x.Interpreter) + len(x.RPath) + len(x.RunPath) + len(x.SOName)
		for _, name := range x.Needed {
			text += len(name)
		}
	}
	return b.takeText(text)
}

func (b *budget) takeText(n int) error {
	if b.text.Add(-int64(n)) < 0 {
		return fmt.Errorf("names and the like of more than %d bytes in the image", maxText)
	}
	return nil
}

func (b *budget) takeBytes(n int64) error {
	if b.bytes.Add(-n) < 0 {
		return fmt.Errorf("more than %d bytes in the image when it is decompressed", int64(maxBytes))
	}
	return nil
}

// readLayer lists what is in a layer.
//
// It decompresses by itself: hashing the compressed bytes, which the manifest
// vouches for, costs a third of hashing the others, and the memory is bounded here.
func readLayer(ctx context.Context, l v1.Layer, left *budget) (*listing, error) {
	want, err := l.Digest()
	if err != nil {
		return nil, err
	}
	size, err := l.Size()
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw := &hashed{r: io.LimitReader(rc, size+1), hash: sha256.New()}
	buffered := bufio.NewReaderSize(raw, 64<<10)
	plain, err := decompress(buffered)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	content := &metered{r: plain, stop: ctx.Err, left: left}
	listed, err := listTar(content, left)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return nil, err
	}
	if got := raw.sum(); got != want.Hex || raw.n != size {
		return nil, fmt.Errorf("got %d bytes with digest sha256:%s, want %d with %s", raw.n, got, size, want)
	}
	listed.Size = content.n
	return listed, nil
}

// decompress returns the tar archive in r, which is compressed with gzip or zstd,
// or not at all: its first bytes say which.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// hashed hashes and counts what is read.
type hashed struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

// Read implements [io.Reader].
func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	h.n += int64(n)
	return n, err
}

func (h *hashed) sum() string { return hex.EncodeToString(h.hash.Sum(nil)) }

// metered stops reading when it is told to, or when too much has been read.
type metered struct {
	r    io.Reader
	stop func() error
	left *budget
	n    int64
}

// Read implements [io.Reader].
func (m *metered) Read(p []byte) (int, error) {
	if err := m.stop(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if err := m.left.takeBytes(int64(n)); err != nil {
		return 0, err
	}
	return n, err
}
