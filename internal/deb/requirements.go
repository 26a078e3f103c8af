package deb

import "fmt"

// Requirements are what a package needs before it can be unpacked and before it
// can be configured, and the names that it stands for.
type Requirements struct {
	PreDepends []Relation
	Depends    []Relation
	Provides   []Relation // of one possibility each
}

// ParseRequirements reads the relationships in the control file of a package.
func ParseRequirements(control []byte) (Requirements, error) {
	s, err := onlyStanza(control)
	if err != nil {
		return Requirements{}, fmt.Errorf("parse control file: %w", err)
	}
	var r Requirements
	for _, f := range []struct {
		name string
		into *[]Relation
	}{
		{"Pre-Depends", &r.PreDepends},
		{"Depends", &r.Depends},
		{"Provides", &r.Provides},
	} {
		if *f.into, err = parseRelations(s.get(f.name)); err != nil {
			return Requirements{}, fmt.Errorf("parse control file: %s: %w", f.name, err)
		}
	}
	return r, nil
}
