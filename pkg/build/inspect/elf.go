package inspect

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ELF is what the kernel and the dynamic linker need to know of a program or library.
type ELF struct {
	Class       elf.Class   `json:"class"`
	Data        elf.Data    `json:"data"` // byte order
	Machine     elf.Machine `json:"machine"`
	Type        elf.Type    `json:"type"`
	Interpreter string      `json:"interpreter,omitempty"` // the dynamic linker; "" for libraries and static programs
	Needed      []string    `json:"needed,omitempty"`
	RPath       string      `json:"rpath,omitempty"`   // as it is written: separated by colons
	RunPath     string      `json:"runpath,omitempty"` // likewise
	SOName      string      `json:"soname,omitempty"`
	// Damage says why the rest is not known, "" for nothing.
	Damage string `json:"damage,omitempty"`
}

// Bounds of what is read of an ELF file.
const (
	maxProgramHeaders = 64 << 10 // bytes; Linux starts no program with more (fs/binfmt_elf.c)
	maxDynamic        = 1 << 20  // bytes; a library that needs a hundred others has 2 KB
	maxNeeded         = 1024     // the largest programs of Debian need about two hundred libraries
	maxString         = 4096     // PATH_MAX, which bounds what can be opened
)

// isELF reports whether a file that starts with head claims to be an ELF file.
func isELF(head []byte) bool { return bytes.HasPrefix(head, []byte(elf.ELFMAG)) }

// elfReader reads an ELF file as the kernel and the dynamic linker do, through its
// program headers. Its sections, which package debug/elf needs, are for other
// tools: they can be missing, or say something else.
type elfReader struct {
	r     io.ReaderAt
	order binary.ByteOrder
	wide  bool // 64 bits
	loads []elf.Prog64
}

// readELF reads an ELF file. When r ends too early the error is [io.EOF] or
// [io.ErrUnexpectedEOF]. What is known by then is returned with any error.
func readELF(r io.ReaderAt) (*ELF, error) {
	x := &elfReader{r: r}
	e := &ELF{}
	programs, err := x.header(e)
	if err != nil {
		return e, err
	}
	var dynamic *elf.Prog64
	for i, p := range programs {
		switch elf.ProgType(p.Type) {
		case elf.PT_INTERP:
			if e.Interpreter, err = x.interpreter(p); err != nil {
				return e, fmt.Errorf("interpreter: %w", err)
			}
		case elf.PT_LOAD:
			x.loads = append(x.loads, p)
		case elf.PT_DYNAMIC:
			dynamic = &programs[i]
		}
	}
	if dynamic == nil {
		return e, nil
	}
	if err := x.dynamic(e, *dynamic); err != nil {
		return e, fmt.Errorf("dynamic section: %w", err)
	}
	return e, nil
}

// header fills in what the file header says and returns the program headers.
func (x *elfReader) header(e *ELF) ([]elf.Prog64, error) {
	ident, err := x.read(0, elf.EI_NIDENT)
	if err != nil {
		return nil, err
	}
	e.Class, e.Data = elf.Class(ident[elf.EI_CLASS]), elf.Data(ident[elf.EI_DATA])
	x.order = binary.LittleEndian
	if e.Data == elf.ELFDATA2MSB {
		x.order = binary.BigEndian
	} else if e.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("byte order %d", e.Data)
	}
	var h elf.Header64
	switch e.Class {
	case elf.ELFCLASS64:
		x.wide = true
		err = x.decode(0, &h)
	case elf.ELFCLASS32:
		var small elf.Header32
		err = x.decode(0, &small)
		h = elf.Header64{Type: small.Type, Machine: small.Machine, Phoff: uint64(small.Phoff), Phentsize: small.Phentsize, Phnum: small.Phnum}
	default:
		err = fmt.Errorf("class %d", e.Class)
	}
	if err != nil {
		return nil, err
	}
	e.Type, e.Machine = elf.Type(h.Type), elf.Machine(h.Machine)
	return x.programs(h)
}

// programs reads the table of program headers.
func (x *elfReader) programs(h elf.Header64) ([]elf.Prog64, error) {
	if h.Phnum == 0 {
		return nil, nil // an object file, or a kernel module
	}
	want := binary.Size(elf.Prog32{})
	if x.wide {
		want = binary.Size(elf.Prog64{})
	}
	if int(h.Phentsize) != want || int(h.Phnum)*want > maxProgramHeaders {
		return nil, fmt.Errorf("%d program headers of %d bytes: want at most %d of %d", h.Phnum, h.Phentsize, maxProgramHeaders/want, want)
	}
	all := make([]elf.Prog64, h.Phnum)
	if x.wide {
		return all, x.decode(h.Phoff, all)
	}
	small := make([]elf.Prog32, h.Phnum)
	if err := x.decode(h.Phoff, small); err != nil {
		return nil, err
	}
	for i, p := range small {
		all[i] = elf.Prog64{Type: p.Type, Off: uint64(p.Off), Vaddr: uint64(p.Vaddr), Filesz: uint64(p.Filesz)}
	}
	return all, nil
}

