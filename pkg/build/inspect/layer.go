package inspect

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
)

// How whiteouts are written (image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// xattrPrefix is how PAX headers name extended attributes.
const xattrPrefix = "SCHILY.xattr."

// maxKept bounds a file that is kept whole. dpkg's status file of a whole desktop has 4 MB.
const maxKept = 16 << 20

// listing is what is in one layer.
type listing struct {
	Entries   []*Entry          `json:"entries"`             // sorted by path
	Whiteouts []string          `json:"whiteouts,omitempty"` // paths of which nothing from layers below is seen
	Opaque    []string          `json:"opaque,omitempty"`    // directories in which nothing from layers below is seen
	Texts     map[string][]byte `json:"texts,omitempty"`     // files for which keepsText holds
	Size      int64             `json:"size"`                // bytes of the tar archive
}

// keepsText reports whether the content of a file is needed to understand an image.
func keepsText(name string) bool {
	switch name {
	case linkerCache, dpkgDir + "status", dpkgDir + "diversions":
		return true
	}
	switch path.Dir(name) {
	case dpkgDir + "info":
		return strings.HasSuffix(name, ".list")
	case dpkgDir + "alternatives":
		return true
	}
	return false
}

// lister lists one layer.
type lister struct {
	listing
	left    *budget
	seen    map[string]*Entry
	parents map[string]bool // paths with something below
	hash    hash.Hash
	sum     []byte
	buf     []byte // the head of the current file
	spool   spool
}

// listTar lists the tar archive in r, and reads r to its end.
func listTar(r io.Reader, left *budget) (*listing, error) {
	l := &lister{left: left, seen: make(map[string]*Entry), parents: make(map[string]bool), hash: sha256.New(), buf: make([]byte, 64<<10)}
	defer l.spool.close()
	br := bufio.NewReaderSize(r, 256<<10)
	tr := tar.NewReader(br)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := l.add(h, tr); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(l.Entries, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	_, err := io.Copy(zeros{}, br) // the padding of the last block
	return &l.listing, err
}

// zeros takes nothing but zero bytes.
type zeros struct{}

// Write implements [io.Writer].
func (zeros) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != 0 {
			return 0, errors.New("data after the end of the archive")
		}
	}
	return len(p), nil
}

// add takes one entry.
func (l *lister) add(h *tar.Header, body io.Reader) error {
	e, why := l.entry(h)
	if why != "" {
		return &EntryError{Entry: h.Name, Why: why}
	}
	if e == nil {
		return nil // a whiteout
	}
	l.seen[e.Path] = e
	l.Entries = append(l.Entries, e)
	if h.Typeflag == tar.TypeReg {
		if err := l.content(e, h.Size, body); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
	return l.left.take(e)
}

// entry makes an entry of a header, none of a whiteout. why says what is wrong
// with it, "" for nothing.
func (l *lister) entry(h *tar.Header) (e *Entry, why string) {
	name, why := cleanName(h.Name)
	if why != "" {
		return nil, why
	}
	if dir, base := path.Split(name); strings.HasPrefix(base, whiteoutPrefix) {
		return nil, l.whiteout(h, path.Clean(dir), base)
	}
	e = &Entry{Path: name, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.UTC()}
	for _, id := range []int{h.Uid, h.Gid} {
		if id < 0 || int64(id) > math.MaxUint32 {
			return nil, "owner " + e.owner()
		}
	}
	if why := l.describe(e, h); why != "" {
		return nil, why
	}
	return e, l.collides(e)
}

// whiteout notes that base in dir hides something of a layer below.
func (l *lister) whiteout(h *tar.Header, dir, base string) (why string) {
	if h.Typeflag != tar.TypeReg || h.Size != 0 {
		return "a whiteout that is not an empty file"
	}
	if l.left.take(&Entry{Path: path.Join(dir, base)}) != nil {
		return "more whiteouts than an image may have"
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	switch {
	case base == opaqueName:
		l.Opaque = append(l.Opaque, dir)
	case hidden == "", hidden == ".", hidden == "..", strings.HasPrefix(hidden, whiteoutPrefix):
		return "a whiteout that the OCI image specification does not know"
	default:
		l.Whiteouts = append(l.Whiteouts, path.Join(dir, hidden))
	}
	return ""
}

// describe fills in what the header says of each type.
func (l *lister) describe(e *Entry, h *tar.Header) (why string) {
	switch h.Typeflag {
	case tar.TypeDir:
		e.Type = Directory
	case tar.TypeReg:
		e.Type, e.Size = File, h.Size
	case tar.TypeSymlink:
		e.Type, e.Target, e.Mode = Symlink, h.Linkname, 0o777
		if h.Linkname == "" || len(h.Linkname) > maxString || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Sprintf("symbolic link to %.200q", h.Linkname)
		}
	case tar.TypeLink:
		return l.hardLink(e, h)
	case tar.TypeFifo:
		e.Type = FIFO
	case tar.TypeChar, tar.TypeBlock:
		e.Type, e.Target = CharDevice, fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
		if h.Typeflag == tar.TypeBlock {
			e.Type = BlockDevice
		} else if h.Devmajor == 0 && h.Devminor == 0 {
			return "character device 0:0, which is a whiteout for overlayfs and none for others"
		}
	default:
		return fmt.Sprintf("entry of type %q", h.Typeflag)
	}
	return attributes(e, h)
}

// attributes takes the extended attributes, and refuses what is no plain file.
func attributes(e *Entry, h *tar.Header) (why string) {
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "a sparse file"
		}
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			return "extended attribute " + name + ", which is a whiteout for overlayfs and none for others"
		}
		if e.Attributes == nil {
			e.Attributes = make(map[string]string)
		}
		e.Attributes[name] = hex.EncodeToString([]byte(h.PAXRecords[key]))
	}
	return ""
}

