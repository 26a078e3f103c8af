package imgtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Program returns a file that looks like a Go program for arch, "amd64" or
// "arm64", stamped with version as Kubernetes' build does it: an ELF header and
// size bytes that do not compress. Each name has bytes of its own. It does not run.
func Program(name, arch, version string, size int) []byte {
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT),
		Ehsize:  64,
	})
	var seed [32]byte
	copy(seed[:], name+"/"+arch+"/"+version)
	noise := make([]byte, size/2)
	r := rand.NewChaCha8(seed)
	r.Read(noise)
	b.Write(noise)
	fmt.Fprintf(&b, "\x00archive\x00%s\x00archive\x00", version)
	r.Read(noise)
	b.Write(noise)
	return b.Bytes()
}

// WritePrograms writes a kubelet and a kubectl of about size bytes for each arch
// into dir, in the form that [Kube.Binaries] has.
func WritePrograms(dir, version string, size int, arches ...string) (map[string]map[string]string, error) {
	binaries := make(map[string]map[string]string)
	for _, arch := range arches {
		binaries[arch] = make(map[string]string)
		for _, name := range []string{"kubelet", "kubectl"} {
			path := filepath.Join(dir, arch, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(path, Program(name, arch, version, size), 0o755); err != nil {
				return nil, err
			}
			binaries[arch][name] = path
		}
	}
	return binaries, nil
}
