package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// WriteTar writes the tree as the tar archive of an image layer: sorted, parents
// first, without names of owners, access times or anything else that differs between machines.
func (t *Tree) WriteTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	first := make(map[*Entry]string) // of each inode: where its content is
	for _, e := range t.Entries() {
		if err := writeEntry(tw, e, t.created, first); err != nil {
			return fmt.Errorf("write /%s: %w", e.Path, err)
		}
	}
	return tw.Close()
}

// writeEntry writes one entry. A second name of a file becomes a hard link to the first one.
func writeEntry(tw *tar.Writer, e *Entry, created time.Time, first map[*Entry]string) error {
	h := &tar.Header{Typeflag: e.Type, Name: e.Path, Linkname: e.Target, Mode: e.Mode, Uid: e.UID, Gid: e.GID,
		ModTime: clamp(e.ModTime, created)}
	switch e.Type {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeReg:
		if name, again := first[e.inode]; again {
			h.Typeflag, h.Linkname = tar.TypeLink, name
			return tw.WriteHeader(h)
		}
		first[e.inode] = e.Path
		h.Size = e.Size()
		if e.Capability != "" {
			h.PAXRecords = map[string]string{capabilityRecord: e.Capability}
		}
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if e.Type == tar.TypeReg {
		_, err := io.Copy(tw, e.content.reader())
		return err
	}
	return nil
}

// clamp makes a time that a layer can have: whole seconds, not after created, not before 1970.
func clamp(t, created time.Time) time.Time {
	if t.After(created) {
		t = created
	}
	if t.Unix() < 0 {
		t = time.Unix(0, 0)
	}
	return time.Unix(t.Unix(), 0).UTC()
}

// OnDisk is a file of the machine that goes into an image.
type OnDisk struct {
	Path string // in the image, absolute
	File string // on disk
	Mode int64
}

// WriteFiles writes a tar archive of files with the directories above them, all
// of root. Every time in it is t, so that the archive changes only with the files.
func WriteFiles(w io.Writer, files []OnDisk, mtime time.Time) error {
	tree := &Tree{entries: make(map[string]*Entry), created: mtime}
	for _, f := range files {
		c, closeFile, err := openContent(f.File)
		if err != nil {
			return err
		}
		defer closeFile()
		e := &Entry{Path: path.Clean(strings.TrimPrefix(f.Path, "/")), Type: tar.TypeReg, Mode: f.Mode, content: c}
		if err := tree.put(e); err != nil {
			return err
		}
	}
	return tree.WriteTar(w)
}
