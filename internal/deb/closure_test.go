package deb_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// index publishes an archive of the packages, each "name [version] / control lines",
// and reads it back for amd64.
func index(t *testing.T, packages ...string) *deb.Index {
	t.Helper()
	d := imgtest.NewDebian(t, described(packages...)...)
	s, err := archive(t, d).Suite(t.Context(), "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return s.Packages["amd64"]
}

func TestClosureTakesWhatIsNeeded(t *testing.T) {
	tests := []struct {
		name     string
		packages []string
		install  string
		want     string
	}{
		{"essential packages always", []string{"sh/Essential: yes", "other"}, "", "sh"},
		{"depends and pre-depends, not recommends", []string{"aa/Depends: bb; Pre-Depends: cc; Recommends: dd; Suggests: ee", "bb", "cc", "dd", "ee"}, "aa", "aa bb cc"},
		{"a chain", []string{"aa/Depends: bb", "bb/Depends: cc", "cc"}, "aa", "aa bb cc"},
		{"a circle", []string{"aa/Depends: bb", "bb/Depends: aa"}, "bb", "aa bb"},
		{"the first alternative", []string{"aa/Depends: cc | bb", "bb", "cc"}, "aa", "aa cc"},
		{"the second, when the first is missing", []string{"aa/Depends: zz | bb", "bb"}, "aa", "aa bb"},
		{"the second, when the first is too old", []string{"aa/Depends: cc (>= 2) | bb", "bb", "cc 1.9"}, "aa", "aa bb"},
		{"the second, when it is in the set", []string{"aa/Depends: bb | cc", "bb", "cc"}, "aa cc", "aa cc"},
		{"the second, when another package needs it anyway", []string{"aa/Depends: bb | cc", "bb", "cc", "dd/Depends: ee", "ee/Depends: cc"}, "aa dd", "aa cc dd ee"},
		{"the second, when the first conflicts with the set", []string{"aa/Depends: bb | cc", "bb/Conflicts: sh", "cc", "sh/Essential: yes"}, "aa", "aa cc sh"},
		{"the second, when the set breaks the first", []string{"aa/Depends: bb | cc", "bb", "cc", "sh/Essential: yes; Breaks: bb (<< 2)"}, "aa", "aa cc sh"},
		{"a provider of a virtual package", []string{"aa/Depends: mail", "pf/Provides: mail"}, "aa", "aa pf"},
		{"the provider of highest priority", []string{"aa/Depends: awk", "gawk/Provides: awk", "mawk/Provides: awk; Priority: required"}, "aa", "aa mawk"},
		{"the first provider by name", []string{"aa/Depends: mail", "pf/Provides: mail", "ex/Provides: mail"}, "aa", "aa ex"},
		{"the provider in the set", []string{"aa/Depends: mail", "pf/Provides: mail", "ex/Provides: mail"}, "aa pf", "aa pf"},
		{"a real package before a provider", []string{"aa/Depends: mail", "ex/Provides: mail", "mail"}, "aa", "aa mail"},
		{"a versioned provider", []string{"aa/Depends: mail (>= 2)", "ex/Provides: mail", "pf/Provides: mail (= 2.1)"}, "aa", "aa pf"},
		{"a provider when the real one is too old", []string{"aa/Depends: mail (>= 2)", "mail 1", "pf/Provides: mail (= 2.1)"}, "aa", "aa pf"},
		{"any where it is allowed", []string{"aa/Depends: py:any", "py/Multi-Arch: allowed"}, "aa", "aa py"},
		{"its own architecture by name", []string{"aa/Depends: bb:amd64", "bb"}, "aa", "aa bb"},
		{"native", []string{"aa/Depends: bb:native", "bb"}, "aa", "aa bb"},
		{"the newest of two versions", []string{"aa 1/Depends: old", "aa 10/Depends: new", "aa 9/Depends: old", "new", "old"}, "aa", "aa new"},
		{"an older version where it is asked for", []string{"aa/Depends: bb (<< 2)", "bb 2", "bb 1~"}, "aa", "aa bb"},
		{"a constraint in what is asked for", []string{"aa 2"}, "aa (>= 2~)", "aa"},
		{"a conflict with a name that only it provides", []string{"aa/Provides: mail; Conflicts: mail"}, "aa", "aa"},
		{"a conflict with a version that is not there", []string{"aa/Conflicts: bb (<< 1); Depends: bb", "bb 1"}, "aa", "aa bb"},
		{"a versioned conflict does not mean an unversioned provider", []string{"aa/Conflicts: mail (<< 1)", "ex/Provides: mail"}, "aa ex", "aa ex"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ix := index(t, tt.packages...)
			var install []string
			if strings.Contains(tt.install, "(") {
				install = []string{tt.install}
			} else {
				install = strings.Fields(tt.install)
			}
			got, err := ix.Closure(install)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Join(names(got), " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClosureNamesTheChainToWhatIsMissing(t *testing.T) {
	tests := []struct {
		name     string
		packages []string
		install  string
		want     string
	}{
		{"asked for", nil, "nothing", "resolve packages: nothing: no package nothing for amd64"},
		{"needed", []string{"aa/Depends: bb", "bb/Pre-Depends: cc"}, "aa", "resolve packages: aa → bb → cc: no package cc for amd64"},
		{"too old", []string{"aa/Depends: bb (>= 2)", "bb 1.5"}, "aa", "resolve packages: aa → bb (>= 2): bb is 1.5 in trixie"},
		{"too old, deep down", []string{"aa/Depends: bb", "bb/Depends: cc (>= 2)", "cc 1.9"}, "aa", "resolve packages: aa → bb → cc (>= 2): cc is 1.9 in trixie"},
		{"alternatives", []string{"aa/Depends: bb (= 2) | cc", "bb 1"}, "aa", "resolve packages: aa → bb (= 2) | cc: bb is 1 in trixie, no package cc for amd64"},
		{"provided without a version", []string{"aa/Depends: mail (>= 2)", "ex/Provides: mail"}, "aa", "resolve packages: aa → mail (>= 2): mail is only provided, not in that version or architecture"},
		{"any where it is not allowed", []string{"aa/Depends: bb:any", "bb/Multi-Arch: foreign"}, "aa", "resolve packages: aa → bb:any: bb is not for any architecture (Multi-Arch: foreign)"},
		{"other architecture", []string{"aa/Depends: bb:arm64", "bb"}, "aa", "resolve packages: aa → bb:arm64: bb is not for any architecture (Multi-Arch: no)"},
		{"essential", []string{"sh/Essential: yes; Depends: zz"}, "", "resolve packages: sh → zz: no package zz for amd64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := index(t, tt.packages...).Closure(strings.Fields(tt.install))
			var ue *deb.UnsatisfiedError
			if !errors.As(err, &ue) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestClosureNamesBothPackagesOfAConflict(t *testing.T) {
	for name, tt := range map[string]struct {
		packages []string
		want     string
	}{
		"conflicts":            {[]string{"aa/Conflicts: bb", "bb"}, "aa 1.0-1 and bb 1.0-1 cannot be installed together: Conflicts: bb"},
		"the other way round":  {[]string{"aa", "bb/Conflicts: aa"}, "bb 1.0-1 and aa 1.0-1 cannot be installed together: Conflicts: aa"},
		"breaks":               {[]string{"aa/Breaks: bb (<< 2)", "bb 1.9"}, "aa 1.0-1 and bb 1.9 cannot be installed together: Breaks: bb (<< 2)"},
		"a provided name":      {[]string{"aa/Conflicts: mail", "bb/Provides: mail"}, "aa 1.0-1 and bb 1.0-1 cannot be installed together: Conflicts: mail"},
		"a provided version":   {[]string{"aa/Conflicts: mail (<< 2)", "bb/Provides: mail (= 1)"}, "aa 1.0-1 and bb 1.0-1 cannot be installed together: Conflicts: mail (<< 2)"},
		"two of a kind":        {[]string{"aa/Provides: mail; Conflicts: mail", "bb/Provides: mail; Conflicts: mail"}, "aa 1.0-1 and bb 1.0-1 cannot be installed together: Conflicts: mail"},
		"with a necessary one": {[]string{"aa/Depends: cc", "bb", "cc/Breaks: bb"}, "cc 1.0-1 and bb 1.0-1 cannot be installed together: Breaks: bb"},
		"two versions of one":  {[]string{"aa/Depends: cc (= 1)", "bb/Depends: cc (= 2)", "cc 1", "cc 2"}, "cc 1 and cc 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := index(t, tt.packages...).Closure([]string{"aa", "bb"})
			var ce *deb.ConflictError
			if name == "two versions of one" {
				if !errors.As(err, &ce) || ce.Other != "cc 1" || !strings.Contains(err.Error(), "cc (= 2)") {
					t.Errorf("got %v", err)
				}
				return
			}
			if !errors.As(err, &ce) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestClosureDoesNotDependOnTheOrderOfTheRequest(t *testing.T) {
	ix := index(t, "aa/Depends: mail, xx | yy", "bb/Depends: yy | xx", "cc/Depends: mail", "ex/Provides: mail", "pf/Provides: mail", "xx", "yy", "sh/Essential: yes")
	install := []string{"aa", "bb", "cc"}
	want, err := ix.Closure(install)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		r.Shuffle(len(install), func(i, j int) { install[i], install[j] = install[j], install[i] })
		got, err := ix.Closure(install)
		if diff := cmp.Diff(names(want), names(got)); err != nil || diff != "" {
			t.Fatalf("%v: %v (-want +got):\n%s", install, err, diff)
		}
	}
}

func TestClosureRefusesARequestThatIsNoName(t *testing.T) {
	ix := index(t, "aa")
	for _, bad := range []string{"AA", "aa [amd64]", "aa,", "-y", "aa/trixie", "aa=1"} {
		if _, err := ix.Closure([]string{bad}); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
