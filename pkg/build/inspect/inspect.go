// Package inspect says what is in an image, whoever built it.
//
// [Read] lays the layers of an image over each other, as the OCI image
// specification says, and keeps a description of each file: an [FS]. That is
// asked three things: whether it has what nobody expects ([FS.Check]), in what it
// differs from another one ([Compare]), and what takes the space ([FS.Report]).
//
// The package knows nothing of the spec and the engines: what it says of an image
// it has read in the image. It understands dpkg's database and the dynamic linker
// of glibc. It runs nothing, and does not see what programs load by a name that they
// make up (dlopen), nor what scripts call.
package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Type says what an [Entry] is.
type Type string

// The types of entries.
const (
	Directory   Type = "directory"
	File        Type = "file"
	Symlink     Type = "link"
	CharDevice  Type = "character device"
	BlockDevice Type = "block device"
	FIFO        Type = "FIFO"
)

// capability is the extended attribute with which a program gets rights that
// its user does not have (capabilities(7)).
const capability = "security.capability"

// Entry is a file, directory or link of an image.
type Entry struct {
	Path    string    `json:"path"` // absolute and clean; the root is "/"
	Type    Type      `json:"type"`
	Mode    int64     `json:"mode"` // permissions with setuid, setgid and sticky bits; of a link always 0777
	UID     int       `json:"uid,omitempty"`
	GID     int       `json:"gid,omitempty"`
	ModTime time.Time `json:"modTime,omitzero"`
	Size    int64     `json:"size,omitempty"`   // bytes of a file
	SHA256  string    `json:"sha256,omitempty"` // of a file, hexadecimal
	Target  string    `json:"target,omitempty"` // of a link, as it is written; of a device its numbers: "8:1"
	// Attributes are the extended attributes, hexadecimal.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Inode is the first of the names of a file that has several, "" for others.
	Inode string `json:"inode,omitempty"`
	// ELF is what a program or library says of itself, nil for other files.
	ELF *ELF `json:"elf,omitempty"`
	// Script is the program that runs a script: what stands after #!, in an executable file.
	Script string `json:"script,omitempty"`
	// Layer is the index of the layer that the entry is from.
	Layer int `json:"layer,omitempty"`
	// Implied says that no layer has the directory, only something below it. It
	// has the mode and owner that programs which unpack images give it.
	Implied bool `json:"implied,omitempty"`

	text []byte // the content, where keepsText holds
}

// Capability returns the extended attribute security.capability, hexadecimal,
// "" when there is none.
func (e *Entry) Capability() string { return e.Attributes[capability] }

// mode is the mode for people: "4755".
func (e *Entry) mode() string { return fmt.Sprintf("%04o", e.Mode) }

// owner is the owner for people: "0:0".
func (e *Entry) owner() string { return fmt.Sprintf("%d:%d", e.UID, e.GID) }

// Layer is a layer of an image.
type Layer struct {
	Digest       string `json:"digest"`
	Compressed   int64  `json:"compressed"`   // bytes
	Uncompressed int64  `json:"uncompressed"` // bytes of the tar archive
	Files        int    `json:"files"`        // entries that are no directories
	Hidden       int64  `json:"hidden"`       // bytes of its files that a layer above replaces or deletes
}

// FS is the file system of an image.
type FS struct {
	Architecture string // as the image's config says: "amd64"
	Layers       []Layer

	entries []*Entry // sorted by path
	byPath  map[string]*Entry
}

// Entries returns everything in the file system, sorted by path. Do not change it.
func (f *FS) Entries() []*Entry { return f.entries }

// Entry returns what is at the absolute path, which may be a link; nil when nothing is.
func (f *FS) Entry(name string) *Entry { return f.byPath[name] }

// Why a path may lead to nothing, beside [fs.ErrNotExist].
var (
	errNotDirectory = errors.New("not a directory")
	errManyLinks    = errors.New("too many links")
)

// maxLinks is how many symbolic links are followed in one path, as in Linux.
const maxLinks = 40

// Lookup returns what an absolute path means when the image runs: links are
// followed. The error is a [*fs.PathError] with the path at which it ends.
func (f *FS) Lookup(name string) (*Entry, error) {
	e, todo := f.byPath["/"], name
	for links := 0; todo != ""; {
		var part string
		part, todo, _ = strings.Cut(todo, "/")
		if part == "" {
			continue
		}
		if e.Type != Directory {
			return nil, &fs.PathError{Op: "lookup", Path: e.Path, Err: errNotDirectory}
		}
		if part == "." || part == ".." {
			e = f.byPath[path.Join(e.Path, part)] // e has no links left in its path, so this is its real parent
			continue
		}
		next := path.Join(e.Path, part)
		found := f.byPath[next]
		if found == nil {
			return nil, &fs.PathError{Op: "lookup", Path: next, Err: fs.ErrNotExist}
		}
		if found.Type != Symlink {
			e = found
			continue
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: "lookup", Path: next, Err: errManyLinks}
		}
		if strings.HasPrefix(found.Target, "/") {
			e = f.byPath["/"]
		}
		todo = found.Target + "/" + todo
	}
	return e, nil
}

// place returns where a path that a package or a spec names really is: below
// /bin is below /usr/bin. The last part is not followed.
func (f *FS) place(name string) string {
	dir, err := f.Lookup(path.Dir(name))
	if err != nil {
		return path.Clean(name)
	}
	return path.Join(dir.Path, path.Base(name))
}

// isBelow reports whether name is dir or below it.
func isBelow(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}
