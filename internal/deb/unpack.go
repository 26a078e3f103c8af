package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
)

// Bounds of one package. The largest in Debian 13 unpack to 4 GB (debugging
// symbols and game data); what a node needs stays below 100 MB.
const (
	maxControl = 32 << 20
	maxData    = 2 << 30
	maxEntries = 200_000
)

// Member is one entry of a package.
type Member struct {
	// Control says that it belongs to the package's control information
	// ("control", "md5sums", "conffiles", "postinst", …), not to its files.
	Control bool
	// Header is the tar header. Its Name is clean and relative ("usr/bin/bash"),
	// without "./" or a slash at the end, as is the Linkname of a hard link. It is
	// a directory, a regular file, a symbolic link or a hard link to a file that came before.
	Header *tar.Header
	// Body is the content of a regular file. It is valid until the function returns.
	Body io.Reader
}

// An EntryError says that a package holds an entry that no package may hold.
type EntryError struct {
	Entry string // the name as it stands in the package
	Why   string
}

// Error is one line.
func (e *EntryError) Error() string { return fmt.Sprintf("entry %.200q: %s", e.Entry, e.Why) }

// Unpack calls fn for each entry of the package file at path: first the control
// information, then the files, each in the package's order. Nothing is written
// and no more than one entry's window is held in memory.
//
// Entries that could reach outside a root directory, or that two programs could
// understand differently, end it with an [*EntryError]: names with "..", absolute
// or empty ones, NULs, devices, FIFOs and sparse files, hard links to anything but an
// earlier file, the same name twice, a name below one that is no directory.
// Symbolic links may point anywhere: whoever writes files must not follow them.
// The first error of fn ends it as well and is returned. fn may have been called
// before a damaged end is found, so use what it built only when Unpack returns nil.
func Unpack(file string, fn func(Member) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unpack(f, fn); err != nil {
		return fmt.Errorf("unpack %s: %w", path.Base(file), err)
	}
	return nil
}

// debVersion is the content of debian-binary. A new minor version is readable by
// definition (deb(5)).
var debVersion = regexp.MustCompile(`^2\.[0-9]{1,5}\n`)

// unpack reads the three members in the only order that deb(5) allows. Members
// whose names start with "_" are the place for extensions, and skipped.
func unpack(r io.Reader, fn func(Member) error) error {
	ar, err := newArReader(r)
	if err != nil {
		return err
	}
	wanted := []string{"debian-binary", "control.tar", "data.tar"}
	for {
		m, err := ar.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(m.Name, "_") {
			continue
		}
		if len(wanted) == 0 {
			return fmt.Errorf("ar member %s after data.tar", m.Name)
		}
		suffix, ok := strings.CutPrefix(m.Name, wanted[0])
		if !ok {
			return fmt.Errorf("ar member %s: want %s", m.Name, wanted[0])
		}
		if err := unpackMember(ar, wanted[0], suffix, m.Size, fn); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		wanted = wanted[1:]
	}
	if len(wanted) > 0 {
		return fmt.Errorf("no %s: %w", wanted[0], io.ErrUnexpectedEOF)
	}
	return nil
}

// unpackMember reads one of the three members.
func unpackMember(ar io.Reader, name, suffix string, size int64, fn func(Member) error) error {
	switch name {
	case "control.tar":
		return unpackTar(ar, suffix, maxControl, true, fn)
	case "data.tar":
		return unpackTar(ar, suffix, maxData, false, fn)
	}
	data, err := io.ReadAll(io.LimitReader(ar, 64))
	if err != nil {
		return err
	}
	if suffix != "" || size > 64 || !debVersion.Match(data) {
		return fmt.Errorf("format version %q, want 2.0", data)
	}
	return nil
}

// unpackTar reads a compressed tar archive to its very end, so that checksums at
// the end of the compressed stream are compared.
func unpackTar(r io.Reader, suffix string, limit int64, control bool, fn func(Member) error) error {
	plain, err := decompress(r, suffix, limit)
	if err != nil {
		return err
	}
	defer plain.Close()
	entries := entryCheck{seen: make(map[string]byte)}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return onlyZeros(plain)
		}
		if err != nil {
			return err
		}
		name := h.Name
		if why := entries.check(h); why != "" {
			return &EntryError{Entry: name, Why: why}
		}
		if h.Name == "." {
			continue // the root itself
		}
		if err := fn(Member{Control: control, Header: h, Body: tr}); err != nil {
			return err
		}
	}
}

// onlyZeros reads the rest of an archive, which pads the last block.
func onlyZeros(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("data after the end of the archive")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entryCheck knows the entries so far, by clean name and type.
type entryCheck struct{ seen map[string]byte }

// check makes the names in h clean and says what is wrong with it, "" for nothing.
func (c *entryCheck) check(h *tar.Header) string {
	if len(c.seen) == maxEntries {
		return fmt.Sprintf("more than %d entries", maxEntries)
	}
	name, why := cleanName(h.Name)
	if why != "" {
		return why
	}
	h.Name = name
	if _, again := c.seen[name]; again {
		return "given twice"
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if t, ok := c.seen[parent]; ok && t != tar.TypeDir {
			return "below " + parent + ", which is no directory"
		}
	}
	if why := c.checkType(h); why != "" {
		return why
	}
	c.seen[name] = h.Typeflag
	return ""
}

// checkType refuses entries of other types than the four, and hard links to
// anything but an earlier regular file of the same archive.
func (c *entryCheck) checkType(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeDir:
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return "a sparse file"
			}
		}
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Sprintf("symbolic link to %.200q", h.Linkname)
		}
	case tar.TypeLink:
		target, why := cleanName(h.Linkname)
		if t, ok := c.seen[target]; why != "" || !ok || t != tar.TypeReg && t != tar.TypeLink {
			return fmt.Sprintf("hard link to %.200q, which is no file that came before", h.Linkname)
		}
		h.Linkname = target
	default:
		return "neither file, directory nor link: " + typeName(h.Typeflag)
	}
	if h.Name == "." && h.Typeflag != tar.TypeDir {
		return "the root is no directory"
	}
	return ""
}

// cleanName returns name without "./" and superfluous slashes, or what is wrong
// with it. Parts that are ".." are refused also where they would cancel out.
func cleanName(name string) (clean, why string) {
	switch {
	case name == "":
		return "", "empty name"
	case strings.HasPrefix(name, "/"):
		return "", "absolute name"
	case strings.ContainsRune(name, 0):
		return "", "NUL in the name"
	case len(name) > 4096:
		return "", "name longer than 4096 bytes"
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", "leads out of the root by .."
		}
	}
	return path.Clean(name), ""
}

func typeName(t byte) string {
	switch t {
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "FIFO"
	case tar.TypeGNUSparse:
		return "sparse file"
	}
	return fmt.Sprintf("type %q", t)
}
