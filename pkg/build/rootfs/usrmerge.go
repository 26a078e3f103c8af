package rootfs

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"io"
	"path"
	"strings"
)

// linkUsr makes the links of the merged /usr that something needs, in an image
// without base-files, which has them all: "/lib64" for the interpreter of a
// program, "/bin" for that of a script.
func (t *Tree) linkUsr() error {
	if t.packages["base-files"] {
		return nil
	}
	for _, e := range t.Entries() {
		top, _, below := strings.Cut(strings.TrimPrefix(e.reference(), "/"), "/")
		if !below || t.entries[top] != nil || !t.has("/usr"+e.reference()) {
			continue
		}
		t.aliases[top] = "usr/" + top
		t.entries[top] = &Entry{Path: top, Type: tar.TypeSymlink, Mode: 0o777, Target: "usr/" + top, ModTime: t.created}
	}
	return nil
}

// reference returns the absolute path that an entry cannot do without: the
// interpreter of a program or a script, the target of a link. "" is none.
func (e *Entry) reference() string {
	var target string
	switch {
	case e.Type == tar.TypeSymlink:
		target = e.Target
	case e.Type == tar.TypeReg && e.elf != (machine{}):
		target = e.interpreter()
	case e.Type == tar.TypeReg && e.Mode&0o111 != 0:
		target = e.shebang()
	}
	if !path.IsAbs(target) {
		return ""
	}
	return path.Clean(target)
}

// interpreter returns the dynamic linker that an ELF file names. A file that
// cannot be read names none.
func (e *Entry) interpreter() string {
	f, err := elf.NewFile(e.content.reader())
	if err != nil {
		return ""
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			name, err := io.ReadAll(p.Open())
			if err != nil {
				return ""
			}
			return string(bytes.TrimRight(name, "\x00"))
		}
	}
	return ""
}

// shebang returns the program that the first line of a script names.
func (e *Entry) shebang() string {
	head, err := io.ReadAll(io.LimitReader(e.content.reader(), 256)) // as much as Linux reads
	if err != nil {
		return ""
	}
	rest, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}
