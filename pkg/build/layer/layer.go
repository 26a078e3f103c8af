// Package layer keeps the layers of images as compressed files in a cache.
//
// A layer has a key, which stands for everything that it is made of: who asks
// for the same key again gets the file that is there and nothing is compressed.
// A file is hashed before it is trusted, and once more whenever it is read, so
// that what is pushed is what was built (a disk may fail, a user may meddle).
package layer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layer is a compressed layer in a file. It implements [v1.Layer] and streams:
// its memory does not depend on its size.
type Layer struct {
	path      string
	digest    v1.Hash
	diffID    v1.Hash
	size      int64
	mediaType types.MediaType
}

// A ChangedError says that a layer's file is no longer what was built.
type ChangedError struct {
	Path      string
	Got, Want string // digests, or sizes
}

// Error is one line.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("layer %s changed on disk: got %s, want %s", e.Path, e.Got, e.Want)
}

// Digest implements [v1.Layer].
func (l *Layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements [v1.Layer].
func (l *Layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Size implements [v1.Layer]. It is the size of the compressed file, in bytes.
func (l *Layer) Size() (int64, error) { return l.size, nil }

// MediaType implements [v1.Layer].
func (l *Layer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// Compressed implements [v1.Layer]. The last read fails with a [*ChangedError]
// when the file is not the one that was built.
func (l *Layer) Compressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	return &checked{r: f, c: f, hash: sha256.New(), want: l.digest.Hex, left: l.size, path: l.path}, nil
}

// Uncompressed implements [v1.Layer]. It is checked as Compressed is.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	f, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	z, err := Decompress(f, l.mediaType, math.MaxInt64)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("layer %s: %w", l.path, err)
	}
	return &checked{r: &drained{Reader: z, rest: f}, c: closers{z, f}, hash: sha256.New(), want: l.diffID.Hex, left: -1, path: l.path}, nil
}

// closers closes each.
type closers []io.Closer

// Close implements [io.Closer].
func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// drained reads rest to its end, too, when Reader has ended, so that its check is made.
type drained struct {
	io.Reader
	rest io.Reader
}

// Read implements [io.Reader].
func (d *drained) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err == io.EOF {
		if _, err := io.Copy(io.Discard, d.rest); err != nil {
			return n, err
		}
	}
	return n, err
}

// checked hashes what is read and compares size and digest at the end.
type checked struct {
	r    io.Reader
	c    io.Closer
	hash hash.Hash
	want string
	left int64 // bytes to come; negative: not known
	path string
}

// Read implements [io.Reader].
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	known := c.left >= 0
	if known {
		if c.left -= int64(n); c.left < 0 {
			return 0, &ChangedError{Path: c.path, Got: "a larger file", Want: "sha256:" + c.want}
		}
	}
	if err != io.EOF {
		return n, err
	}
	if got := hex.EncodeToString(c.hash.Sum(nil)); got != c.want {
		return n, &ChangedError{Path: c.path, Got: "sha256:" + got, Want: "sha256:" + c.want}
	}
	return n, io.EOF
}

// Close implements [io.Closer].
func (c *checked) Close() error { return c.c.Close() }
