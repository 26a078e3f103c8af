package node

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// occupant says who holds the path of a file.
type occupant int

const (
	absent  occupant = iota // nobody
	ours                    // the link that this package makes for it
	foreign                 // anything else, also what could not be looked at
)

// linkTarget is the relative link from a bundle's path into the active
// generation. Relative, so that it also holds where the root is mounted elsewhere.
func linkTarget(p string) string {
	up := strings.Repeat("../", strings.Count(p, "/")-1)
	return up + path.Join(currentLink, treeName, p)
}

// linkAt looks at a bundle's path. For a foreign one it says what is there.
func linkAt(d *disk, p string) (occupant, string) {
	name := rel(p)
	var c *Conflict
	if err := checkDirs(d, name); errors.As(err, &c) {
		return foreign, c.Paths[0]
	} else if err != nil {
		return foreign, err.Error()
	}
	fi, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, ""
	case err != nil:
		return foreign, err.Error()
	case fi.Mode().Type() != fs.ModeSymlink:
		return foreign, p + " (" + kind(fi) + ")"
	}
	target, err := d.root.Readlink(name)
	if err != nil {
		return foreign, err.Error()
	}
	if target != linkTarget(p) {
		return foreign, p + " (a symbolic link to " + target + ")"
	}
	return ours, ""
}

// checkLinks fails with a [*Conflict] that names every path of g which belongs
// to somebody else.
func (st *state) checkLinks(g Generation) error {
	var c Conflict
	for _, f := range g.Bundle.Files {
		if is, what := linkAt(st.disk, f.Path); is == foreign {
			c.Paths = append(c.Paths, what)
		}
	}
	if c.Paths == nil {
		return nil
	}
	c.Paths = slices.Compact(c.Paths) // files below one bad directory
	return &c
}

// makeLinks makes the links of g that are missing. It never replaces what is
// there. The caller syncs.
func (st *state) makeLinks(g Generation) error {
	for _, f := range g.Bundle.Files {
		is, what := linkAt(st.disk, f.Path)
		if is == ours {
			continue
		}
		if is == foreign {
			return &Conflict{Paths: []string{what}}
		}
		if err := st.disk.mkdirs(path.Dir(rel(f.Path))); err != nil {
			return err
		}
		if err := st.disk.symlink(linkTarget(f.Path), rel(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

// staleLinks are our links which the active generation does not have. None can
// be told when its record cannot be read.
func (st *state) staleLinks() []string {
	wanted := map[string]bool{}
	g, ok := st.generations[st.current]
	if !ok && st.current != 0 {
		return nil
	}
	for _, f := range g.Bundle.Files {
		wanted[f.Path] = true
	}
	stale := map[string]bool{}
	for _, g := range st.generations {
		for _, f := range g.Bundle.Files {
			if is, _ := linkAt(st.disk, f.Path); is == ours && !wanted[f.Path] {
				stale[rel(f.Path)] = true
			}
		}
	}
	return sorted(stale)
}

// removeStale removes them.
func (st *state) removeStale() error {
	touched := map[string]bool{}
	for _, name := range st.staleLinks() {
		if err := st.disk.remove(name); err != nil {
			return err
		}
		touched[path.Dir(name)] = true
	}
	return st.disk.syncDirs(touched)
}

// switchTo makes g the active generation by one rename.
func (st *state) switchTo(g Generation) error {
	target := path.Join(path.Base(generationsDir), path.Base(dirOf(g.ID)))
	if err := st.disk.removeAll(newCurrent); err != nil {
		return err
	}
	if err := st.disk.symlink(target, newCurrent); err != nil {
		return err
	}
	if err := st.disk.rename(newCurrent, currentLink); err != nil {
		return errors.Join(err, st.disk.removeAll(newCurrent))
	}
	st.current = g.ID
	return st.disk.syncDir(storeDir)
}

// addUp adds dir and every directory above it up to top.
func addUp(dirs map[string]bool, dir, top string) {
	for ; dir != top && dir != "."; dir = path.Dir(dir) {
		dirs[dir] = true
	}
	dirs[top] = true
}

func sorted(set map[string]bool) []string {
	names := make([]string, 0, len(set))
	for n := range set {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
