package inspect

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// spoolMemory is how large a file may be that is held in memory, in bytes. Nearly
// every program and library of Debian is smaller.
const spoolMemory = 8 << 20

// spool holds one file at a time for reading in any order: a small one in memory,
// a large one on disk, where it has no name and is gone with the process.
type spool struct {
	buf  []byte
	file *os.File
}

// fill takes a file of the size, of which head has been read, in place of the one before.
func (s *spool) fill(head []byte, rest io.Reader, size int64) (io.ReaderAt, error) {
	if size <= spoolMemory {
		if int64(cap(s.buf)) < size {
			s.buf = make([]byte, size)
		}
		s.buf = s.buf[:size]
		n := copy(s.buf, head)
		_, err := io.ReadFull(rest, s.buf[n:])
		return bytes.NewReader(s.buf), err
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "imgctl-inspect-*")
		if err != nil {
			return nil, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		s.file = f
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if err := s.file.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := io.Copy(s.file, io.MultiReader(bytes.NewReader(head), rest)); err != nil {
		return nil, err
	}
	return s.file, nil
}

// close frees what the file took.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close() // nothing is kept of it
	}
}

// headReader reads a file of which only the head is there: what is behind it is an [io.EOF].
func headReader(head []byte) io.ReaderAt { return bytes.NewReader(head) }
