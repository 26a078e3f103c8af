package rootfs

import (
	"fmt"
	"strings"
)

// filter decides which paths of the packages are left out.
type filter struct{ exclude, keep []string }

func newFilter(exclude, keep []string) (*filter, error) {
	for _, list := range [][]string{exclude, keep} {
		for _, glob := range list {
			if err := CheckGlob(glob); err != nil {
				return nil, err
			}
		}
	}
	return &filter{exclude: exclude, keep: keep}, nil
}

// CheckGlob says what is wrong with a glob of [Config], nil for nothing.
func CheckGlob(glob string) error {
	if !strings.HasPrefix(glob, "/") {
		return fmt.Errorf("glob %q: want one that starts with a slash", glob)
	}
	if strings.ContainsAny(glob, "[]\\\x00") {
		return fmt.Errorf("glob %q: only * and ? have a meaning, brackets and backslashes are not supported", glob)
	}
	return nil
}

// drops reports whether the path, which is relative to the root, is left out.
func (f *filter) drops(path string) bool {
	path = "/" + path
	return matchAny(f.exclude, path) && !matchAny(f.keep, path)
}

func matchAny(globs []string, path string) bool {
	for _, g := range globs {
		if match(g, path) {
			return true
		}
	}
	return false
}

// match matches whole paths. A star matches any number of bytes, slashes
// included, as fnmatch(3) without FNM_PATHNAME does. Only the last star seen is
// ever retried, so the time is at most the product of the lengths.
func match(glob, s string) bool {
	star, retry := -1, 0
	g, i := 0, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, retry = g, i
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == s[i]):
			g++
			i++
		case star >= 0:
			retry++
			g, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
