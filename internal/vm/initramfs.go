package vm

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
)

// File is a file that [Initramfs] adds to the root file system, owned by root.
type File struct {
	Path string // relative to the root
	Mode int64  // permissions
	Data []byte
}

// maxName is the longest path that Linux takes (PATH_MAX, with its NUL).
const maxName = 4096

// Initramfs writes the tar stream rootfs, and then extra, as an initial RAM
// disk: a cpio archive in the "newc" format, which Linux unpacks at boot
// (Documentation/driver-api/early-userspace/buffer-format.rst). Files replace
// those of the same path before them; missing parent directories are made.
func Initramfs(w io.Writer, rootfs io.Reader, extra ...File) error {
	a := &archive{w: bufio.NewWriterSize(w, 1<<20), files: map[string]entry{}, dirs: map[string]bool{".": true}}
	a.entry(entry{name: ".", mode: typeDir | 0o755, links: 2})
	t := tar.NewReader(rootfs)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read root file system: %w", err)
		}
		if err := a.add(h, t); err != nil {
			return fmt.Errorf("add %s to initial RAM disk: %w", h.Name, err)
		}
	}
	for _, f := range extra {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data))}
		if err := a.add(h, strings.NewReader(string(f.Data))); err != nil {
			return fmt.Errorf("add %s to initial RAM disk: %w", h.Name, err)
		}
	}
	a.entry(entry{name: "TRAILER!!!", links: 1})
	return a.w.Flush()
}

// archive is a cpio archive that grows. Errors of w stay in it until Flush.
type archive struct {
	w     *bufio.Writer
	inode int
	files map[string]entry // the regular files so far, for hard links
	dirs  map[string]bool  // so far
}

type entry struct {
	name         string
	mode         int64 // with the file type
	uid, gid     int
	links        int
	mtime, size  int64
	major, minor int64
	inode        int // 0 for a new one
}

// The file types of stat(2).
const (
	typeFIFO    = 0o010000
	typeChar    = 0o020000
	typeDir     = 0o040000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

func (a *archive) add(h *tar.Header, body io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil
	}
	if name == ".." || strings.HasPrefix(name, "../") || len(name) >= maxName {
		return fmt.Errorf("path: got %q, want one below the root", h.Name)
	}
	a.parents(name)
	e, err := a.describe(name, h)
	if err != nil {
		return err
	}
	if e.size >= 1<<32 {
		return fmt.Errorf("size: got %d bytes, want less than 4 GiB", e.size)
	}
	a.entry(e)
	if h.Typeflag == tar.TypeSymlink {
		body = strings.NewReader(h.Linkname) // its content is the target
	}
	if e.size == 0 {
		return nil
	}
	if n, err := io.Copy(a.w, body); err != nil || n != e.size {
		return fmt.Errorf("got %d bytes, want %d: %w", n, e.size, err)
	}
	a.pad(e.size)
	return nil
}

// describe says what h is in the terms of cpio, and remembers what later
// entries refer to.
func (a *archive) describe(name string, h *tar.Header) (entry, error) {
	e := entry{name: name, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, links: 1, mtime: max(0, h.ModTime.Unix())}
	switch h.Typeflag {
	case tar.TypeReg:
		// Two links for every file: with more than one the kernel remembers the
		// inode, and whether a link follows is not known yet.
		e.mode, e.size, e.links, e.inode = e.mode|typeRegular, h.Size, 2, a.next()
		a.files[name] = e
	case tar.TypeLink:
		target := path.Clean(strings.TrimLeft(h.Linkname, "/"))
		file, ok := a.files[target]
		if !ok {
			return entry{}, fmt.Errorf("hard link to %s: it is not there", target)
		}
		e = file // the kernel applies mode and owner of each link to the one file
		e.name, e.size = name, 0
		a.files[name] = e
	case tar.TypeSymlink:
		e.mode, e.size = typeSymlink|0o777, int64(len(h.Linkname))
	case tar.TypeDir:
		e.mode, e.links = e.mode|typeDir, 2
		a.dirs[name] = true
	case tar.TypeChar:
		e.mode, e.major, e.minor = e.mode|typeChar, h.Devmajor, h.Devminor
	case tar.TypeBlock:
		e.mode, e.major, e.minor = e.mode|typeBlock, h.Devmajor, h.Devminor
	case tar.TypeFifo:
		e.mode |= typeFIFO
	default:
		return entry{}, fmt.Errorf("type: got %q, want a file, directory, link or device", h.Typeflag)
	}
	return e, nil
}

// parents adds the directories above name that are not there.
func (a *archive) parents(name string) {
	dir := path.Dir(name)
	if a.dirs[dir] {
		return
	}
	a.parents(dir)
	a.dirs[dir] = true
	a.entry(entry{name: dir, mode: typeDir | 0o755, links: 2})
}

// entry writes a header and the name, padded.
func (a *archive) entry(e entry) {
	if e.inode == 0 {
		e.inode = a.next()
	}
	n, _ := fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		e.inode, e.mode, e.uid, e.gid, e.links, e.mtime, e.size, 0, 0, e.major, e.minor, len(e.name)+1, 0, e.name)
	a.pad(int64(n))
}

// next is a new inode number.
func (a *archive) next() int {
	a.inode++
	return a.inode
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad(n int64) { a.w.WriteString("\x00\x00\x00"[:(4-n%4)%4]) }
