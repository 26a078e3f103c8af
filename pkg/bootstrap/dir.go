package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/filelock"
)

// maxFile is the most bytes that a file of the directory may have.
const maxFile = 1 << 20

// Differs is the error for a file that is there and is not what it should be.
type Differs struct {
	Path string // below the directory
	Why  error
	// Renew is what to ask [Init] for to have it made anew; empty when nothing does that.
	Renew string
}

// Error is one line.
func (d *Differs) Error() string { return fmt.Sprintf("%s: %v", d.Path, d.Why) }

// Unwrap returns the cause.
func (d *Differs) Unwrap() error { return d.Why }

// dir is a directory that is being filled, by one process at a time.
type dir struct {
	path  string
	now   time.Time
	steps []Step
	close func()
}

// openDir makes the directory when it is not there, and takes its lock. One that
// others may look into is refused.
func openDir(ctx context.Context, path string, now time.Time) (*dir, error) {
	d := &dir{path: path, now: now.UTC()}
	for _, sub := range []string{"", "pki", "pki/etcd", tokensDir, filepath.Dir(clusterInfoFile)} {
		if err := privateDir(filepath.Join(path, sub)); err != nil {
			return nil, err
		}
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(path, lockFile))
	if err != nil {
		return nil, err
	}
	d.close = unlock
	return d, nil
}

// privateDir makes a directory that is its owner's alone, whatever the umask.
func privateDir(path string) error {
	err := os.Mkdir(path, dirMode)
	if err == nil {
		return os.Chmod(path, dirMode)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o077 != 0 {
		return &Differs{Path: path, Why: fmt.Errorf("got %v, want a directory of mode %04o", fi.Mode(), dirMode)}
	}
	return nil
}

// read returns the file, or [fs.ErrNotExist]. A secret that others may read is
// refused: it has to be taken for known.
func (d *dir) read(name string, mode fs.FileMode) ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&^mode != 0 {
		return nil, &Differs{Path: name, Why: fmt.Errorf("got mode %v, want a file of %04o or less", fi.Mode(), mode)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, &Differs{Path: name, Why: fmt.Errorf("larger than %d bytes", maxFile)}
	}
	return data, nil
}

// has tells whether the file is there.
func (d *dir) has(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// write puts the file there, whole or not at all, with its mode from the first byte on.
func (d *dir) write(name string, mode fs.FileMode, body []byte) error {
	return atomicfile.WriteBytes(filepath.Join(d.path, name), mode, body)
}

// put is [dir.write] of what follows from other files: when it is there as it
// should be it stays, else it is written.
func (d *dir) put(name string, mode fs.FileMode, body []byte) error {
	outcome := Created
	switch was, err := d.read(name, mode); {
	case err == nil && bytes.Equal(was, body):
		d.did(Step{Path: name, Outcome: Kept})
		return nil
	case err == nil:
		outcome = Replaced
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.write(name, mode, body); err != nil {
		return err
	}
	d.did(Step{Path: name, Outcome: outcome})
	return nil
}

// remove takes the file away, durably.
func (d *dir) remove(name string) error {
	path := filepath.Join(d.path, name)
	if err := os.Remove(path); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func (d *dir) did(s Step) { d.steps = append(d.steps, s) }
