package inspect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Field is a property in which two files can differ.
type Field string

// The fields.
const (
	FieldPresence   Field = "presence"   // only one of the two has the path
	FieldType       Field = "type"       // file, directory, link…; where this differs nothing else is compared
	FieldMode       Field = "mode"       // permissions with setuid, setgid and sticky bits
	FieldOwner      Field = "owner"      // user and group, by number
	FieldTarget     Field = "target"     // of a link, as it is written; of a device its numbers
	FieldContent    Field = "content"    // of a file: its size and digest
	FieldCapability Field = "capability" // the extended attribute security.capability
	FieldAttributes Field = "attributes" // all other extended attributes
	FieldHardLink   Field = "hardLink"   // the first of the names of a file that has several
	FieldTime       Field = "time"       // of the last change; only [Times] compares it
)

var fields = []Field{FieldPresence, FieldType, FieldMode, FieldOwner, FieldTarget, FieldContent,
	FieldCapability, FieldAttributes, FieldHardLink}

// Side is one of two file systems that are compared.
type Side struct {
	Name string // who made it: "layers", "buildkit"
	FS   *FS
}

// Difference is one property in which two file systems differ.
type Difference struct {
	Path  string `json:"path"` // absolute
	Field Field  `json:"field"`
	NameA string `json:"nameA"` // of the sides
	NameB string `json:"nameB"`
	A     string `json:"a,omitempty"` // what it is there; "" when the path is not there, or has no such property
	B     string `json:"b,omitempty"`
}

// String is one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: %s has %s, %s has %s", d.Path, d.Field,
		d.NameA, cmp.Or(d.A, "none"), d.NameB, cmp.Or(d.B, "none"))
}

// Comparison is how two file systems differ.
type Comparison struct {
	Differences []Difference `json:"differences"` // sorted by path, then field; without what is allowed
	Allowed     []Difference `json:"allowed,omitempty"`

	used []bool // which entries of the allow-list have matched
}

// Compare compares two file systems file by file. Times are not compared: see
// [Times]. allow, which may be nil, says what may differ.
func Compare(a, b Side, allow *Allow) Comparison {
	c := Comparison{used: make([]bool, allow.size())}
	for _, d := range differences(a, b, compareEntries) {
		if allow.allows(d, c.used) {
			c.Allowed = append(c.Allowed, d)
		} else {
			c.Differences = append(c.Differences, d)
		}
	}
	return c
}

// Times returns the paths that both have with different times.
func Times(a, b Side) []Difference {
	return differences(a, b, func(x, y *Entry, report func(Field, string, string)) {
		if x != nil && y != nil && !x.Implied && !y.Implied {
			report(FieldTime, x.ModTime.Format(time.RFC3339Nano), y.ModTime.Format(time.RFC3339Nano))
		}
	})
}

// differences returns in what the entries of both sides differ. compare is called
// for every path, with nil for the side that does not have it; what it reports as
// equal is dropped.
func differences(a, b Side, compare func(x, y *Entry, report func(f Field, x, y string))) []Difference {
	var found []Difference
	for _, name := range paths(a.FS, b.FS) {
		compare(a.FS.Entry(name), b.FS.Entry(name), func(f Field, x, y string) {
			if x != y {
				found = append(found, Difference{Path: name, Field: f, NameA: a.Name, NameB: b.Name, A: x, B: y})
			}
		})
	}
	return found
}

// paths returns the paths of both, sorted.
func paths(a, b *FS) []string {
	var all []string
	for _, f := range []*FS{a, b} {
		for _, e := range f.entries {
			all = append(all, e.Path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// compareEntries compares everything but times.
func compareEntries(x, y *Entry, report func(Field, string, string)) {
	switch {
	case x == nil:
		report(FieldPresence, "", y.summary())
		return
	case y == nil:
		report(FieldPresence, x.summary(), "")
		return
	case x.Type != y.Type:
		report(FieldType, x.summary(), y.summary())
		return
	}
	report(FieldMode, x.mode(), y.mode())
	report(FieldOwner, x.owner(), y.owner())
	report(FieldTarget, x.Target, y.Target)
	report(FieldContent, x.content(), y.content())
	report(FieldCapability, x.Capability(), y.Capability())
	report(FieldAttributes, x.otherAttributes(), y.otherAttributes())
	report(FieldHardLink, x.Inode, y.Inode)
}

// summary says what an entry is.
func (e *Entry) summary() string {
	switch e.Type {
	case File:
		return fmt.Sprintf("file of mode %s, %s", e.mode(), e.content())
	case Directory, FIFO:
		return fmt.Sprintf("%s of mode %s", e.Type, e.mode())
	case Symlink:
		return "link to " + e.Target
	}
	return fmt.Sprintf("%s %s", e.Type, e.Target)
}

// content says what is in a file, "" for anything else.
func (e *Entry) content() string {
	if e.Type != File {
		return ""
	}
	return fmt.Sprintf("%d bytes sha256:%s", e.Size, e.SHA256)
}

// otherAttributes are the extended attributes without security.capability.
func (e *Entry) otherAttributes() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
		if name != capability {
			all = append(all, name+"="+e.Attributes[name])
		}
	}
	return strings.Join(all, " ")
}
