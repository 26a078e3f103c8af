package content

import (
	"fmt"
	"path"
	"strings"
)

// CheckPath reports why p cannot be the path of a bundle's file. It must be
// absolute and clean, at most [MaxPath] bytes long, and made of ASCII letters,
// digits and "._@:+,=~-": so no two paths differ only in how a letter is
// composed, none can be taken for an option, and none needs quoting anywhere.
func CheckPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("path is empty")
	case len(p) > MaxPath:
		return fmt.Errorf("path %.40q…: got %d bytes, want at most %d", p, len(p), MaxPath)
	case p[0] != '/':
		return fmt.Errorf("path %q: want an absolute path", p)
	case p == "/" || path.Clean(p) != p:
		return fmt.Errorf("path %q: want a clean path to a file, without //, /./, /../ or a slash at its end", p)
	}
	for segment := range strings.SplitSeq(p[1:], "/") {
		if len(segment) > 255 {
			return fmt.Errorf("path %.40q…: a segment has %d bytes, want at most 255", p, len(segment))
		}
		if segment[0] == '-' {
			return fmt.Errorf("path %q: segment %q starts with a dash", p, segment)
		}
		if i := strings.IndexFunc(segment, forbidden); i >= 0 {
			return fmt.Errorf("path %q: %q is not allowed in a path", p, segment[i])
		}
	}
	return nil
}

func forbidden(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._@:+,=~-", r))
}

// Paths is a set of file paths that can all be created beneath one root, also
// on a file system that ignores case. Make one with make(Paths).
type Paths map[string]entry // by the path in lower case

type entry struct {
	path string // as it was written
	file bool   // else one of the directories above a file
}

// Add adds the file p, for which [CheckPath] holds. It fails for a path that is
// there already, that differs from one only in case, and for one that is both a
// file and a directory above another file (CATALOGUE N09).
func (s Paths) Add(p string) error {
	for i := 1; i < len(p); i++ {
		if p[i] == '/' {
			if err := s.add(entry{path: p[:i]}, p); err != nil {
				return err
			}
		}
	}
	return s.add(entry{path: p, file: true}, p)
}

func (s Paths) add(e entry, p string) error {
	key := strings.ToLower(e.path)
	was, ok := s[key]
	switch {
	case !ok:
		s[key] = e
		return nil
	case was.path != e.path:
		return fmt.Errorf("path %q: %q differs from %q only in case", p, e.path, was.path)
	case was.file && e.file:
		return fmt.Errorf("path %q: listed twice", p)
	case was.file || e.file:
		return fmt.Errorf("path %q: %q is both a file and a directory", p, e.path)
	}
	return nil
}
