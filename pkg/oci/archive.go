package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
)

// maxArchive is how many entries of an archive are looked at.
const maxArchive = 100_000

// archive is an OCI layout in a tar file, which podman, skopeo ("oci-archive:")
// and docker write. It is only read: where each file is in it is found out once,
// and what is there is as little trusted as any other source.
type archive struct {
	once  sync.Once
	files map[string]span
	err   error
}

// span is the place of a file in an archive.
type span struct{ at, size int64 }

// open opens a file of the layout that is the tar file at name.
func (a *archive) open(name, file string) (io.ReadCloser, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	a.once.Do(func() { a.files, a.err = listArchive(f) })
	s, ok := a.files[file]
	switch {
	case a.err != nil:
		err = fmt.Errorf("%s is no directory, and no archive of one: %w", name, a.err)
	case !ok:
		err = &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
	default:
		return archived{io.NewSectionReader(f, s.at, s.size), f}, s.size, nil
	}
	return nil, 0, errors.Join(err, f.Close())
}

// archived is a file in an archive.
type archived struct {
	io.Reader
	io.Closer
}

// listArchive returns where the regular files of an uncompressed tar archive are.
func listArchive(r io.ReadSeeker) (map[string]span, error) {
	files := make(map[string]span)
	in := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := in.Next()
		switch {
		case err == io.EOF:
			if _, ok := files[layoutFile]; !ok {
				return nil, fmt.Errorf("it holds no %s", layoutFile)
			}
			return files, nil
		case err != nil:
			return nil, err
		case n == maxArchive:
			return nil, fmt.Errorf("it holds more than %d entries", maxArchive)
		case h.Typeflag != tar.TypeReg || isSparse(h):
			continue
		}
		name := path.Clean(h.Name)
		if _, twice := files[name]; twice {
			return nil, fmt.Errorf("it holds %q twice", clip(sanitize(name)))
		}
		at, err := r.Seek(0, io.SeekCurrent) // the reader takes whole headers and nothing beyond
		if err != nil {
			return nil, err
		}
		files[name] = span{at, h.Size}
	}
}

// isSparse reports whether the bytes of a file are not those that follow its header.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
