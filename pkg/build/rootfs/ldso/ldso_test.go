package ldso

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// decode reads a cache as glibc does, by offsets from its start.
func decode(t *testing.T, cache []byte) (libs []Library, flags []uint32, generator string) {
	t.Helper()
	var h header
	r := bytes.NewReader(cache)
	if err := binary.Read(r, binary.LittleEndian, &h); err != nil || string(h.Magic[:]) != "glibc-ld.so.cache1.1" || h.Flags != 2 {
		t.Fatalf("header %+v, %v", h, err)
	}
	at := func(offset uint32) string {
		s, _, _ := bytes.Cut(cache[offset:], []byte{0})
		return string(s)
	}
	for range h.Libraries {
		var e entry
		if err := binary.Read(r, binary.LittleEndian, &e); err != nil {
			t.Fatal(err)
		}
		libs, flags = append(libs, Library{at(e.Key), at(e.Value)}), append(flags, e.Flags)
	}
	if h.ExtensionOffset%4 != 0 || int(h.ExtensionOffset) < binary.Size(h)+24*len(libs)+int(h.StringsLength) {
		t.Fatalf("extension at %d, strings of %d bytes", h.ExtensionOffset, h.StringsLength)
	}
	var x extension
	if err := binary.Read(bytes.NewReader(cache[h.ExtensionOffset:]), binary.LittleEndian, &x); err != nil || x.Magic != 0xeaa42174 || x.Sections != 1 {
		t.Fatalf("extension %+v, %v", x, err)
	}
	if int(x.Offset+x.Size) != len(cache) {
		t.Fatalf("the section ends at %d, the file at %d", x.Offset+x.Size, len(cache))
	}
	return libs, flags, string(cache[x.Offset:])
}

func TestACacheIsReadAsItWasWritten(t *testing.T) {
	libs := []Library{{"libb.so.1", "/lib/libb.so.1"}, {"liba.so.2", "/usr/local/lib/liba.so.2"}, {"liba.so.10", "/lib/liba.so.10"},
		{"liba.so.2", "/lib/liba.so.2"}}
	got, flags, generator := decode(t, Encode(libs, 0x0303, "ldconfig (test)"))
	want := []Library{libs[0], libs[2], libs[1], libs[3]}
	if !slices.Equal(got, want) || generator != "ldconfig (test)" {
		t.Errorf("got %v by %q, want %v", got, generator, want)
	}
	if !slices.Equal(flags, []uint32{0x0303, 0x0303, 0x0303, 0x0303}) {
		t.Errorf("got flags %x", flags)
	}
	if got, _, _ := decode(t, Encode(nil, 1, "")); len(got) != 0 {
		t.Errorf("got %v of nothing", got)
	}
}

// realCache is what ldconfig of Debian 13 (glibc 2.41) wrote with "ldconfig -r"
// for seven libraries in /lib/t and /lib/u.
const realCache = `
Z2xpYmMtbGQuc28uY2FjaGUxLjEHAAAAdwAAAAIAAABQAQAAAAAAAAAAAAAAAAAAAwMAAO8AAADoAAAAAAAAAAAAAAAAAAAAAwMA
ADMBAAAsAQAAAAAAAAAAAAAAAAAAAwMAADMBAAAbAQAAAAAAAAAAAAAAAAAAAwMAAN8AAADYAAAAAAAAAAAAAAAAAAAAAwMAABEB
AAAKAQAAAAAAAAAAAAAAAAAAAwMAAEQBAAA9AQAAAAAAAAAAAAAAAAAAAwMAAAABAAD5AAAAAAAAAAAAAAAAAAAAL2xpYi90L2xp
YnBjLnNvAC9saWIvdS9saWJ6MTAuc28AL2xpYi90L2xpYmEuc28uOQAvbGliL3QvbGlibS5zby42AC9saWIvdS9saWJ6LnNvLjEA
L2xpYi90L2xpYnouc28uMQAvbGliL3QvbGliYS5zby4xMAAAdCGk6gEAAAAAAAAAAAAAAGgBAABDAAAAbGRjb25maWcgKERlYmlh
biBHTElCQyAyLjQxLTEyK2RlYjEzdTQpIHN0YWJsZSByZWxlYXNlIHZlcnNpb24gMi40MQ==`

func TestTheBytesAreThoseOfLdconfig(t *testing.T) {
	want, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(realCache, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	var libs []Library
	for _, path := range []string{"t/liba.so.10", "t/liba.so.9", "t/libm.so.6", "t/libpc.so", "t/libz.so.1", "u/libz.so.1", "u/libz10.so"} {
		libs = append(libs, Library{path[2:], "/lib/" + path})
	}
	if got := Encode(libs, 0x0303, "ldconfig (Debian GLIBC 2.41-12+deb13u4) stable release version 2.41"); !bytes.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// The order is that of glibc's _dl_cache_libcmp; a binary search relies on it.
func TestNamesAreOrderedAsTheLinkerSearches(t *testing.T) {
	sorted := []string{"lib", "lib-x.so", "libX.so", "liba.so", "liba.so.1", "liba.so.1.9", "liba.so.1.10", "liba.so.2", "libb.so", "libz.so.1", "lib1.so", "lib2.so", "lib10.so"}
	for range 20 {
		shuffled := slices.Clone(sorted)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		slices.SortFunc(shuffled, Compare)
		if !slices.Equal(shuffled, sorted) {
			t.Fatalf("got %q, want %q", shuffled, sorted)
		}
	}
	if Compare("liba.so.01", "liba.so.1") != 0 || Compare("a", "a") != 0 {
		t.Error("equal names differ")
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("libz.so.1 /lib/libz.so.1 libc.so.6 /lib/libc.so.6", "ldconfig")
	f.Add("a b a b", "")
	f.Fuzz(func(t *testing.T, words, generator string) {
		fields := strings.Fields(strings.ReplaceAll(words, "\x00", ""))
		var libs []Library
		for i := 0; i+1 < len(fields); i += 2 {
			libs = append(libs, Library{fields[i], fields[i+1]})
		}
		got, _, by := decode(t, Encode(libs, 1, generator))
		slices.SortStableFunc(libs, func(a, b Library) int { return Compare(b.Soname, a.Soname) })
		if !slices.Equal(got, libs) || by != generator {
			t.Errorf("got %v by %q, want %v by %q", got, by, libs, generator)
		}
	})
}
