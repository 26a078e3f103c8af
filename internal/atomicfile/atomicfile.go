// Package atomicfile replaces files and symbolic links so that a crash, also a
// power cut, leaves the old one or the new one and nothing between.
//
// Each function writes a temporary name in the directory of the target, syncs
// it, renames it over the target and syncs the directory: without the last step
// the rename itself can be lost (rename(2) is atomic, not durable).
package atomicfile

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path by what r holds, with exactly the permissions
// perm, whatever the umask. On an error path is as it was and no temporary file is left.
func Write(path string, perm fs.FileMode, r io.Reader) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, which is the point
	if err := fill(f, perm, r); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// WriteBytes is [Write] of data.
func WriteBytes(path string, perm fs.FileMode, data []byte) error {
	return Write(path, perm, bytes.NewReader(data))
}

// Symlink makes link a symbolic link to target, replacing a link or file that is there.
func Symlink(target, link string) error {
	tmp := temporary(link)
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(link))
}

// SyncDir makes what was created, renamed and removed in the directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// create opens a new temporary file beside path. The name is random and the
// open exclusive, so that nobody can have put a link in its place.
func create(path string) (*os.File, error) {
	return os.OpenFile(temporary(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func temporary(path string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+hex.EncodeToString(b[:]))
}

func fill(f *os.File, perm fs.FileMode, r io.Reader) error {
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	return f.Sync()
}
