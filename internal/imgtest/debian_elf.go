package imgtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// SharedObject returns the smallest ELF shared library that has a SONAME: it is
// enough for what reads headers, such as ldconfig and a check of the machine. arch
// is "amd64" or "arm64".
func SharedObject(arch, soname string) string {
	machine := elf.EM_X86_64
	if arch == "arm64" {
		machine = elf.EM_AARCH64
	}
	const (
		headerSize, progSize, sectSize, dynSize = 64, 56, 64, 16
		dynamicAt                               = headerSize + 2*progSize
		stringsAt                               = dynamicAt + 4*dynSize
	)
	names := "\x00" + soname + "\x00"
	sectNames := "\x00.dynamic\x00.dynstr\x00.shstrtab\x00"
	sectNamesAt := stringsAt + len(names)
	sectionsAt := (sectNamesAt + len(sectNames) + 7) &^ 7
	size := uint64(sectionsAt + 4*sectSize)

	var out bytes.Buffer
	put := func(v any) { binary.Write(&out, binary.LittleEndian, v) } // a bytes.Buffer takes everything
	put(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Shoff: uint64(sectionsAt), Ehsize: headerSize,
		Phentsize: progSize, Phnum: 2, Shentsize: sectSize, Shnum: 4, Shstrndx: 3,
	})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Filesz: size, Memsz: size, Align: 0x1000})
	put(elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R), Off: dynamicAt, Vaddr: dynamicAt, Paddr: dynamicAt,
		Filesz: 4 * dynSize, Memsz: 4 * dynSize, Align: 8})
	for _, d := range []elf.Dyn64{
		{Tag: int64(elf.DT_STRTAB), Val: stringsAt},
		{Tag: int64(elf.DT_STRSZ), Val: uint64(len(names))},
		{Tag: int64(elf.DT_SONAME), Val: 1},
		{Tag: int64(elf.DT_NULL)},
	} {
		put(d)
	}
	out.WriteString(names + sectNames)
	out.Write(make([]byte, sectionsAt-out.Len()))
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_DYNAMIC), Addr: dynamicAt, Off: dynamicAt, Size: 4 * dynSize, Link: 2, Entsize: dynSize, Addralign: 8})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Addr: stringsAt, Off: stringsAt, Size: uint64(len(names)), Addralign: 1})
	put(elf.Section64{Name: 18, Type: uint32(elf.SHT_STRTAB), Off: uint64(sectNamesAt), Size: uint64(len(sectNames)), Addralign: 1})
	return out.String()
}
