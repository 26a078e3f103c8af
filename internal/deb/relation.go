package deb

import (
	"fmt"
	"strings"

	"pault.ag/go/debian/version"
)

// Relation is one requirement of a package, such as one of Depends: any of the
// alternatives satisfies it.
type Relation []Possibility

// Possibility is one alternative of a relation.
type Possibility struct {
	Name    string
	Arch    string // multi-arch qualifier: "", "any", "native" or an architecture
	Op      string // "<<", "<=", "=", ">=", ">>"; "" for any version
	Version string
}

// String is how messages show it.
func (r Relation) String() string {
	s := make([]string, len(r))
	for i, p := range r {
		s[i] = p.String()
	}
	return strings.Join(s, " | ")
}

// String is how messages show it.
func (p Possibility) String() string {
	s := p.Name
	if p.Arch != "" {
		s += ":" + p.Arch
	}
	if p.Op != "" {
		s += " (" + p.Op + " " + p.Version + ")"
	}
	return s
}

// parseRelations parses the value of a relationship field of a binary package
// (Debian Policy 7.1). Architecture lists and build profiles belong to source
// packages and are refused. An empty value is no relation.
func parseRelations(value string) ([]Relation, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil, nil
	}
	parts := strings.Split(value, ",")
	relations := make([]Relation, 0, len(parts))
	for _, part := range parts {
		alternatives := strings.Split(part, "|")
		r := make(Relation, len(alternatives))
		for j, a := range alternatives {
			p, err := parsePossibility(a)
			if err != nil {
				return nil, err
			}
			r[j] = p
		}
		relations = append(relations, r)
	}
	return relations, nil
}

// parsePossibility parses one "name[:arch] [(op version)]".
func parsePossibility(s string) (Possibility, error) {
	s = strings.TrimSpace(s)
	name, constraint, constrained := strings.Cut(s, "(")
	var p Possibility
	var qualified bool
	p.Name, p.Arch, qualified = strings.Cut(strings.TrimSpace(name), ":")
	if !isName(p.Name) || qualified && !isArch(p.Arch) {
		return Possibility{}, fmt.Errorf("relation %.80q: not a package name", s)
	}
	if !constrained {
		return p, nil
	}
	constraint, ok := strings.CutSuffix(constraint, ")")
	if !ok {
		return Possibility{}, fmt.Errorf("relation %.80q: no closing parenthesis", s)
	}
	number := strings.TrimLeft(constraint, "<=> \t\n")
	p.Op = strings.TrimSpace(constraint[:len(constraint)-len(number)])
	p.Version = strings.TrimSpace(number)
	switch p.Op {
	case "<<", "<=", "=", ">=", ">>":
	case "<", ">":
		p.Op += "=" // what the short forms once meant, and still do to dpkg
	default:
		return Possibility{}, fmt.Errorf("relation %.80q: operator %q is none of << <= = >= >>", s, p.Op)
	}
	if _, err := parseVersion(p.Version); err != nil {
		return Possibility{}, fmt.Errorf("relation %.80q: %w", s, err)
	}
	return p, nil
}

// parseVersion parses a version number and, unlike the library, insists on the
// grammar of Debian Policy 5.6.12 for the parts around "-" and ":".
func parseVersion(s string) (version.Version, error) {
	v, err := version.Parse(s)
	if err != nil {
		return v, fmt.Errorf("version %.80q: %w", s, err)
	}
	if v.Version == "" || strings.HasSuffix(s, "-") || strings.Trim(s, " \t\n") != s || strings.HasPrefix(s, "+") {
		return v, fmt.Errorf("version %.80q: not a version number", s)
	}
	return v, nil
}

// CompareVersions compares as dpkg does: negative when a is older than b. A
// version that is none is older than any that is one.
func CompareVersions(a, b string) int { return compareVersions(a, b) }

// compareVersions compares as dpkg does: negative when a is older than b. Both
// have been parsed before; a version that does not parse is older than any that does.
func compareVersions(a, b string) int {
	va, errA := version.Parse(a)
	vb, errB := version.Parse(b)
	switch {
	case errA != nil && errB != nil:
		return strings.Compare(a, b)
	case errA != nil:
		return -1
	case errB != nil:
		return 1
	}
	return version.Compare(va, vb)
}

// admits reports whether a package of version have satisfies the constraint.
func (p Possibility) admits(have string) bool {
	if p.Op == "" {
		return true
	}
	c := compareVersions(have, p.Version)
	switch p.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}
