package inspect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Package is a Debian package as the lock has it.
type Package struct {
	Name    string
	Version string
	Size    Size // of the package file
	Was     Size // the size in the lock before its last change; 0: it was not there
}

// Grown returns the packages that are larger than before, or new, those that
// grew most first.
func Grown(packages []Package) []Package {
	grown := slices.DeleteFunc(slices.Clone(packages), func(p Package) bool { return p.Size <= p.Was })
	slices.SortFunc(grown, func(a, b Package) int {
		return cmp.Or(cmp.Compare(b.Size-b.Was, a.Size-a.Was), strings.Compare(a.Name, b.Name))
	})
	return grown
}

// Compressed returns what has to be pulled, in bytes: the layers.
func (f *FS) Compressed() Size {
	var n Size
	for _, l := range f.Layers {
		n += Size(l.Compressed)
	}
	return n
}

// Uncompressed returns the size of the layers' tar archives, in bytes.
func (f *FS) Uncompressed() Size {
	var n Size
	for _, l := range f.Layers {
		n += Size(l.Uncompressed)
	}
	return n
}

// named is how many packages a message about the size names.
const named = 5

// size compares the size of the image with its budget.
func (c *check) size() {
	for _, s := range []struct {
		name     string
		got, max Size
	}{
		{"compressed", c.fs.Compressed(), c.gates.MaxSize.Compressed},
		{"uncompressed", c.fs.Uncompressed(), c.gates.MaxSize.Uncompressed},
	} {
		if s.max > 0 && s.got > s.max {
			c.refuse(GateSize, "", "%s size: got %v, want at most %v (%v too much); %s", s.name, s.got, s.max, s.got-s.max, c.why())
		}
	}
}

// why names the packages that grew, and those that are largest.
func (c *check) why() string {
	var grew []string
	for _, p := range Grown(c.want.Packages) {
		if p.Was == 0 {
			grew = append(grew, fmt.Sprintf("%s new %v", p.Name, p.Size))
		} else {
			grew = append(grew, fmt.Sprintf("%s %v → %v", p.Name, p.Was, p.Size))
		}
	}
	text := "largest in the image: " + some(c.largest())
	if len(grew) > 0 {
		text = "grew: " + some(grew) + "; " + text
	}
	return text
}

// largest names the packages, and the files of no package, that take most.
func (c *check) largest() []string {
	type part struct {
		name  string
		bytes int64
	}
	var parts []part
	for _, p := range c.fs.usage(c.db) {
		if p.Name != "" {
			parts = append(parts, part{p.Name, p.Bytes})
		}
	}
	for _, e := range c.fs.entries {
		if e.Size > 0 && e.isFirstName() && c.db.owner(e.Path) == "" {
			parts = append(parts, part{e.Path, e.Size})
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), strings.Compare(a.name, b.name))
	})
	var words []string
	for _, p := range parts[:min(named, len(parts))] {
		words = append(words, fmt.Sprintf("%s %v", p.name, Size(p.bytes)))
	}
	return words
}

// some joins the first of the words, and says how many more there are.
func some(words []string) string {
	if more := len(words) - named; more > 1 {
		words = append(slices.Clone(words[:named]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}
