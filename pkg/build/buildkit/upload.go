package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// upload is a file that a worker gets under a name that has its digest in it.
type upload struct {
	name string
	file string // on disk
}

// newUpload writes a file in dir that a worker is to get.
func newUpload(dir, kind, suffix string, fill func(io.Writer) error) (upload, error) {
	f, err := os.CreateTemp(dir, kind+"-")
	if err != nil {
		return upload{}, err
	}
	h := sha256.New()
	if err := errors.Join(fill(io.MultiWriter(f, h)), f.Close()); err != nil {
		return upload{}, errors.Join(err, os.Remove(f.Name()))
	}
	return upload{name: kind + "_" + hex.EncodeToString(h.Sum(nil)) + suffix, file: f.Name()}, nil
}

// uploads is a directory that exists only for a worker: files of the cache, each
// under a name that has its digest in it. Nothing is copied or linked, and all
// that a name leaves open (owner, mode, time) is fixed.
type uploads []upload

// Walk implements [fsutil.FS].
func (u uploads) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	files := slices.SortedFunc(slices.Values(u), func(a, b upload) int { return strings.Compare(a.name, b.name) })
	for _, f := range slices.CompactFunc(files, func(a, b upload) bool { return a.name == b.name }) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if only := strings.Trim(path.Clean("/"+target), "/"); only != "" && only != f.name {
			continue
		}
		fi, err := os.Stat(f.file)
		if err != nil {
			return err
		}
		if err := fn(f.name, &fsutil.DirEntryInfo{Stat: &types.Stat{Path: f.name, Mode: 0o644, Size: fi.Size()}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Open implements [fsutil.FS].
func (u uploads) Open(name string) (io.ReadCloser, error) {
	for _, f := range u {
		if f.name == name {
			return os.Open(f.file)
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
