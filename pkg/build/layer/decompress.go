package layer

import (
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd frame can ask for, in bytes. The
// layers of this package need 4 MiB, and what zstd(1) makes up to level 19 needs 8.
const maxWindow = 32 << 20

// ErrTooLarge says that a layer has more content than it may have.
var ErrTooLarge = errors.New("more content than allowed")

// Decompress returns a reader of the content of a layer, whoever made it. Its
// memory is bounded. Reading more than limit bytes fails with [ErrTooLarge]; a
// reader that ends with io.EOF has read all of r.
//
// Another media type than that of a tar archive, as it is or compressed by gzip
// or zstd, is an error. Closing the reader does not close r.
func Decompress(r io.Reader, mediaType types.MediaType, limit int64) (io.ReadCloser, error) {
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return &limited{r: z, close: z.Close, left: limit}, nil
	case types.OCILayerZStd:
		// One goroutine, the caller's: the reader may be dropped at any time.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return &limited{r: z, close: func() error { z.Close(); return nil }, left: limit}, nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return &limited{r: r, close: func() error { return nil }, left: limit}, nil
	}
	return nil, fmt.Errorf("decompress: got media type %.100q, want a tar archive, as it is or compressed by gzip or zstd", mediaType)
}

// limited reads at most left bytes.
type limited struct {
	r     io.Reader
	close func() error
	left  int64
}

// Read implements [io.Reader].
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, ErrTooLarge
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("decompress: %w", err)
	}
	return n, err
}

// Close implements [io.Closer].
func (l *limited) Close() error { return l.close() }
