package deb

import (
	"bufio"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// maxWindow bounds the memory of one decompression, in bytes: 64 MiB is what
// the strongest presets of xz and zstd ask for. dpkg-deb's default needs 8.
const maxWindow = 64 << 20

// decompress returns r decompressed as its name's suffix says (".xz", ".gz",
// ".zst" or "" for none). Reading more than limit bytes from it is an error.
//
// xz is what Debian uses, and its decoder decides how long a build takes. This
// one takes a bound for the window, which the file could otherwise set to 4 GiB.
func decompress(r io.Reader, suffix string, limit int64) (io.ReadCloser, error) {
	r = bufio.NewReaderSize(r, 64<<10)
	var plain io.Reader
	closer := func() {}
	switch suffix {
	case "":
		plain = r
	case ".xz":
		x, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return nil, err
		}
		x.Multistream(false) // one stream is all that dpkg-deb writes
		plain = x
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		plain = z
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		plain, closer = z, z.Close
	default:
		return nil, fmt.Errorf("compression %.20q: want .xz, .gz, .zst or none", suffix)
	}
	return &capped{r: plain, left: limit, limit: limit, close: closer}, nil
}

// capped fails when more than limit bytes are read from it.
type capped struct {
	r           io.Reader
	left, limit int64
	close       func()
}

// Read implements [io.Reader].
func (c *capped) Read(p []byte) (int, error) {
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		return int(c.left), fmt.Errorf("larger than %d bytes when decompressed", c.limit)
	}
	c.left -= int64(n)
	return n, err
}

// Close frees what the decompressor holds. It does not close what is read from.
func (c *capped) Close() error {
	c.close()
	return nil
}
