package deb

import (
	"fmt"
	"slices"
)

// negation is one entry of Conflicts or Breaks.
type negation struct {
	field string
	want  Possibility
}

// negations returns what p cannot be installed together with.
func (c *closure) negations(p *Package) ([]negation, error) {
	if all, ok := c.parsed[p]; ok {
		return all, nil
	}
	var all []negation
	for _, f := range []struct{ name, value string }{{"Conflicts", p.raw.conflicts}, {"Breaks", p.raw.breaks}} {
		relations, err := parseRelations(f.value)
		if err != nil {
			return nil, fmt.Errorf("resolve packages: %s: %s: %w", p.Name, f.name, err)
		}
		for _, r := range relations {
			for _, want := range r {
				all = append(all, negation{field: f.name, want: want})
			}
		}
	}
	c.parsed[p] = all
	return all, nil
}

// excludes reports whether n, an entry of p, means other. A package never
// excludes itself: that is how one says to be the only provider of a name.
func (n negation) excludes(ix *Index, p, other *Package) bool {
	if other.Name == p.Name {
		return false
	}
	if other.Name == n.want.Name && ix.satisfiesNegation(other.Version, n.want) {
		return true
	}
	return slices.ContainsFunc(other.provides, func(r Relation) bool {
		return slices.ContainsFunc(r, func(v Possibility) bool {
			return v.Name == n.want.Name && ix.satisfiesNegation(offered(v), n.want)
		})
	})
}

// satisfiesNegation is [Index.satisfies] for a negative relation, where no
// qualifier means any architecture.
func (ix *Index) satisfiesNegation(version string, want Possibility) bool {
	switch want.Arch {
	case "", "any", "native", ix.Arch:
		return want.Op == "" || version != "" && want.admits(version)
	}
	return false
}

// clash returns a conflict between p and a package of the set, in either direction.
func (c *closure) clash(p *Package) error {
	if err := c.checkConflicts(p); err != nil {
		return err
	}
	for _, other := range c.set {
		negations, err := c.negations(other)
		if err != nil {
			return err
		}
		for _, n := range negations {
			if n.excludes(c.ix, other, p) {
				return conflict(other, n, p)
			}
		}
	}
	return nil
}

// checkConflicts returns the first entry of p's Conflicts and Breaks that
// means a package of the set.
func (c *closure) checkConflicts(p *Package) error {
	negations, err := c.negations(p)
	if err != nil {
		return err
	}
	for _, n := range negations {
		if other := c.set[n.want.Name]; other != nil && n.excludes(c.ix, p, other) {
			return conflict(p, n, other)
		}
		for _, offer := range c.provided[n.want.Name] {
			if n.excludes(c.ix, p, offer.pkg) {
				return conflict(p, n, offer.pkg)
			}
		}
	}
	return nil
}

func conflict(p *Package, n negation, other *Package) error {
	return &ConflictError{Package: p.Name + " " + p.Version, Field: n.field, Relation: n.want.String(), Other: other.Name + " " + other.Version}
}
