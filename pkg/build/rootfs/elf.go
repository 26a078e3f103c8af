package rootfs

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
)

// elfHead is how much of a file says for which machine it is.
const elfHead = 64

// machine is class, byte order and machine of an ELF file; the zero value is no ELF file.
type machine struct {
	class elf.Class
	data  elf.Data
	id    elf.Machine
}

// machines are the ones that an image can be built for, with the flag of their
// libraries in the linker's cache (glibc, sysdeps/generic/ldconfig.h: the machine's
// bits with FLAG_ELF_LIBC6) and the directories that are searched unasked.
var machines = map[string]struct {
	machine
	flag        uint32
	directories []string
}{
	"amd64": {machine{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64}, 0x0303, systemLibraries("x86_64-linux-gnu")},
	"arm64": {machine{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64}, 0x0a03, systemLibraries("aarch64-linux-gnu")},
}

// systemLibraries are the directories that Debian's ldconfig searches unasked,
// after those of its configuration.
func systemLibraries(triplet string) []string {
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib", "/usr/lib"}
}

// machineOf looks at the first bytes without consuming them.
func machineOf(r *bufio.Reader) machine {
	head, _ := r.Peek(20) // a shorter file is no ELF file
	if len(head) < 20 || string(head[:4]) != elf.ELFMAG {
		return machine{}
	}
	m := machine{class: elf.Class(head[elf.EI_CLASS]), data: elf.Data(head[elf.EI_DATA])}
	order := binary.ByteOrder(binary.LittleEndian)
	if m.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	m.id = elf.Machine(order.Uint16(head[18:]))
	return m
}
