package rootfs

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
)

// library is what the dynamic linker finds under a name.
type library struct{ soname, path string }

// writeLinkerCache does what ldconfig(8) does: it notes where each shared library is.
func (t *Tree) writeLinkerCache(arch string) error {
	m := machines[arch]
	dirs, err := t.linkerDirectories("/etc/ld.so.conf", 0)
	if err != nil {
		return err
	}
	libs, err := t.libraries(append(dirs, m.directories...), m.machine)
	if err != nil {
		return err
	}
	if len(libs) == 0 {
		return nil // nothing here is linked dynamically
	}
	return t.putFile("etc/ld.so.cache", 0o644, encodeCache(libs, m.flag))
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

// libraries finds the shared libraries of the directories, in the order of the
// cache. A directory that is another one by a link is searched once, under the name that
// comes first; of two libraries with one name the one of the earlier directory counts.
func (t *Tree) libraries(dirs []string, m machine) ([]library, error) {
	byDir := t.children()
	var libs []library
	searched, found := make(map[string]bool), make(map[string]bool)
	for _, dir := range dirs {
		real, err := t.lookup(dir)
		if err != nil || real.Type != tar.TypeDir || searched[real.Path] {
			continue
		}
		searched[real.Path] = true
		for _, e := range byDir[real.Path] {
			soname, err := t.soname(e, m)
			if err != nil {
				return nil, err
			}
			if soname == "" || found[soname] || !t.has(real.Path+"/"+soname) {
				continue
			}
			found[soname] = true
			libs = append(libs, library{soname, dir + "/" + soname})
		}
	}
	slices.SortFunc(libs, func(a, b library) int { return compareSonames(b.soname, a.soname) }) // from high to low
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
	return names[0], nil
}

// compareSonames orders names as the dynamic linker's binary search expects
// them: numbers by value (glibc, elf/dl-cache.c, _dl_cache_libcmp).
func compareSonames(a, b string) int {
	for a != "" {
		switch {
		case isDigit(a) && isDigit(b):
			var x, y int
			x, a = number(a)
			y, b = number(b)
			if x != y {
				return x - y
			}
		case isDigit(a):
			return 1
		case isDigit(b):
			return -1
		case b == "" || a[0] != b[0]:
			if b == "" {
				return 1
			}
			return int(int8(a[0])) - int(int8(b[0]))
		default:
			a, b = a[1:], b[1:]
		}
	}
	if b == "" {
		return 0
	}
	return -1
}

func isDigit(s string) bool { return s != "" && '0' <= s[0] && s[0] <= '9' }

func number(s string) (n int, rest string) {
	for isDigit(s) {
		n, s = n*10+int(s[0]-'0'), s[1:]
	}
	return n, s
}

// cacheHeader is struct cache_file_new of glibc's sysdeps/generic/dl-cache.h.
type cacheHeader struct {
	Magic           [20]byte
	Libraries       uint32
	StringsLength   uint32
	Endian          uint8
	_               [3]byte
	ExtensionOffset uint32
	_               [3]uint32
}

// cacheEntry is struct file_entry_new. Key and Value are offsets from the start of the file.
type cacheEntry struct {
	Flags, Key, Value uint32
	_                 uint32
	Hwcap             uint64
}

const cacheMagic = "glibc-ld.so.cache1.1"

// encodeCache writes the libraries in the format that glibc reads since 2.2 and
// Debian's ldconfig writes since glibc 2.32, little endian. The order of libs is kept.
func encodeCache(libs []library, flag uint32) []byte {
	const littleEndian = 2
	h := cacheHeader{Libraries: uint32(len(libs)), Endian: littleEndian}
	copy(h.Magic[:], cacheMagic)
	offset := binary.Size(h) + len(libs)*binary.Size(cacheEntry{})
	var strs bytes.Buffer
	entries := make([]cacheEntry, len(libs))
	for i, l := range libs {
		value := offset + strs.Len()
		strs.WriteString(l.path + "\x00")
		entries[i] = cacheEntry{Flags: flag, Value: uint32(value), Key: uint32(value + len(l.path) - len(l.soname))}
	}
	h.StringsLength = uint32(strs.Len())
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, h)
	binary.Write(&out, binary.LittleEndian, entries)
	out.Write(strs.Bytes())
	return out.Bytes()
}
