package inspect

import (
	"fmt"
	"slices"

	"github.com/imgctl/imgctl/internal/strict"
)

// AllowKind is the kind of the file that [LoadAllow] reads.
const AllowKind = "ImageComparison"

// Allow says in what two images of one spec may differ. Each entry gives a
// reason, and one that is no longer needed is reported: see [Allow.Stale].
type Allow struct {
	strict.Header `yaml:",inline"`

	Allow []Allowance `yaml:"allow"`
}

// Allowance allows some differences of some paths.
type Allowance struct {
	// Path is a glob as in [Gates].
	Path string `yaml:"path" json:"path"`
	// Fields are those that may differ.
	Fields []Field `yaml:"fields" json:"fields"`
	// Only says that a path may be missing on the other side than this one: the
	// name of a [Side]. "" allows it on both. It is about the field presence.
	Only string `yaml:"only" json:"only,omitempty"`
	// Why is the reason.
	Why string `yaml:"why" json:"why"`
}

// LoadAllow reads an allow-list. Every mistake in it is a [*strict.Error].
func LoadAllow(file string) (*Allow, error) {
	a := &Allow{}
	if err := strict.DecodeFile(file, AllowKind, a); err != nil {
		return nil, err
	}
	if err := a.validate(); err != nil {
		return nil, &strict.Error{File: file, Msg: err.Error()}
	}
	return a, nil
}

func (a *Allow) validate() error {
	for i, w := range a.Allow {
		if err := w.validate(); err != nil {
			return fmt.Errorf("allow[%d]: %w", i, err)
		}
	}
	return nil
}

func (w Allowance) validate() error {
	if err := checkGlob(w.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if w.Why == "" {
		return fmt.Errorf("%s: why: got nothing, want the reason", w.Path)
	}
	if len(w.Fields) == 0 {
		return fmt.Errorf("%s: fields: got none, want some of %v", w.Path, fields)
	}
	for _, f := range w.Fields {
		if !slices.Contains(fields, f) {
			return fmt.Errorf("%s: fields: got %.40q, want some of %v", w.Path, f, fields)
		}
	}
	if w.Only != "" && !slices.Contains(w.Fields, FieldPresence) {
		return fmt.Errorf("%s: only: %.40q without the field presence, which it is about", w.Path, w.Only)
	}
	return nil
}

// Stale returns the entries that matched nothing in any of the comparisons, all
// of which were made with a.
func (a *Allow) Stale(comparisons ...Comparison) []Allowance {
	var stale []Allowance
	for i := range a.size() {
		if !slices.ContainsFunc(comparisons, func(c Comparison) bool { return c.used[i] }) {
			stale = append(stale, a.Allow[i])
		}
	}
	return stale
}

// size returns the number of entries; a nil list has none.
func (a *Allow) size() int {
	if a == nil {
		return 0
	}
	return len(a.Allow)
}

// allows reports whether the difference is allowed, and notes in used by which
// entries it is: by all that match, so that none looks as if it were not needed.
func (a *Allow) allows(d Difference, used []bool) bool {
	allowed := false
	for i := range a.size() {
		if a.Allow[i].allows(d) {
			used[i], allowed = true, true
		}
	}
	return allowed
}

func (w Allowance) allows(d Difference) bool {
	if !slices.Contains(w.Fields, d.Field) || !match(w.Path, d.Path) {
		return false
	}
	if d.Field != FieldPresence || w.Only == "" {
		return true
	}
	has := d.NameA // the side that has the path
	if d.A == "" {
		has = d.NameB
	}
	return has == w.Only
}
