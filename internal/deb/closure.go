package deb

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An UnsatisfiedError says which requirement cannot be met, and by which way it
// came into the set.
type UnsatisfiedError struct {
	Chain    []string // packages from the one asked for to the one that requires; empty when it was asked for itself
	Relation string   // "libc6 (>= 2.41)"
	Why      string   // "libc6 is 2.36-9 in bookworm"
}

// Error is one line.
func (e *UnsatisfiedError) Error() string {
	return fmt.Sprintf("resolve packages: %s: %s", strings.Join(append(slices.Clone(e.Chain), e.Relation), " → "), e.Why)
}

// A ConflictError says that two packages of a set may not be installed together.
type ConflictError struct {
	Package  string // the one that says so
	Field    string // "Conflicts" or "Breaks"
	Relation string // "foo (<< 2)"
	Other    string // the one that it means, with its version
}

// Error is one line.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("resolve packages: %s and %s cannot be installed together: %s: %s", e.Package, e.Other, e.Field, e.Relation)
}

// Closure returns the packages that an installation of install consists of,
// sorted by name: the Essential ones, those asked for ("name", or "name (>= 1)"
// in the syntax of Depends), and what all of them require by Depends and
// Pre-Depends. Recommends are not followed.
//
// Of alternatives the first is taken that can be met, unless another one is in
// the set anyway; a virtual package is provided by the one of highest priority,
// then first by name. The result does not depend on the order of install. There
// is no search: where the first choice leads into a conflict, which apt might
// resolve by trying another, the error says so and the other can be asked for.
func (ix *Index) Closure(install []string) ([]Package, error) {
	c := &closure{ix: ix, set: make(map[string]*Package), by: make(map[string]string),
		provided: make(map[string][]provider), parsed: make(map[*Package][]negation)}
	for _, name := range slices.Sorted(maps.Keys(ix.packages)) {
		if p := ix.packages[name][0]; p.Essential {
			if err := c.add(p, ""); err != nil {
				return nil, err
			}
		}
	}
	for _, want := range slices.Sorted(slices.Values(install)) {
		relations, err := parseRelations(want)
		if err != nil {
			return nil, fmt.Errorf("resolve packages: %w", err)
		}
		for _, r := range relations {
			c.todo(wish{relation: r})
		}
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	all := make([]Package, 0, len(c.set))
	for _, name := range slices.Sorted(maps.Keys(c.set)) {
		if err := c.checkConflicts(c.set[name]); err != nil {
			return nil, err
		}
		all = append(all, *c.set[name])
	}
	return all, nil
}

// Only returns the packages that install names, in the syntax of
// [Index.Closure], sorted by name, and nothing of what they require. It is for
// images of which somebody else says what they need. Alternatives and virtual
// packages are refused: nothing is chosen.
func (ix *Index) Only(install []string) ([]Package, error) {
	found := make(map[string]Package)
	for _, want := range install {
		relations, err := parseRelations(want)
		if err != nil {
			return nil, fmt.Errorf("resolve packages: %w", err)
		}
		for _, r := range relations {
			p, err := ix.only(r)
			if err != nil {
				return nil, err
			}
			found[p.Name] = *p
		}
	}
	all := make([]Package, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[name])
	}
	return all, nil
}

// only returns the newest package of the one name in r.
func (ix *Index) only(r Relation) (*Package, error) {
	same := ix.packages[r[0].Name]
	i := slices.IndexFunc(same, func(p *Package) bool { return ix.satisfies(p, p.Version, r[0]) })
	switch {
	case len(r) > 1:
		return nil, &UnsatisfiedError{Relation: r.String(), Why: "want one name and no choice"}
	case len(same) == 0:
		return nil, &UnsatisfiedError{Relation: r.String(), Why: "no package " + r[0].Name + " for " + ix.Arch}
	case i < 0:
		return nil, &UnsatisfiedError{Relation: r.String(), Why: (&closure{ix: ix}).why(r)}
	}
	return same[i], nil
}

// closure is a set that grows until every requirement in it is met.
type closure struct {
	ix       *Index
	set      map[string]*Package
	by       map[string]string       // which package brought this one in, "" for none
	provided map[string][]provider   // what the set's packages provide
	parsed   map[*Package][]negation // what was looked at so far
	plain    []wish                  // to be met by one package: no choice to make
	choices  []wish                  // to be met by one of several
}

// wish is a relation that is still to be met, and the package that has it.
type wish struct {
	of       string
	relation Relation
}

// todo queues a wish.
func (c *closure) todo(w wish) {
	if len(w.relation) == 1 && len(c.ix.packages[w.relation[0].Name]) > 0 {
		c.plain = append(c.plain, w)
		return
	}
	c.choices = append(c.choices, w)
}

// run meets all wishes. Choices wait until nothing else is left: a package that
// is in the set anyway is the best choice, so all of those should be known.
func (c *closure) run() error {
	for len(c.plain)+len(c.choices) > 0 {
		queue := &c.plain
		if len(*queue) == 0 {
			queue = &c.choices
		}
		w := (*queue)[0]
		*queue = (*queue)[1:]
		if err := c.meet(w); err != nil {
			return err
		}
	}
	return nil
}

