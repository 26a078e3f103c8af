package deb

import (
	"strings"
	"testing"
)

func TestRequirementsAreReadFromTheControlFile(t *testing.T) {
	r, err := ParseRequirements([]byte("Package: aa\nPre-Depends: libc6 (>= 2.38)\nDepends: bb | cc,\n dd:any\nProvides: ee (= 1)\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		got  []Relation
		want string
	}{
		{"Pre-Depends", r.PreDepends, "libc6 (>= 2.38)"},
		{"Depends", r.Depends, "bb | cc, dd:any"},
		{"Provides", r.Provides, "ee (= 1)"},
	} {
		var got []string
		for _, relation := range f.got {
			got = append(got, relation.String())
		}
		if strings.Join(got, ", ") != f.want {
			t.Errorf("%s: got %q, want %q", f.name, got, f.want)
		}
	}
}

func TestRequirementsThatCannotBeReadAreAnErrorThatNamesTheField(t *testing.T) {
	for control, want := range map[string]string{
		"Package: aa\nDepends: bb (?? 1)\n": "Depends",
		"Package: aa\nProvides: ../bb\n":    "Provides",
		"Package: aa\n\nPackage: bb\n":      "parse control file",
	} {
		if r, err := ParseRequirements([]byte(control)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error that names %s", control, r, err, want)
		}
	}
}
