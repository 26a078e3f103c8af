package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// disk is the only way that this package changes a file system. All names are
// slash-separated, relative to the root and cannot leave it.
//
// It is one type with small steps so that tests can stop the program, or fail
// it, at each of them.
type disk struct {
	root *os.Root
	who  identity
	trap trap
}

// trap lets a test see each step before it is taken.
type trap struct {
	before func(step) error // an error is returned instead of taking the step
	noSync bool             // a kill -9 does not lose the page cache, and syncing is slow
	who    *identity        // instead of the process's own
}

// step is one call that changes files.
type step struct {
	Call     string // mkdir, create, write, chown, chmod, sync, syncdir, symlink, rename, remove
	Path, To string // To: the target of a link, the new name of a rename
	Data     []byte
	Mode     fs.FileMode
}

func (d *disk) step(s step) error {
	if d.trap.before == nil {
		return nil
	}
	if err := d.trap.before(s); err != nil {
		return &fs.PathError{Op: s.Call, Path: s.Path, Err: err}
	}
	return nil
}

// mkdir makes a directory that did not exist, with exactly mode 0755.
func (d *disk) mkdir(name string) error {
	if err := d.step(step{Call: "mkdir", Path: name, Mode: 0o755}); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	dir, err := d.root.Open(name)
	if err != nil {
		return err
	}
	fi, err := dir.Stat()
	if err == nil && fi.Mode().Perm() != 0o755 { // the umask took some away
		err = d.chmod(dir, name, 0o755)
	}
	return errors.Join(err, dir.Close())
}

// mkdirs makes name and the missing directories above it. The caller syncs.
func (d *disk) mkdirs(name string) error {
	if name == "." {
		return nil
	}
	if fi, err := d.root.Lstat(name); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if err := d.mkdirs(path.Dir(name)); err != nil {
		return err
	}
	if err := d.mkdir(name); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.mkdirs(name) // another process was faster: look again
}

// create makes a file that did not exist. It is readable by nobody else until
// its owner and mode are set.
func (d *disk) create(name string) (*os.File, error) {
	if err := d.step(step{Call: "create", Path: name}); err != nil {
		return nil, err
	}
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// writer makes each Write to f a step.
type writer struct {
	d    *disk
	f    *os.File
	name string
}

func (w writer) Write(p []byte) (int, error) {
	if err := w.d.step(step{Call: "write", Path: w.name, Data: p}); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

func (d *disk) chmod(f *os.File, name string, mode fs.FileMode) error {
	if err := d.step(step{Call: "chmod", Path: name, Mode: mode}); err != nil {
		return err
	}
	return f.Chmod(mode)
}

// chown gives f its owner, unless it has it: then no privilege is needed.
func (d *disk) chown(f *os.File, name string, uid, gid int) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if u, g := owner(fi); u == uid && g == gid {
		return nil
	}
	if err := d.step(step{Call: "chown", Path: name, To: fmt.Sprintf("%d:%d", uid, gid)}); err != nil {
		return err
	}
	return f.Chown(uid, gid)
}

func (d *disk) sync(f *os.File, name string) error {
	if err := d.step(step{Call: "sync", Path: name}); err != nil || d.trap.noSync {
		return err
	}
	return f.Sync()
}

// syncDir makes what was made, renamed and removed in the directory durable.
func (d *disk) syncDir(name string) error {
	if err := d.step(step{Call: "syncdir", Path: name}); err != nil || d.trap.noSync {
		return err
	}
	dir, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *disk) syncDirs(dirs map[string]bool) error {
	for _, dir := range sorted(dirs) {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) symlink(target, name string) error {
	if err := d.step(step{Call: "symlink", Path: name, To: target}); err != nil {
		return err
	}
	return d.root.Symlink(target, name)
}

func (d *disk) rename(from, to string) error {
	if err := d.step(step{Call: "rename", Path: from, To: to}); err != nil {
		return err
	}
	return d.root.Rename(from, to)
}

func (d *disk) remove(name string) error {
	if err := d.step(step{Call: "remove", Path: name}); err != nil {
		return err
	}
	return d.root.Remove(name)
}

// removeAll removes name and what is below it. A name that is not there is fine.
func (d *disk) removeAll(name string) error {
	fi, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		names, err := d.list(name)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := d.removeAll(path.Join(name, n)); err != nil {
				return err
			}
		}
	}
	return d.remove(name)
}

// list is the sorted names in a directory; none when it does not exist.
func (d *disk) list(name string) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// owner is the user and group of a file.
func owner(fi fs.FileInfo) (uid, gid int) {
	st := fi.Sys().(*syscall.Stat_t) // on every Unix
	return int(st.Uid), int(st.Gid)
}
