package owners

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// Finding is one way in which a machine differs from the table.
type Finding struct {
	Path     string `json:"path"`
	What     string `json:"what"` // "kind", "mode", "owner" or "account"
	Got      string `json:"got"`
	Want     string `json:"want"`
	Repaired bool   `json:"repaired"`
}

// Audit compares the machine whose files are below root with the table: users
// and groups, and mode and owner, by number, of every path of the roles that is
// there. With repair it sets modes and owners. No symbolic link is followed, and
// neither a link nor a file that has another name too is changed.
func (t *Table) Audit(root string, repair bool, roles ...Role) ([]Finding, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("audit %s: %w", root, err)
	}
	defer r.Close()
	a := &audit{root: r, table: t, repair: repair}
	if err := a.accounts(); err != nil {
		return nil, fmt.Errorf("audit %s: %w", root, err)
	}
	for _, p := range t.Of(roles...) {
		if err := a.row(p); err != nil {
			return nil, fmt.Errorf("audit %s: %w", root, err)
		}
	}
	return a.found, nil
}

type audit struct {
	root   *os.Root
	table  *Table
	repair bool
	found  []Finding
}

func (a *audit) report(f Finding) { a.found = append(a.found, f) }

// row looks at the paths of a row. What is not there is not looked at: it may
// be made later.
func (a *audit) row(p Path) error {
	names := []string{p.Path}
	if strings.Contains(p.Path, "*") {
		var err error
		if names, err = fs.Glob(a.root.FS(), p.Path[1:]); err != nil {
			return err
		}
	}
	for _, name := range names {
		name = strings.TrimPrefix(name, "/")
		there, err := a.parents(name)
		if err == nil && there {
			err = a.path(name, p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// parents tells whether all directories above the path are there, and reports
// the first that is something else.
func (a *audit) parents(name string) (bool, error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		info, err := a.root.Lstat(name[:i])
		if err != nil {
			return false, err
		}
		if !info.IsDir() {
			a.report(Finding{Path: "/" + name[:i], What: "kind", Got: kindOf(info.Mode()), Want: "directory"})
			return false, nil
		}
	}
	return true, nil
}

// path looks at one path, and at all that is below it if the row says so.
func (a *audit) path(name string, p Path) error {
	if err := a.one(name, p, true); err != nil || !p.Deep {
		return err
	}
	return fs.WalkDir(a.root.FS(), name, func(below string, d fs.DirEntry, err error) error {
		if err != nil || below == name {
			return err
		}
		want := p
		want.Mode = d.Type() & fs.ModeDir // what is below has modes of its own
		return a.one(below, want, false)
	})
}

// one looks at one path, of which the mode is known or not.
func (a *audit) one(name string, p Path, mode bool) error {
	info, err := a.root.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode().Type() != p.Mode.Type() {
		a.report(Finding{Path: "/" + name, What: "kind", Got: kindOf(info.Mode()), Want: kindOf(p.Mode)})
		return nil
	}
	// Not the path but what it stands for now is looked at and changed.
	f, err := a.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return err
	}
	if err := a.owner(f, "/"+name, info, p); err != nil || !mode {
		return err
	}
	return a.mode(f, "/"+name, info, p)
}

func (a *audit) owner(f *os.File, name string, info fs.FileInfo, p Path) error {
	uid, _ := a.table.UID(p.Owner)
	gid, _ := a.table.GID(p.Group)
	is := info.Sys().(*syscall.Stat_t)
	if is.Uid == uid && is.Gid == gid {
		return nil
	}
	found := Finding{Path: name, What: "owner", Got: fmt.Sprintf("%d:%d", is.Uid, is.Gid), Want: fmt.Sprintf("%d:%d", uid, gid)}
	if a.repair && alone(info) {
		if err := f.Chown(int(uid), int(gid)); err != nil {
			return err
		}
		found.Repaired = true
	}
	a.report(found)
	return nil
}

// mode compares all bits: one that gives the rights of the owner away counts.
func (a *audit) mode(f *os.File, name string, info fs.FileInfo, p Path) error {
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if info.Mode()&bits == p.Mode&bits {
		return nil
	}
	found := Finding{Path: name, What: "mode", Got: modeOf(info.Mode()), Want: modeOf(p.Mode)}
	if a.repair && alone(info) {
		if err := f.Chmod(p.Mode & bits); err != nil {
			return err
		}
		found.Repaired = true
	}
	a.report(found)
	return nil
}

// alone tells that a file has no other name: what it has could be anything of
// the machine, /etc/shadow for instance.
func alone(info fs.FileInfo) bool { return info.IsDir() || info.Sys().(*syscall.Stat_t).Nlink == 1 }

func modeOf(m fs.FileMode) string {
	n := uint32(m.Perm())
	for i, bit := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if m&bit != 0 {
			n |= 0o1000 << i
		}
	}
	return fmt.Sprintf("%04o", n)
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	}
	return m.Type().String()
}
