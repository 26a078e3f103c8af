package rootfs

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"

	"pault.ag/go/debian/version"
)

// merge lays the packages over each other. A path that two of them have must be
// a directory in both, or one must say that it replaces the other (Debian Policy 7.6.1).
func merge(pkgs []*unpacked) (*Tree, error) {
	t := &Tree{entries: make(map[string]*Entry), aliases: aliases(pkgs), packages: make(map[string]bool)}
	for _, p := range pkgs {
		t.packages[p.Name] = true
		for _, e := range p.entries {
			if e.Type != tar.TypeSymlink || strings.Contains(e.Path, "/") {
				e.Path = t.canonical(e.Path)
			}
			if err := t.add(e); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// aliases finds the links of the merged /usr: /bin, /lib, /lib64, /sbin. Whatever
// package has them, they hold for the paths of all.
func aliases(pkgs []*unpacked) map[string]string {
	found := make(map[string]string)
	for _, p := range pkgs {
		for _, e := range p.entries {
			if e.Type == tar.TypeSymlink && e.Target == "usr/"+e.Path {
				found[e.Path] = e.Target
			}
		}
	}
	return found
}

// add puts an entry of a package into the tree.
func (t *Tree) add(e *Entry) error {
	old, ok := t.entries[e.Path]
	switch {
	case !ok:
		t.entries[e.Path] = e
	case old.Type == tar.TypeDir && e.Type == tar.TypeDir:
		if e.pkg.Name == "base-files" { // its idea of /tmp counts, as in debootstrap, where it comes first
			t.entries[e.Path] = e
		}
	case replaces(e.pkg, old.pkg):
		t.entries[e.Path] = e
	case replaces(old.pkg, e.pkg):
	default:
		return fmt.Errorf("/%s: in package %s and in package %s, and neither replaces the other", e.Path, old.pkg.Name, e.pkg.Name)
	}
	return nil
}

// replaces reports whether a's field Replaces names b.
func replaces(a, b *unpacked) bool {
	for _, relation := range strings.Split(controlField(a.rawControl, "Replaces"), ",") {
		name, constraint, constrained := strings.Cut(strings.TrimSpace(relation), "(")
		name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
		if name != b.Name {
			continue
		}
		if !constrained || admits(strings.TrimSuffix(constraint, ")"), b.Version) {
			return true
		}
	}
	return false
}

// controlField returns the value of a field of a control file, which has been
// parsed before, on one line.
func controlField(control []byte, name string) string {
	var value string
	var inside bool
	for line := range strings.Lines(string(control)) {
		switch {
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			if inside {
				value += " " + strings.TrimSpace(line)
			}
		default:
			key, rest, _ := strings.Cut(line, ":")
			if inside = strings.EqualFold(key, name); inside {
				value = strings.TrimSpace(rest)
			}
		}
	}
	return value
}

// admits reports whether the version meets a constraint such as "<< 2.0-1". One
// that cannot be read admits nothing.
func admits(constraint, have string) bool {
	number := strings.TrimLeft(constraint, "<=> \t\n")
	op := strings.TrimSpace(constraint[:len(constraint)-len(number)])
	v, err := version.Parse(have)
	if err != nil {
		return false
	}
	want, err := version.Parse(strings.TrimSpace(number))
	if err != nil {
		return false
	}
	c := version.Compare(v, want)
	switch op {
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}

// licenses returns the copyright file of each package. A package whose
// documentation is a link to another's has that one's (Debian Policy 12.5).
func licenses(pkgs []*unpacked) map[string][]byte {
	byName := make(map[string][]byte)
	for _, p := range pkgs {
		byName[p.Name] = p.copyright
	}
	found := make(map[string][]byte)
	for _, p := range pkgs {
		text := p.copyright
		if text == nil && p.docLink != "" {
			text = byName[path.Base(p.docLink)]
		}
		if text != nil {
			found[p.Name] = text
		}
	}
	return found
}
