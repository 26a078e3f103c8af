package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Outcome is what was done about one file of a machine.
type Outcome struct {
	Path    string `json:"path"`
	Outcome string `json:"outcome"` // created, kept or replaced
}

// Owners finds the numbers of a user and a group of the machine.
type Owners func(user, group string) (uid, gid int, err error)

// dirMode is of the directories above the files: components go through those
// that are not theirs. What is secret is a file, and has the mode for it.
const dirMode fs.FileMode = 0o755

// Write puts the files below root, the machine's root directory. Each is there
// whole or not at all, with its owner and mode from the moment it has its name.
// Nothing outside of root is touched, wherever symbolic links in it lead. The
// owners of all files are looked up before the first is written; nil: everything
// belongs to the caller.
func (a *Archive) Write(root string, owners Owners) ([]Outcome, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	ids := make([]owner, len(a.Files))
	for i, f := range a.Files {
		if ids[i], err = lookUp(owners, f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	var done []Outcome
	for i, f := range a.Files {
		outcome, err := writeFile(r, f, ids[i])
		if err != nil {
			return done, fmt.Errorf("write %s: %w", f.Path, err)
		}
		done = append(done, Outcome{f.Path, outcome})
	}
	return done, nil
}

type owner struct{ uid, gid int }

func lookUp(owners Owners, f File) (owner, error) {
	if owners == nil {
		return owner{-1, -1}, nil // chown(2): as they are
	}
	uid, gid, err := owners(f.Owner, f.Group)
	return owner{uid, gid}, err
}

func writeFile(r *os.Root, f File, o owner) (string, error) {
	name := f.Path[1:]
	dir := path.Dir(name)
	if err := makeDirs(r, dir); err != nil {
		return "", err
	}
	was, err := existing(r, name)
	if err != nil {
		return "", err
	}
	if was != nil && bytes.Equal(was, f.Body) {
		return "kept", errors.Join(r.Chown(name, o.uid, o.gid), r.Chmod(name, f.Mode))
	}
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	temporary := path.Join(dir, "."+path.Base(name)+".tmp-"+hex.EncodeToString(b[:]))
	if err := fill(r, temporary, f, o); err != nil {
		return "", errors.Join(err, gone(r.Remove(temporary)))
	}
	if err := r.Rename(temporary, name); err != nil {
		return "", errors.Join(err, gone(r.Remove(temporary)))
	}
	if was != nil {
		return "replaced", syncDir(r, dir)
	}
	return "created", syncDir(r, dir)
}

// makeDirs makes the directories of a path, each with dirMode whatever the umask.
func makeDirs(r *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeDirs(r, path.Dir(dir)); err != nil {
		return err
	}
	err := r.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(r.Chmod(dir, dirMode), syncDir(r, path.Dir(dir)))
}

// existing returns the file, or nil when there is none. What is no regular file
// is refused: nobody knows what it is for.
func existing(r *os.Root, name string) ([]byte, error) {
	fi, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &ContentError{fmt.Errorf("%s is there and is no regular file (%v)", filepath.Join("/", name), fi.Mode().Type())}
	}
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, MaxSize))
	if err != nil {
		return nil, err
	}
	return append([]byte{}, body...), nil
}

// fill writes a new file. Its owner changes before it can be read by others.
func fill(r *os.Root, name string, f File, o owner) error {
	w, err := r.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(f.Body)
	return errors.Join(err, w.Chown(o.uid, o.gid), w.Chmod(f.Mode), w.Sync(), w.Close())
}

// gone drops the error for a file that was never there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(r *os.Root, dir string) error {
	d, err := r.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