// hardLink makes e another name of an earlier file. Programs differ in whether
// what a hard link says of mode and owner counts, so it must be the same.
func (l *lister) hardLink(e *Entry, h *tar.Header) (why string) {
	target, why := cleanName(h.Linkname)
	file := l.seen[target]
	if why != "" || file == nil || file.Type == Directory {
		return fmt.Sprintf("hard link to %.200q, which is no earlier file of the layer", h.Linkname)
	}
	if file.Type != Symlink && (e.Mode != file.Mode || e.UID != file.UID || e.GID != file.GID) {
		return fmt.Sprintf("hard link of mode %s and owner %s to a file of mode %s and owner %s", e.mode(), e.owner(), file.mode(), file.owner())
	}
	if why := attributes(e, h); why != "" {
		return why
	}
	if e.Attributes != nil && !maps.Equal(e.Attributes, file.Attributes) {
		return "hard link with other extended attributes than its file"
	}
	if file.Inode == "" {
		file.Inode = file.Path
	}
	name := e.Path
	*e = *file
	e.Path = name
	return ""
}

// collides says what other entry of the layer e cannot stand beside.
func (l *lister) collides(e *Entry) (why string) {
	switch {
	case l.seen[e.Path] != nil:
		return "given twice"
	case e.Path == "/" && e.Type != Directory:
		return "the root is no directory"
	}
	if e.Type != Directory && l.parents[e.Path] {
		return "not a directory, but something is below it"
	}
	for dir := e.Path; dir != "/"; {
		dir = path.Dir(dir)
		if above := l.seen[dir]; above != nil && above.Type != Directory {
			return "below " + dir + ", which is no directory"
		}
		if l.parents[dir] {
			break // and so are those above
		}
		l.parents[dir] = true
	}
	return ""
}

// content hashes a file, and looks into it as far as it has to be understood.
func (l *lister) content(e *Entry, size int64, body io.Reader) error {
	l.hash.Reset()
	n, err := io.ReadFull(body, l.buf[:min(size, int64(len(l.buf)))])
	if err != nil {
		return err
	}
	head := l.buf[:n]
	l.hash.Write(head)
	if e.Mode&0o111 != 0 {
		e.Script = script(head)
	}
	rest := io.TeeReader(body, l.hash)
	switch {
	case keepsText(e.Path):
		err = l.keep(e, head, rest)
	case isELF(head):
		e.ELF, err = l.inspectELF(head, rest, size)
	default:
		err = l.drain(rest)
	}
	l.sum = l.hash.Sum(l.sum[:0])
	e.SHA256 = hex.EncodeToString(l.sum)
	return err
}

// script returns the program that Linux runs for a file which starts with head, ""
// when that is no script. With env(1) it is the program's name, to be looked for.
func script(head []byte) string {
	line, ok := bytes.CutPrefix(head[:min(len(head), 256)], []byte("#!")) // BINPRM_BUF_SIZE
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	switch {
	case len(words) == 0:
		return ""
	case len(words) > 1 && words[0] == "/usr/bin/env" && !strings.HasPrefix(words[1], "-"):
		return words[1]
	}
	return words[0]
}

// drain reads the rest of a file. It may overwrite the head.
func (l *lister) drain(r io.Reader) error {
	for {
		_, err := r.Read(l.buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keep keeps the whole of a file.
func (l *lister) keep(e *Entry, head []byte, rest io.Reader) error {
	if e.Size > maxKept {
		return fmt.Errorf("got %d bytes, want at most %d", e.Size, maxKept)
	}
	text, err := io.ReadAll(rest)
	if err != nil {
		return err
	}
	if l.Texts == nil {
		l.Texts = make(map[string][]byte)
	}
	l.Texts[e.Path] = slices.Concat(head, text)
	return l.left.takeText(len(head) + len(text))
}

// inspectELF reads an ELF file. For a static program its head is enough.
func (l *lister) inspectELF(head []byte, rest io.Reader, size int64) (*ELF, error) {
	e, err := readELF(headReader(head))
	if int64(len(head)) < size && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		whole, spoolErr := l.spool.fill(head, rest, size)
		if spoolErr != nil {
			return nil, spoolErr
		}
		e, err = readELF(whole)
	} else if err := l.drain(rest); err != nil {
		return nil, err
	}
	if err != nil {
		e.Damage = err.Error()
	}
	return e, nil
}

// cleanName returns the absolute, shortest form of a name in an archive, or what
// is wrong with it. Parts that are ".." are refused also where they would cancel out.
func cleanName(name string) (clean, why string) {
	switch {
	case name == "":
		return "", "empty name"
	case strings.HasPrefix(name, "/"):
		return "", "absolute name"
	case strings.ContainsRune(name, 0):
		return "", "NUL in the name"
	case len(name) > maxString:
		return "", fmt.Sprintf("name longer than %d bytes", maxString)
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if part == ".." {
			return "", "leads out of the root by .."
		}
		if i < len(parts)-1 && strings.HasPrefix(part, whiteoutPrefix) {
			return "", "below a whiteout"
		}
	}
	return path.Clean("/" + name), ""
}
