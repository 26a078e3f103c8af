package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// spool holds the content of files on disk until it is known which of them are
// in the image, and in which order. It has no name, so that nothing is left
// behind whatever happens to the process.
type spool struct {
	f    *os.File
	w    *bufio.Writer
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &spool{f: f, w: bufio.NewWriterSize(f, 256<<10)}, nil
}

// add appends what r holds, which must be size bytes. The content can be read
// after the next flush.
func (s *spool) add(r io.Reader, size int64) (content, error) {
	n, err := io.Copy(s.w, r)
	c := content{spool: s, offset: s.size, size: n}
	s.size += n
	if err != nil {
		return content{}, err
	}
	if n != size {
		return content{}, fmt.Errorf("got %d bytes, want %d", n, size)
	}
	return c, nil
}

func (s *spool) flush() error { return s.w.Flush() }

// content is the bytes of a file: in a spool, or in memory when they are few.
type content struct {
	spool  *spool
	offset int64
	size   int64
	data   []byte
}

func inMemory(data []byte) content { return content{data: data, size: int64(len(data))} }

// reader reads the content from its start. Several may read at once.
func (c content) reader() *io.SectionReader {
	if c.spool == nil {
		return io.NewSectionReader(bytesAt(c.data), 0, c.size)
	}
	return io.NewSectionReader(c.spool.f, c.offset, c.size)
}

// bytes reads the content, which may not be larger than max.
func (c content) bytes(max int64) ([]byte, error) {
	if c.size > max {
		return nil, fmt.Errorf("has %d bytes, want at most %d", c.size, max)
	}
	return io.ReadAll(c.reader())
}

// bytesAt is an [io.ReaderAt] of memory.
type bytesAt []byte

// ReadAt implements [io.ReaderAt].
func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// openContent is the content of a file on disk, until the returned function is called.
func openContent(name string) (content, func() error, error) {
	f, err := os.Open(name)
	if err != nil {
		return content{}, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return content{}, nil, errors.Join(err, f.Close())
	}
	return content{spool: &spool{f: f}, size: info.Size()}, f.Close, nil
}