// interpreter returns the path of the dynamic linker.
func (x *elfReader) interpreter(p elf.Prog64) (string, error) {
	if p.Filesz < 2 || p.Filesz > maxString { // as in Linux
		return "", fmt.Errorf("got %d bytes, want 2 to %d", p.Filesz, maxString)
	}
	name, err := x.read(p.Off, int(p.Filesz))
	if err != nil {
		return "", err
	}
	if name[len(name)-1] != 0 {
		return "", errors.New("no NUL at its end")
	}
	name, _, _ = bytes.Cut(name, []byte{0})
	return string(name), nil
}

// dynamic reads what the dynamic linker is told.
func (x *elfReader) dynamic(e *ELF, p elf.Prog64) error {
	if p.Filesz > maxDynamic {
		return fmt.Errorf("got %d bytes, want at most %d", p.Filesz, maxDynamic)
	}
	data, err := x.read(p.Off, int(p.Filesz))
	if err != nil {
		return err
	}
	var needed []uint64
	one := make(map[elf.DynTag]uint64)
	x.tags(data, func(tag elf.DynTag, value uint64) {
		if tag == elf.DT_NEEDED {
			needed = append(needed, value)
		}
		one[tag] = value
	})
	if len(needed) > maxNeeded {
		return fmt.Errorf("needs %d libraries, want at most %d", len(needed), maxNeeded)
	}
	table := stringTable{x: x, address: one[elf.DT_STRTAB], size: one[elf.DT_STRSZ]}
	for _, offset := range needed {
		e.Needed = append(e.Needed, table.at(offset))
	}
	for _, s := range []struct {
		tag  elf.DynTag
		into *string
	}{{elf.DT_RPATH, &e.RPath}, {elf.DT_RUNPATH, &e.RunPath}, {elf.DT_SONAME, &e.SOName}} {
		if offset, ok := one[s.tag]; ok {
			*s.into = table.at(offset)
		}
	}
	return table.err
}

// tags calls fn for each entry of a dynamic section, up to the one that ends it.
func (x *elfReader) tags(data []byte, fn func(elf.DynTag, uint64)) {
	size := 8
	if x.wide {
		size = 16
	}
	for ; len(data) >= size; data = data[size:] {
		var tag elf.DynTag
		var value uint64
		if x.wide {
			tag, value = elf.DynTag(x.order.Uint64(data)), x.order.Uint64(data[8:])
		} else {
			tag, value = elf.DynTag(x.order.Uint32(data)), uint64(x.order.Uint32(data[4:]))
		}
		if tag == elf.DT_NULL {
			return
		}
		fn(tag, value)
	}
}

// stringTable is where the dynamic section's strings are. It keeps its first error.
type stringTable struct {
	x             *elfReader
	address, size uint64
	err           error
}

// at returns the string at the offset, "" after an error.
func (t *stringTable) at(offset uint64) string {
	if t.err != nil {
		return ""
	}
	var s string
	if s, t.err = t.read(offset); t.err != nil {
		t.err = fmt.Errorf("string at %d: %w", offset, t.err)
	}
	return s
}

func (t *stringTable) read(offset uint64) (string, error) {
	if offset >= t.size {
		return "", fmt.Errorf("outside of a table of %d bytes", t.size)
	}
	start, ok := t.x.fileOffset(t.address)
	if !ok {
		return "", fmt.Errorf("table at address %#x, which is not loaded", t.address)
	}
	buf := make([]byte, min(t.size-offset, maxString))
	n, err := t.x.r.ReadAt(buf, int64(start+offset))
	if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
		return string(buf[:end]), nil
	}
	if err == nil {
		err = fmt.Errorf("no NUL in %d bytes", n)
	}
	return "", err
}

// fileOffset returns where in the file an address is loaded from.
func (x *elfReader) fileOffset(address uint64) (uint64, bool) {
	for _, p := range x.loads {
		if p.Vaddr <= address && address-p.Vaddr < p.Filesz {
			return p.Off + address - p.Vaddr, true
		}
	}
	return 0, false
}

// read returns n bytes from the offset on. n is bounded by the caller.
func (x *elfReader) read(offset uint64, n int) ([]byte, error) {
	buf := make([]byte, n)
	got, err := x.r.ReadAt(buf, int64(offset)) // one above 1<<63 is negative, which is an error
	if got == n {
		return buf, nil
	}
	return nil, err
}

// decode reads a structure of fixed size, or a slice of them, from the offset on.
func (x *elfReader) decode(offset uint64, into any) error {
	data, err := x.read(offset, binary.Size(into))
	if err != nil {
		return err
	}
	_, err = binary.Decode(data, x.order, into)
	return err
}
