package rootfs

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/build/rootfs/ldso"
)

// writeLinkerCache does what ldconfig(8) does: it notes where each shared
// library is. An image without ldconfig has no such note, and the linker looks
// through its directories.
func (t *Tree) writeLinkerCache(arch string) error {
	if !t.has(ldconfig) {
		return nil
	}
	generator, err := t.generator()
	if err != nil {
		return err
	}
	m := machines[arch]
	dirs, err := t.linkerDirectories("/etc/ld.so.conf", 0)
	if err != nil {
		return err
	}
	libs, err := t.libraries(append(dirs, m.directories...), m.machine)
	if err != nil {
		return err
	}
	return t.putFile("etc/ld.so.cache", 0o644, ldso.Encode(libs, m.flag, generator))
}

// ldconfig is where the program is.
const ldconfig = "/usr/sbin/ldconfig"

// generator returns what ldconfig says of itself in the cache. It is written in
// the program: "ldconfig (Debian GLIBC 2.41-12) stable release version 2.41".
func (t *Tree) generator() (string, error) {
	data, err := t.read(ldconfig)
	if err != nil {
		return "", err
	}
	_, after, found := bytes.Cut(data, []byte("\x00ldconfig ("))
	name, _, ended := bytes.Cut(after, []byte("\x00"))
	if !found || !ended {
		return "", nil // an older one, which says nothing
	}
	return "ldconfig (" + string(name), nil
}

// linkerDirectories reads a file in the syntax of ld.so.conf.
func (t *Tree) linkerDirectories(conf string, depth int) ([]string, error) {
	if depth > 8 {
		return nil, fmt.Errorf("%s: included too deeply", conf)
	}
	if !t.has(conf) {
		return nil, nil
	}
	data, err := t.read(conf)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "include":
			for _, file := range t.glob(fields[1:], path.Dir(conf)) {
				more, err := t.linkerDirectories(file, depth+1)
				if err != nil {
					return nil, err
				}
				dirs = append(dirs, more...)
			}
		default:
			dirs = append(dirs, strings.TrimRight(fields[0], "/"))
		}
	}
	return dirs, nil
}

// glob returns the files that match one of the patterns, which are absolute or relative to dir, sorted.
func (t *Tree) glob(patterns []string, dir string) []string {
	var files []string
	for p := range t.entries {
		for _, pattern := range patterns {
			if !strings.HasPrefix(pattern, "/") {
				pattern = dir + "/" + pattern
			}
			if ok, err := path.Match(pattern, "/"+p); err == nil && ok {
				files = append(files, "/"+p)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// libraries finds the shared libraries of the directories. A directory that is
// another one by a link is searched once, under the name that comes first.
func (t *Tree) libraries(dirs []string, m machine) ([]ldso.Library, error) {
	byDir := t.children()
	var libs []ldso.Library
	searched := make(map[string]bool)
	for _, dir := range dirs {
		real, err := t.lookup(dir)
		if err != nil || real.Type != tar.TypeDir || searched[real.Path] {
			continue
		}
		searched[real.Path] = true
		found := make(map[string]bool)
		for _, e := range byDir[real.Path] {
			soname, err := t.soname(e, m)
			if err != nil {
				return nil, err
			}
			if soname == "" || found[soname] || !t.has(real.Path+"/"+soname) {
				continue
			}
			found[soname] = true
			libs = append(libs, ldso.Library{Soname: soname, Path: dir + "/" + soname})
		}
	}
	return libs, nil
}

// children lists the entries of each directory, sorted.
func (t *Tree) children() map[string][]*Entry {
	byDir := make(map[string][]*Entry)
	for _, e := range t.Entries() {
		dir := path.Dir(e.Path)
		byDir[dir] = append(byDir[dir], e)
	}
	return byDir
}

// soname returns the name under which the linker asks for a library, "" when e
// is none for the machine. Only names are looked at that ldconfig looks at.
func (t *Tree) soname(e *Entry, m machine) (string, error) {
	base := path.Base(e.Path)
	named := strings.HasPrefix(base, "lib") || strings.HasPrefix(base, "ld-")
	if !named || !strings.Contains(base, ".so") || e.Type == tar.TypeDir {
		return "", nil
	}
	file, err := t.lookup(e.Path)
	if err != nil || file.Type != tar.TypeReg || file.elf != m {
		return "", nil
	}
	f, err := elf.NewFile(file.content.reader())
	if err != nil {
		return "", fmt.Errorf("/%s: %w", file.Path, err)
	}
	if f.Type != elf.ET_DYN {
		return "", nil
	}
	names, err := f.DynString(elf.DT_SONAME)
	if err != nil {
		return "", fmt.Errorf("/%s: %w", file.Path, err)
	}
	if len(names) == 0 || strings.Contains(names[0], "/") {
		return base, nil
	}
	forBuilding := e.Type == tar.TypeSymlink && strings.HasSuffix(base, ".so") && strings.HasPrefix(names[0], base)
	if forBuilding {
		return base, nil // libx.so for libx.so.1 has an entry of its own
	}
	return names[0], nil
}
