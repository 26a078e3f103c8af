package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/deb"
)

// capabilityRecord is the only extended attribute that is kept: what setcap(8) writes.
const capabilityRecord = "SCHILY.xattr.security.capability"

// maxLinks is how many symbolic links are followed in one path, as in Linux.
const maxLinks = 40

// Entry is a file, directory or symbolic link of a [Tree].
type Entry struct {
	Path       string // relative to the root, clean: "usr/bin/bash"
	Type       byte   // tar.TypeDir, tar.TypeReg or tar.TypeSymlink
	Mode       int64  // permissions with setuid, setgid and sticky bits
	UID, GID   int
	ModTime    time.Time
	Target     string // of a symbolic link, as it is written
	Capability string // of a file: the attribute security.capability, raw

	content     content
	inode       *Entry // of a file: what its hard links have in common; nil when content was dropped
	user, group string // names of the owner, as the package has them
	elf         machine
	pkg         *unpacked // nil: generated
	asked       bool      // the Config has it, in so many words
}

// share makes e a hard link to the file other.
func (e *Entry) share(other *Entry) error {
	e.Type = tar.TypeReg
	if other == nil || other.inode == nil {
		return fmt.Errorf("%s: a hard link to a file that is left out", e.Path)
	}
	e.content, e.inode, e.elf = other.content, other.inode, other.elf
	return nil
}

// Size returns the length of the content in bytes.
func (e *Entry) Size() int64 { return e.content.size }

// from names where the entry came from, for messages.
func (e *Entry) from() string {
	if e.pkg == nil {
		return "the image's own files"
	}
	return "package " + e.pkg.Name
}

// Tree is a file system. Close it when it has been written.
type Tree struct {
	Licenses map[string][]byte // the copyright file of each package, as far as there is one

	entries   map[string]*Entry
	aliases   map[string]string // top-level links: "bin" → "usr/bin"
	packages  map[string]bool   // those that the tree is made of, by name
	overrides []string          // lines of dpkg's statoverride
	created   time.Time
	spools    []*spool
}

// Close frees the disk space that the content takes.
func (t *Tree) Close() error {
	var errs []error
	for _, s := range t.spools {
		errs = append(errs, s.f.Close())
	}
	return errors.Join(errs...)
}