// meet adds the package that satisfies w, unless the set does so already.
func (c *closure) meet(w wish) error {
	for _, p := range w.relation {
		if c.met(p) {
			return nil
		}
	}
	var fallback *Package
	for _, p := range w.relation {
		for _, candidate := range c.candidates(p) {
			if c.clash(candidate) == nil {
				return c.add(candidate, w.of)
			}
			fallback = cmp.Or(fallback, candidate)
		}
	}
	if fallback != nil {
		return c.add(fallback, w.of) // checkConflicts will name the two
	}
	return &UnsatisfiedError{Chain: c.chain(w.of), Relation: w.relation.String(), Why: c.why(w.relation)}
}

// add puts p into the set and queues what it requires.
func (c *closure) add(p *Package, by string) error {
	if old := c.set[p.Name]; old != nil {
		if old == p {
			return nil
		}
		return &ConflictError{Package: by, Field: "Depends", Relation: p.Name + " (= " + p.Version + ")", Other: old.Name + " " + old.Version}
	}
	c.set[p.Name], c.by[p.Name] = p, by
	for _, r := range p.provides {
		for _, v := range r {
			c.provided[v.Name] = append(c.provided[v.Name], provider{pkg: p, version: offered(v)})
		}
	}
	for _, f := range []struct{ name, value string }{{"Pre-Depends", p.raw.preDepends}, {"Depends", p.raw.depends}} {
		relations, err := parseRelations(f.value)
		if err != nil {
			return fmt.Errorf("resolve packages: %s: %s: %w", p.Name, f.name, err)
		}
		for _, r := range relations {
			c.todo(wish{of: p.Name, relation: r})
		}
	}
	return nil
}

// met reports whether a package of the set satisfies p.
func (c *closure) met(p Possibility) bool {
	if have := c.set[p.Name]; have != nil && c.ix.satisfies(have, have.Version, p) {
		return true
	}
	for _, offer := range c.provided[p.Name] {
		if c.ix.satisfies(offer.pkg, offer.version, p) {
			return true
		}
	}
	return false
}

// candidates returns the packages that would satisfy p, best first: those of
// that name, then those that provide it.
func (c *closure) candidates(p Possibility) []*Package {
	var all []*Package
	for _, have := range c.ix.packages[p.Name] {
		if c.ix.satisfies(have, have.Version, p) {
			all = append(all, have)
		}
	}
	var providing []*Package
	for _, offer := range c.ix.providers[p.Name] {
		if c.ix.satisfies(offer.pkg, offer.version, p) {
			providing = append(providing, offer.pkg)
		}
	}
	slices.SortStableFunc(providing, func(a, b *Package) int {
		return cmp.Or(cmp.Compare(rank(a.Priority), rank(b.Priority)), cmp.Compare(a.Name, b.Name))
	})
	return append(all, providing...)
}

// rank orders priorities, the most important first (Debian Policy 2.5).
func rank(priority string) int {
	order := []string{"required", "important", "standard", "optional", "extra"}
	if i := slices.Index(order, priority); i >= 0 {
		return i
	}
	return len(order)
}

// satisfies reports whether p, offered as the given version ("" when a virtual
// package has none), is what want asks for. The rules for the architecture are
// dpkg's, for a system that has only one.
func (ix *Index) satisfies(p *Package, version string, want Possibility) bool {
	switch want.Arch {
	case "", "native", ix.Arch:
	case "any":
		if p.MultiArch != "allowed" {
			return false
		}
	default:
		return false
	}
	return want.Op == "" || version != "" && want.admits(version)
}

// offered returns the version of an entry of Provides, "" when it has none.
func offered(p Possibility) string {
	if p.Op != "=" { // the only operator that Provides may have
		return ""
	}
	return p.Version
}

// chain returns how the package came into the set, from the one asked for.
func (c *closure) chain(name string) []string {
	var up []string
	for ; name != ""; name = c.by[name] {
		up = append(up, name)
	}
	slices.Reverse(up)
	return up
}

// of says where a package is from, when that is known.
func of(p *Package) string {
	if p.Suite == "" {
		return ""
	}
	return " in " + p.Suite
}

// why says for each alternative what there is instead.
func (c *closure) why(r Relation) string {
	var parts []string
	for _, p := range r {
		same := c.ix.packages[p.Name]
		switch {
		case len(same) == 0 && len(c.ix.providers[p.Name]) == 0:
			parts = append(parts, "no package "+p.Name+" for "+c.ix.Arch)
		case len(same) == 0:
			parts = append(parts, p.Name+" is only provided, not in that version or architecture")
		case p.Op == "" || p.admits(same[0].Version):
			parts = append(parts, p.Name+" is not for any architecture (Multi-Arch: "+cmp.Or(same[0].MultiArch, "no")+")")
		default:
			parts = append(parts, p.Name+" is "+same[0].Version+of(same[0]))
		}
	}
	return strings.Join(parts, ", ")
}
