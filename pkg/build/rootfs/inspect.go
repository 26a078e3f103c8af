package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// runtimePaths are what a link may point into although the image has nothing there.
var runtimePaths = []string{"/proc/", "/sys/", "/dev/", "/run/"}

// inspect looks for what a reader of the image should know.
func (t *Tree) inspect(arch string) []Finding {
	var found []Finding
	for _, e := range t.Entries() {
		add := func(k Kind, detail string) {
			found = append(found, Finding{Path: "/" + e.Path, Kind: k, Detail: detail})
		}
		switch e.Type {
		case tar.TypeReg:
			if e.Mode&0o6000 != 0 {
				add(Setuid, fmt.Sprintf("mode %04o, owner %d:%d, from %s", e.Mode, e.UID, e.GID, e.from()))
			}
			if e.elf != (machine{}) && e.elf != machines[arch].machine {
				add(ForeignELF, fmt.Sprintf("for %v, want one for %s, from %s", e.elf.id, arch, e.from()))
			}
		case tar.TypeSymlink:
			if t.dangles(e) {
				add(Dangling, fmt.Sprintf("points to %s, from %s", e.Target, e.from()))
			}
		}
	}
	return found
}

// dangles reports whether a link leads nowhere, also when the system runs.
func (t *Tree) dangles(e *Entry) bool {
	_, err := t.lookup(e.Path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err != nil
	}
	for _, p := range runtimePaths {
		if strings.HasPrefix(e.Target, p) || strings.Contains(e.Target, ".."+p) {
			return false
		}
	}
	return true
}
