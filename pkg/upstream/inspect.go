package upstream

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// machines are the ELF machines by the names that Go and OCI give architectures.
var machines = map[string]elf.Machine{
	"386":     elf.EM_386,
	"amd64":   elf.EM_X86_64,
	"arm":     elf.EM_ARM,
	"arm64":   elf.EM_AARCH64,
	"ppc64le": elf.EM_PPC64,
	"riscv64": elf.EM_RISCV,
	"s390x":   elf.EM_S390,
}

// CheckELF reports an error unless the file at path is an ELF program for arch,
// such as "arm64".
func CheckELF(path, arch string) error {
	want, ok := machines[arch]
	if !ok {
		return fmt.Errorf("check %s: architecture %q is not known", filepath.Base(path), arch)
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("check %s: want an ELF program for %s: %w", filepath.Base(path), arch, err)
	}
	defer f.Close()
	if f.Machine != want {
		return fmt.Errorf("check %s: ELF machine: got %v, want %v (%s)", filepath.Base(path), f.Machine, want, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("check %s: ELF type: got %v, want a program", filepath.Base(path), f.Type)
	}
	return nil
}

const (
	scanWindow  = 1 << 20
	scanOverlap = 64 // more than a version and what is around it
	maxReported = 8  // versions that a message lists
)

// stampRE matches a version at the end of a string, with what is before it.
var stampRE = regexp.MustCompile(`(?s)[^0-9A-Za-z.+/@-](v(?:0|[1-9][0-9]{0,2})\.[0-9]{1,3}\.[0-9]{1,3}(?:[-+][0-9A-Za-z.+-]{1,30})?)$`)

// CheckVersion reports an error unless the Go program at path was stamped with
// version. Kubernetes' build sets the version with the linker's -X flag, and the
// linker stores such a string with a NUL behind it, which it does not do for
// strings of the source. The file is read as data and never run; at most a few
// megabytes of it are in memory.
func CheckVersion(path, version string) error {
	found, err := stamps(path, []byte(version+"\x00"))
	if err != nil {
		return fmt.Errorf("check %s: %w", filepath.Base(path), err)
	}
	if found == nil {
		return nil
	}
	if len(found) == 0 {
		found = []string{"none"}
	}
	return fmt.Errorf("check %s: version: got %s, want %s", filepath.Base(path), strings.Join(found, ", "), version)
}

// stamps looks for needle in the file, standing alone. It returns nil when it
// is there, else the versions that are.
func stamps(path string, needle []byte) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hit := false
	err = scan(f, func(window []byte) bool {
		for rest := window; !hit; {
			i := bytes.Index(rest, needle)
			if i < 0 {
				break
			}
			hit = i > 0 && bytes.IndexByte([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+/@-"), rest[i-1]) < 0
			rest = rest[i+1:]
		}
		return !hit
	})
	if err != nil || hit {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	found := []string{}
	err = scan(f, func(window []byte) bool {
		for _, v := range versions(window) {
			if !slices.Contains(found, v) {
				found = append(found, v)
			}
		}
		return len(found) < maxReported
	})
	slices.Sort(found)
	return found, err
}

// versions returns what looks like a stamp in a piece of a file.
func versions(window []byte) (found []string) {
	for start := 0; ; {
		i := bytes.IndexByte(window[start:], 0)
		if i < 0 {
			return found
		}
		// Between two NULs; the first is what a match needs before it.
		s := window[max(0, start-1) : start+i]
		s = s[max(0, len(s)-scanOverlap+1):]
		if start += i + 1; bytes.IndexByte(s, '.') < 0 || bytes.IndexByte(s, 'v') < 0 {
			continue // nearly all of a binary: spare it the pattern
		}
		if m := stampRE.FindSubmatch(s); m != nil {
			found = append(found, string(m[1]))
		}
	}
}

// scan calls fn with overlapping pieces of r until it returns false.
func scan(r io.Reader, fn func(window []byte) bool) error {
	buf := make([]byte, scanOverlap+scanWindow)
	for kept := 0; ; {
		n, err := io.ReadFull(r, buf[kept:])
		window := buf[:kept+n]
		if n > 0 && !fn(window) {
			return nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(buf, window[len(window)-scanOverlap:])
	}
}
