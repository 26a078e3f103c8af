package inspect

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
)

// linkerCache is where the dynamic linker finds libraries first. It does not
// read ld.so.conf: a directory that ldconfig(8) has not been in does not count.
const linkerCache = "/etc/ld.so.cache"

// machine is an architecture that an image can be for.
type machine struct {
	class    elf.Class
	data     elf.Data
	id       elf.Machine
	lib      string // what $LIB stands for, with Debian's directories for several architectures
	platform string // what $PLATFORM stands for
}

// machines are the architectures, by the names that Go and OCI have for them.
var machines = map[string]machine{
	"amd64": {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64, "lib/x86_64-linux-gnu", "x86_64"},
	"arm64": {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64, "lib/aarch64-linux-gnu", "aarch64"},
}

// runs reports whether the file is for the machine.
func (m machine) runs(e *ELF) bool {
	return e.Class == m.class && e.Data == m.data && e.Machine == m.id
}

// directories returns where the dynamic linker of Debian looks in the end.
func (m machine) directories() []string {
	return []string{"/" + m.lib, "/usr/" + m.lib, "/lib", "/usr/lib"}
}

// linker finds libraries as ld.so(8) does, without an environment.
type linker struct {
	fs      *FS
	machine machine
	cache   map[string][]string // paths by name
}

// object is a program or library that has been loaded.
type object struct {
	*Entry
	path   string  // under which it was found: $ORIGIN is its directory
	loader *object // what needed it first; nil for the program
}

// missing is a library that is not found.
type missing struct {
	by   *object // what needs it
	name string
}

// load loads root and all that it needs. It returns what it has loaded, and what it has not found.
func (l *linker) load(root *Entry) (loaded []*object, lacks []missing) {
	loaded = []*object{{Entry: root, path: root.Path}}
	known := make(map[string]bool) // names that have been looked for, or are some library's
	have := map[*Entry]bool{root: true}
	for i := 0; i < len(loaded); i++ {
		by := loaded[i]
		for _, name := range by.ELF.Needed {
			if known[name] {
				continue
			}
			known[name] = true
			found := l.find(name, by)
			if found == nil {
				lacks = append(lacks, missing{by, name})
				continue
			}
			known[found.ELF.SOName] = true
			if !have[found.Entry] {
				have[found.Entry] = true
				loaded = append(loaded, found)
			}
		}
	}
	return loaded, lacks
}

// find returns the library that by needs, nil when there is none.
func (l *linker) find(name string, by *object) *object {
	if strings.Contains(name, "/") {
		return l.open(l.expand(name, by), by)
	}
	for _, dir := range l.ownDirectories(by) {
		if o := l.open(path.Join(dir, name), by); o != nil {
			return o
		}
	}
	for _, file := range l.cache[name] {
		if o := l.open(file, by); o != nil {
			return o
		}
	}
	for _, dir := range l.machine.directories() {
		if o := l.open(path.Join(dir, name), by); o != nil {
			return o
		}
	}
	return nil
}

// ownDirectories are those that the files themselves name. RPATH holds for all
// that a file loads, RUNPATH only for what it needs itself, and where there is one, no RPATH counts.
func (l *linker) ownDirectories(by *object) []string {
	if by.ELF.RunPath != "" {
		return l.split(by.ELF.RunPath, by)
	}
	var dirs []string
	for o := by; o != nil; o = o.loader {
		if o.ELF.RunPath == "" {
			dirs = append(dirs, l.split(o.ELF.RPath, o)...)
		}
	}
	return dirs
}

// split returns the directories of a list. Those that are not absolute, and so
// depend on where a program is started, count for nothing.
func (l *linker) split(list string, o *object) []string {
	var dirs []string
	for dir := range strings.SplitSeq(list, ":") {
		if dir = l.expand(dir, o); strings.HasPrefix(dir, "/") {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// expand replaces what ld.so(8) calls dynamic string tokens.
func (l *linker) expand(s string, o *object) string {
	if !strings.Contains(s, "$") {
		return s
	}
	origin := path.Dir(o.path)
	return strings.NewReplacer(
		"$ORIGIN", origin, "${ORIGIN}", origin,
		"$LIB", l.machine.lib, "${LIB}", l.machine.lib,
		"$PLATFORM", l.machine.platform, "${PLATFORM}", l.machine.platform,
	).Replace(s)
}

// open returns the library at the path, nil when there is none that the machine can load.
func (l *linker) open(name string, by *object) *object {
	if !strings.HasPrefix(name, "/") {
		return nil
	}
	e, err := l.fs.Lookup(name)
	if err != nil || e.ELF == nil || e.ELF.Type != elf.ET_DYN || !l.machine.runs(e.ELF) {
		return nil
	}
	return &object{Entry: e, path: name, loader: by}
}

// The parts of ld.so.cache, as glibc's sysdeps/generic/dl-cache.h has them.
const (
	cacheMagic     = "glibc-ld.so.cache1.1"
	cacheHeader    = 48 // bytes
	cacheEntry     = 24
	cacheBigEndian = 3
)

// parseLinkerCache returns the paths of libraries by their names. Libraries for
// particular processors are left out: they are never the only ones.
func parseLinkerCache(data []byte) (map[string][]string, error) {
	if len(data) < cacheHeader || string(data[:len(cacheMagic)]) != cacheMagic {
		return nil, errors.New("not a cache of the dynamic linker of glibc 2.32 or later")
	}
	if data[28] == cacheBigEndian {
		return nil, errors.New("for a big-endian machine")
	}
	count := int64(binary.LittleEndian.Uint32(data[len(cacheMagic):]))
	if count*cacheEntry > int64(len(data)-cacheHeader) {
		return nil, fmt.Errorf("%d entries in %d bytes", count, len(data))
	}
	found := make(map[string][]string)
	length := 0
	for i := range count {
		entry := data[cacheHeader+i*cacheEntry:][:cacheEntry]
		name, nameOK := cString(data, binary.LittleEndian.Uint32(entry[4:]))
		file, fileOK := cString(data, binary.LittleEndian.Uint32(entry[8:]))
		if !nameOK || !fileOK {
			return nil, fmt.Errorf("entry %d: a string that does not end in the file", i)
		}
		// A name is the end of its path, no other strings share bytes.
		if length += len(name) + len(file); length > 2*len(data) {
			return nil, fmt.Errorf("entry %d: strings that overlap", i)
		}
		if binary.LittleEndian.Uint64(entry[16:]) == 0 {
			found[name] = append(found[name], file)
		}
	}
	return found, nil
}

// cString returns the string at the offset, which a NUL ends.
func cString(data []byte, offset uint32) (string, bool) {
	if int64(offset) >= int64(len(data)) {
		return "", false
	}
	s, _, ok := bytes.Cut(data[offset:], []byte{0})
	return string(s), ok
}
