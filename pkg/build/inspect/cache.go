package inspect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// listingVersion is part of the names of cached listings. It changes whenever
// the same layer gives another listing, or the same listing other bytes.
const listingVersion = 1

// maxListing bounds a cached listing, in bytes, above what the bounds of an image allow.
const maxListing = 512 << 20

// Cache is a directory in which what was read of layers is remembered, by their
// digests. Any number of processes may share it. A nil one remembers nothing.
//
// A listing that is damaged is found by its hash and made again. Who may write
// into the directory decides what is found in an image, as with the layers themselves.
type Cache struct{ Dir string }

// list returns the listing of a layer.
func (c *Cache) list(ctx context.Context, l v1.Layer, left *budget) (*listing, error) {
	if c == nil {
		return readLayer(ctx, l, left)
	}
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(c.Dir, fmt.Sprintf("%s-%s.%d.json", digest.Algorithm, digest.Hex, listingVersion))
	if cached := load(file); cached != nil {
		return cached, left.takeListing(cached)
	}
	listed, err := readLayer(ctx, l, left)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	return listed, save(file, listed)
}

// takeListing counts what is in a listing.
func (b *budget) takeListing(l *listing) error {
	for _, e := range l.Entries {
		if err := b.take(e); err != nil {
			return err
		}
	}
	for _, text := range l.Texts {
		if err := b.takeText(len(text)); err != nil {
			return err
		}
	}
	return b.takeBytes(l.Size)
}

// save writes a listing after the hash of its bytes and a newline.
func save(file string, l *listing) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, 0o644, io.MultiReader(bytes.NewReader(sumLine(data)), bytes.NewReader(data)))
}

// load returns what save wrote, nil when it is not there, or not the same any
// more: why makes no difference, it is made again.
func load(file string) *listing {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxListing))
	if err != nil {
		return nil
	}
	size := len(sumLine(nil))
	if len(data) < size || !bytes.Equal(data[:size], sumLine(data[size:])) {
		return nil
	}
	l := &listing{}
	if json.Unmarshal(data[size:], l) != nil {
		return nil
	}
	return l
}

// sumLine is the first line of a file whose other bytes are data.
func sumLine(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append(hex.AppendEncode(nil, sum[:]), '\n')
}