// Entries returns all entries sorted by path, so that parents come first.
func (t *Tree) Entries() []*Entry {
	return slices.SortedFunc(maps.Values(t.entries), func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
}

// canonical returns where a path of a package really is: below /bin is below /usr/bin.
func (t *Tree) canonical(p string) string {
	first, rest, below := strings.Cut(p, "/")
	to, ok := t.aliases[first]
	if !ok {
		return p
	}
	if !below {
		return to
	}
	return to + "/" + rest
}

// lookup finds what an absolute or relative path means in the running image,
// following every link. The error says where it ends when it leads nowhere.
func (t *Tree) lookup(p string) (*Entry, error) {
	done, todo := "", strings.TrimPrefix(path.Clean("/"+p), "/")
	for links := 0; todo != ""; {
		var name string
		name, todo, _ = strings.Cut(todo, "/")
		done = path.Join(done, name)
		e, ok := t.entries[done]
		if !ok {
			return nil, fmt.Errorf("/%s: %w", done, fs.ErrNotExist)
		}
		if e.Type != tar.TypeSymlink {
			if todo != "" && e.Type != tar.TypeDir {
				return nil, fmt.Errorf("/%s: not a directory", done)
			}
			continue
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("/%s: too many links", done)
		}
		target := e.Target
		if !strings.HasPrefix(target, "/") {
			target = "/" + path.Dir(done) + "/" + target
		}
		done, todo = "", strings.TrimPrefix(path.Clean(path.Join("/", target, todo)), "/")
	}
	if done == "" {
		return nil, errors.New("/: the root itself")
	}
	return t.entries[done], nil
}

// file finds a regular file.
func (t *Tree) file(p string) (*Entry, error) {
	e, err := t.lookup(p)
	if err != nil {
		return nil, err
	}
	if e.Type != tar.TypeReg {
		return nil, fmt.Errorf("%s: not a regular file", p)
	}
	return e, nil
}

// has reports whether the path leads to something.
func (t *Tree) has(p string) bool {
	_, err := t.lookup(p)
	return err == nil
}

// read returns the content of a small file.
func (t *Tree) read(p string) ([]byte, error) {
	e, err := t.file(p)
	if err != nil {
		return nil, err
	}
	data, err := e.content.bytes(maxControl)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return data, nil
}

// put adds a generated entry, with directories above it as needed. What is there
// already is an error: generated files never hide those of a package.
func (t *Tree) put(e *Entry) error {
	e.Path = strings.TrimPrefix(e.Path, "/")
	if path.Clean("/"+e.Path) != "/"+e.Path {
		return &deb.EntryError{Entry: e.Path, Why: "of " + e.from() + ": not a clean path"}
	}
	e.Path = t.canonical(e.Path)
	if old, ok := t.entries[e.Path]; ok {
		return fmt.Errorf("/%s: already there, from %s", e.Path, old.from())
	}
	if err := t.mkdirs(path.Dir(e.Path)); err != nil {
		return err
	}
	if e.ModTime.IsZero() {
		e.ModTime = t.created
	}
	if e.Type == tar.TypeReg {
		e.inode = e
	}
	t.entries[e.Path] = e
	return nil
}

// mkdirs makes the directory and those above it, as far as they are not there.
func (t *Tree) mkdirs(dir string) error {
	if dir == "." {
		return nil
	}
	if e, ok := t.entries[dir]; ok {
		if e.Type != tar.TypeDir {
			return fmt.Errorf("/%s: from %s, want a directory", dir, e.from())
		}
		return nil
	}
	if err := t.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	t.entries[dir] = &Entry{Path: dir, Type: tar.TypeDir, Mode: 0o755, ModTime: t.created}
	return nil
}

func (t *Tree) putFile(p string, mode int64, data []byte) error {
	return t.put(&Entry{Path: p, Type: tar.TypeReg, Mode: mode, content: inMemory(data)})
}

func (t *Tree) putLink(p, target string) error {
	return t.put(&Entry{Path: p, Type: tar.TypeSymlink, Mode: 0o777, Target: target})
}

// putMissing is putFile, unless a package has brought the file.
func (t *Tree) putMissing(p string, mode int64, data []byte) error {
	if _, ok := t.entries[t.canonical(p)]; ok {
		return nil
	}
	return t.putFile(p, mode, data)
}

// checkEntries makes sure that whoever unpacks the tree writes what and where it
// says: every parent is a directory of the tree, never a link, and no name means
// that another is deleted.
func (t *Tree) checkEntries() error {
	for _, e := range t.Entries() {
		if strings.HasPrefix(path.Base(e.Path), ".wh.") {
			return &deb.EntryError{Entry: e.Path, Why: "of " + e.from() + ": in an image layer such a name deletes a file"}
		}
		if err := t.mkdirs(path.Dir(e.Path)); err != nil {
			return fmt.Errorf("entry /%s of %s: %w", e.Path, e.from(), err)
		}
	}
	return nil
}

// prune drops what the filter leaves out and the residue, and directories that
// only had such things. What the Config itself asks for stays.
func (t *Tree) prune(cfg Config, f *filter) {
	used := make(map[string]bool)
	for _, p := range cfg.own() {
		used[t.canonical(p[1:])] = true
	}
	for _, e := range slices.Backward(t.Entries()) {
		dir := e.Type == tar.TypeDir
		if !used[e.Path] && (f.drops(e.Path) || isResidue("/"+e.Path, dir)) {
			delete(t.entries, e.Path)
			continue
		}
		used[path.Dir(e.Path)] = true
	}
}
