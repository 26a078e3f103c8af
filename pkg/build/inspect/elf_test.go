package inspect

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestELFIsReadOfEveryClassAndByteOrder(t *testing.T) {
	for _, class := range []elf.Class{elf.ELFCLASS32, elf.ELFCLASS64} {
		for _, data := range []elf.Data{elf.ELFDATA2LSB, elf.ELFDATA2MSB} {
			want := ELF{Class: class, Data: data, Machine: elf.EM_AARCH64, Type: elf.ET_DYN, Interpreter: "/lib/ld.so",
				Needed: []string{"libb.so.1", "liba.so.2"}, RPath: "/r:$ORIGIN", RunPath: "/run/path", SOName: "libx.so.3"}
			got, err := readELF(strings.NewReader(binaryFile(want, 100)))
			if diff := cmp.Diff(&want, got); err != nil || diff != "" {
				t.Errorf("%v, %v: %v; want (-), got (+):\n%s", class, data, err, diff)
			}
		}
	}
}

// TestReaderAgreesWithDebugELF reads programs of this machine, as far as there are any.
func TestReaderAgreesWithDebugELF(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{self, "/bin/sh", "/usr/bin/env", "/bin/bash"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // not every machine has each
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Skipf("%s: %v", name, err)
		}
		got, err := readELF(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &ELF{Class: f.Class, Data: f.Data, Machine: f.Machine, Type: f.Type}
		if f.Section(".dynamic") != nil {
			if want.Needed, err = f.ImportedLibraries(); err != nil {
				t.Fatal(err)
			}
			for tag, to := range map[elf.DynTag]*string{elf.DT_SONAME: &want.SOName, elf.DT_RUNPATH: &want.RunPath, elf.DT_RPATH: &want.RPath} {
				if all, err := f.DynString(tag); err == nil && len(all) > 0 {
					*to = all[0]
				}
			}
		}
		if s := f.Section(".interp"); s != nil {
			text, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			want.Interpreter = strings.TrimRight(string(text), "\x00")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

func TestDamagedELFIsKept(t *testing.T) {
	good := dynamic("libc.so.6")
	patch := func(at int, b ...byte) string {
		p := []byte(good)
		copy(p[at:], b)
		return string(p)
	}
	for name, tt := range map[string]struct{ body, damage string }{
		"whole":             {good, ""},
		"only the magic":    {good[:4], "EOF"},
		"cut in the header": {good[:50], "EOF"},
		"cut at the end":    {good[:len(good)-60], "interpreter: EOF|dynamic section: EOF"},
		"class":             {patch(elf.EI_CLASS, 7), "class 7"},
		"byte order":        {patch(elf.EI_DATA, 7), "byte order 7"},
		"program headers":   {patch(54, 1), "3 program headers of 1 bytes"},
		"too many of them":  {patch(56, 0xff, 0xff), "65535 program headers"},
		"far away":          {patch(32, 0, 0, 0, 0, 0, 0, 0, 0xff), "negative offset"},
	} {
		e := read(t, []item{program("x", tt.body)}).Entry("/x")
		if e.ELF == nil || !slices.ContainsFunc(strings.Split(tt.damage, "|"), func(s string) bool { return strings.Contains(e.ELF.Damage, s) }) ||
			tt.damage == "" && e.ELF.Damage != "" {
			t.Errorf("%s: got %+v, want damage %q", name, e.ELF, tt.damage)
		}
		if e.SHA256 != sum(tt.body) {
			t.Errorf("%s: got another digest", name)
		}
	}
}

func TestStringsOfELFAreBounded(t *testing.T) {
	many := make([]string, maxNeeded)
	for i := range many {
		many[i] = "l"
	}
	if e, err := readELF(strings.NewReader(dynamic(many...))); err != nil || len(e.Needed) != maxNeeded {
		t.Errorf("%d libraries: %v", maxNeeded, err)
	}
	if _, err := readELF(strings.NewReader(dynamic(append(many, "l")...))); err == nil {
		t.Errorf("%d libraries: got no error", maxNeeded+1)
	}
	if _, err := readELF(strings.NewReader(dynamic(strings.Repeat("l", maxString-1)))); err != nil {
		t.Errorf("long name: %v", err)
	}
	if _, err := readELF(strings.NewReader(dynamic(strings.Repeat("l", maxString)))); err == nil {
		t.Error("longer name: got no error")
	}
}

// TestLargeProgramsAreReadFromDisk has files that fit into the head, into memory, and into neither.
func TestLargeProgramsAreReadFromDisk(t *testing.T) {
	want := ELF{Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Machine: elf.EM_X86_64, Type: elf.ET_EXEC, Interpreter: "/ld", Needed: []string{"libx"}}
	var items []item
	bodies := make(map[string]string)
	for name, padding := range map[string]int{"head": 0, "memory": 1 << 20, "disk": spoolMemory + 1, "disk2": spoolMemory + 4096, "memory2": 70000} {
		bodies[name] = binaryFile(want, padding)
		items = append(items, program(name, bodies[name]))
	}
	f := read(t, items)
	for name, body := range bodies {
		e := f.Entry("/" + name)
		if diff := cmp.Diff(&want, e.ELF); diff != "" || e.SHA256 != sum(body) {
			t.Errorf("%s: digest %s; want (-), got (+):\n%s", name, e.SHA256, diff)
		}
	}
}

func FuzzELF(f *testing.F) {
	f.Add([]byte(dynamic("liba", "libb")))
	f.Add([]byte(library("libx.so.1", "libc.so.6")))
	f.Add([]byte(binaryFile(ELF{Class: elf.ELFCLASS32, Data: elf.ELFDATA2MSB, Machine: elf.EM_PPC, Type: elf.ET_EXEC, RPath: "/x"}, 8)))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := readELF(bytes.NewReader(data))
		if e == nil {
			t.Fatal("got nothing")
		}
		if err != nil {
			return
		}
		for _, s := range append(e.Needed, e.Interpreter, e.RPath, e.RunPath, e.SOName) {
			if strings.ContainsRune(s, 0) || !bytes.Contains(data, []byte(s)) {
				t.Errorf("got %q, which is not in the file", s)
			}
		}
	})
}

// linkerCacheOf returns a cache of the dynamic linker with the libraries, each a
// path or, for a particular processor, a path after a plus sign.
func linkerCacheOf(paths ...string) string {
	out := append([]byte(cacheMagic), make([]byte, cacheHeader-len(cacheMagic))...)
	binary.LittleEndian.PutUint32(out[20:], uint32(len(paths)))
	strs := ""
	for _, p := range paths {
		p, special := strings.CutPrefix(p, "+")
		at := cacheHeader + cacheEntry*len(paths) + len(strs)
		e := make([]byte, cacheEntry)
		binary.LittleEndian.PutUint32(e[4:], uint32(at+strings.LastIndex(p, "/")+1))
		binary.LittleEndian.PutUint32(e[8:], uint32(at))
		if special {
			e[16] = 1
		}
		out = append(out, e...)
		strs += p + "\x00"
	}
	return string(out) + strs
}

func TestLinkerCacheIsRead(t *testing.T) {
	got, err := parseLinkerCache([]byte(linkerCacheOf("/usr/lib/a/liba.so.1", "/opt/liba.so.1", "+/hw/liba.so.1", "/lib/libb.so")))
	want := map[string][]string{"liba.so.1": {"/usr/lib/a/liba.so.1", "/opt/liba.so.1"}, "libb.so": {"/lib/libb.so"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; want (-), got (+):\n%s", err, diff)
	}
	good := linkerCacheOf("/lib/libb.so")
	patch := func(at int, b byte) string { return good[:at] + string([]byte{b}) + good[at+1:] }
	for name, bad := range map[string]string{
		"empty": "", "short": good[:40], "magic": patch(19, '2'), "big-endian": patch(28, cacheBigEndian),
		"count": patch(20, 3), "string outside": patch(cacheHeader+4, 200), "no end": good[:len(good)-1],
	} {
		if _, err := parseLinkerCache([]byte(bad)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	// Every entry has the same long path: more text than the file could hold.
	many := slices.Repeat([]string{"/lib/" + strings.Repeat("x", 100)}, 50)
	shared := []byte(linkerCacheOf(many...))
	for i := range many {
		copy(shared[cacheHeader+i*cacheEntry:], shared[cacheHeader:cacheHeader+cacheEntry])
	}
	shared = append(shared[:cacheHeader+cacheEntry*len(many)], shared[cacheHeader+cacheEntry*len(many):][:106]...)
	if _, err := parseLinkerCache(shared); err == nil {
		t.Error("shared strings: got no error")
	}
}

func FuzzLinkerCache(f *testing.F) {
	f.Add([]byte(linkerCacheOf("/usr/lib/a/liba.so.1", "+/hw/liba.so.1")))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := parseLinkerCache(data)
		if err != nil {
			return
		}
		length := 0
		for name, paths := range found {
			for _, p := range paths {
				length += len(name) + len(p)
			}
		}
		if length > 2*len(data) {
			t.Errorf("got %d bytes of %d", length, len(data))
		}
	})
}
