package inspect

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// item is an entry of a layer.
type item struct {
	tar.Header
	body string
}

var built = time.Unix(1780000000, 0).UTC()

func entry(kind byte, name string, mode int64) item {
	return item{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: built, Format: tar.FormatPAX}}
}

func file(name, body string) item {
	i := entry(tar.TypeReg, name, 0o644)
	i.Size, i.body = int64(len(body)), body
	return i
}

func program(name, body string) item { return file(name, body).mode(0o755) }

func dir(name string) item { return entry(tar.TypeDir, name+"/", 0o755) }

func link(name, target string) item {
	i := entry(tar.TypeSymlink, name, 0o777)
	i.Linkname = target
	return i
}

func hardLink(name, target string) item {
	i := entry(tar.TypeLink, name, 0o644)
	i.Linkname = target
	return i
}

func device(kind byte, name string, major, minor int64) item {
	i := entry(kind, name, 0o600)
	i.Devmajor, i.Devminor = major, minor
	return i
}

func (i item) mode(m int64) item {
	i.Mode = m
	return i
}

func (i item) owner(uid, gid int) item {
	i.Uid, i.Gid = uid, gid
	return i
}

func (i item) at(t time.Time) item {
	i.ModTime = t
	return i
}

func (i item) attribute(name, value string) item {
	i.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return i
}

// tarball returns the archive of the items.
func tarball(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		if err := w.WriteHeader(&i.Header); err != nil {
			t.Fatalf("%s: %v", i.Name, err)
		}
		if _, err := w.Write([]byte(i.body)); err != nil {
			t.Fatalf("%s: %v", i.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// image returns an image for amd64 of layers as they are stored.
func image(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	var all []v1.Layer
	for _, data := range layers {
		all = append(all, static.NewLayer(data, types.OCILayer))
	}
	return imageOf(t, all...)
}

func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// read returns the file system of an image with the layers.
func read(t testing.TB, layers ...[]item) *FS {
	t.Helper()
	var all [][]byte
	for _, items := range layers {
		all = append(all, tarball(t, items...))
	}
	f, err := Read(t.Context(), image(t, all...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// paths lists what is in a file system, without the root.
func (f *FS) paths() string {
	var names []string
	for _, e := range f.Entries() {
		if e.Path != "/" {
			names = append(names, e.Path)
		}
	}
	return strings.Join(names, " ")
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// binaryFile returns an ELF file that says what e says, in the fewest bytes. padding
// stands between its head and what the dynamic linker reads, as code does in real ones.
func binaryFile(e ELF, padding int) string {
	var order binary.AppendByteOrder = binary.LittleEndian
	if e.Data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	wide := e.Class == elf.ELFCLASS64
	headerSize, programSize := 52, 32
	if wide {
		headerSize, programSize = 64, 56
	}
	word := func(b []byte, v uint64) []byte {
		if wide {
			return order.AppendUint64(b, v)
		}
		return order.AppendUint32(b, uint32(v))
	}
	strs := "\x00"
	index := func(s string) uint64 {
		strs += s + "\x00"
		return uint64(len(strs) - len(s) - 1)
	}
	var dynamic []byte
	tag := func(t elf.DynTag, v uint64) { dynamic = word(word(dynamic, uint64(t)), v) }
	for _, n := range e.Needed {
		tag(elf.DT_NEEDED, index(n))
	}
	for t, s := range map[elf.DynTag]string{elf.DT_SONAME: e.SOName, elf.DT_RPATH: e.RPath, elf.DT_RUNPATH: e.RunPath} {
		if s != "" {
			tag(t, index(s))
		}
	}
	const programs, address = 3, 0x400000
	at := headerSize + programs*programSize + padding
	interpreter := e.Interpreter + "\x00"
	stringsAt := at + len(interpreter)
	tag(elf.DT_STRTAB, uint64(address+stringsAt))
	tag(elf.DT_STRSZ, uint64(len(strs)))
	tag(elf.DT_NULL, 0)
	dynamicAt := stringsAt + len(strs)
	size := dynamicAt + len(dynamic)

	out := []byte{0x7f, 'E', 'L', 'F', byte(e.Class), byte(e.Data), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	out = order.AppendUint16(out, uint16(e.Type))
	out = order.AppendUint16(out, uint16(e.Machine))
	out = order.AppendUint32(out, 1)
	out = word(word(word(out, 0), uint64(headerSize)), 0)
	out = order.AppendUint32(out, 0)
	for _, v := range []int{headerSize, programSize, programs, 0, 0, 0} {
		out = order.AppendUint16(out, uint16(v))
	}
	for _, p := range []struct {
		kind     elf.ProgType
		at, size int
	}{{elf.PT_LOAD, 0, size}, {elf.PT_INTERP, at, len(interpreter)}, {elf.PT_DYNAMIC, dynamicAt, len(dynamic)}} {
		if p.kind == elf.PT_INTERP && e.Interpreter == "" {
			p.kind = elf.PT_NULL
		}
		out = order.AppendUint32(out, uint32(p.kind))
		if wide {
			out = order.AppendUint32(out, 0) // flags
		}
		out = word(word(word(out, uint64(p.at)), uint64(address+p.at)), 0)
		out = word(word(out, uint64(p.size)), uint64(p.size))
		if !wide {
			out = order.AppendUint32(out, 0)
		}
		out = word(out, 1)
	}
	out = append(out, make([]byte, padding)...)
	return string(out) + interpreter + strs + string(dynamic)
}

// amd64 returns an ELF file for amd64; fill may change it.
func amd64(fill func(*ELF)) string {
	e := ELF{Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Machine: elf.EM_X86_64, Type: elf.ET_DYN}
	if fill != nil {
		fill(&e)
	}
	return binaryFile(e, 0)
}

// library returns a library for amd64.
func library(soname string, needs ...string) string {
	return amd64(func(e *ELF) { e.SOName, e.Needed = soname, needs })
}

const interpreter = "/lib64/ld-linux-x86-64.so.2"

// dynamic returns a program for amd64.
func dynamic(needs ...string) string {
	return amd64(func(e *ELF) { e.Interpreter, e.Needed = interpreter, needs })
}
