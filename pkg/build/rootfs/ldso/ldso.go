// Package ldso writes the cache in which the dynamic linker of glibc looks for
// shared libraries: the same bytes that ldconfig(8) writes for them.
package ldso

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Library is a shared library: the name that programs ask for, and where it is.
type Library struct{ Soname, Path string }

// header is struct cache_file_new of glibc's sysdeps/generic/dl-cache.h.
type header struct {
	Magic           [20]byte
	Libraries       uint32
	StringsLength   uint32
	Flags           uint8
	_               [3]byte
	ExtensionOffset uint32
	_               [3]uint32
}

// entry is struct file_entry_new. Key and Value are offsets from the start of the file.
type entry struct {
	Flags, Key, Value uint32
	_                 uint32
	Hwcap             uint64
}

// extension is struct cache_extension with its one section, which says who wrote the file.
type extension struct {
	Magic, Sections          uint32
	Tag, Flags, Offset, Size uint32
}

const (
	magic          = "glibc-ld.so.cache1.1"
	extensionMagic = 0xeaa42174
	littleEndian   = 2
)

// Encode returns the cache of libraries for a machine whose entries have these
// flags. Of several with one name the linker takes the first. generator is what
// ldconfig says of itself.
func Encode(libs []Library, flags uint32, generator string) []byte {
	libs = slices.Clone(libs)
	slices.SortStableFunc(libs, func(a, b Library) int { return Compare(b.Soname, a.Soname) }) // from high to low
	h := header{Libraries: uint32(len(libs)), Flags: littleEndian}
	copy(h.Magic[:], magic)
	base := binary.Size(h) + len(libs)*binary.Size(entry{})
	strs, offsets := table(libs)
	entries := make([]entry, len(libs))
	for i, l := range libs {
		entries[i] = entry{Flags: flags, Key: uint32(base + offsets[l.Soname]), Value: uint32(base + offsets[l.Path])}
	}
	h.StringsLength = uint32(len(strs))
	padding := make([]byte, -(base+len(strs))&3)
	h.ExtensionOffset = uint32(base + len(strs) + len(padding))
	x := extension{Magic: extensionMagic, Sections: 1, Size: uint32(len(generator))}
	x.Offset = h.ExtensionOffset + uint32(binary.Size(x))
	var out bytes.Buffer
	for _, part := range []any{h, entries, []byte(strs), padding, x, []byte(generator)} {
		binary.Write(&out, binary.LittleEndian, part) // a buffer takes all
	}
	return out.Bytes()
}

// table lays the strings out one after the other, each with a NUL. One that is
// the end of the string before it is a part of that (glibc, elf/stringtable.c).
func table(libs []Library) (text string, offsets map[string]int) {
	var all []string
	for _, l := range libs {
		all = append(all, l.Soname, l.Path)
	}
	slices.SortFunc(all, compareEnds)
	var b strings.Builder
	offsets = make(map[string]int)
	before := ""
	for _, s := range slices.Compact(all) {
		if before != "" && strings.HasSuffix(before, s) {
			offsets[s] = offsets[before] + len(before) - len(s)
		} else {
			offsets[s] = b.Len()
			b.WriteString(s + "\x00")
		}
		before = s
	}
	return b.String(), offsets
}

// compareEnds orders strings by their ends, from high to low. So one that is the
// end of another comes after it.
func compareEnds(a, b string) int {
	for i := 1; i <= min(len(a), len(b)); i++ {
		if x, y := a[len(a)-i], b[len(b)-i]; x != y {
			return int(y) - int(x)
		}
	}
	return len(b) - len(a)
}

// Compare orders names as the binary search of the dynamic linker expects them:
// numbers by value (glibc, elf/dl-cache.c, _dl_cache_libcmp).
func Compare(a, b string) int {
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
		case b == "":
			return 1
		case a[0] != b[0]:
			return int(int8(a[0])) - int(int8(b[0]))
		default:
			a, b = a[1:], b[1:]
		}
	}
	return -min(len(b), 1)
}

func isDigit(s string) bool { return s != "" && '0' <= s[0] && s[0] <= '9' }

func number(s string) (n int, rest string) {
	for isDigit(s) {
		n, s = n*10+int(s[0]-'0'), s[1:]
	}
	return n, s
}
