package deb

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRelationsAreParsed(t *testing.T) {
	got, err := parseRelations(" libc6 (>= 2.38),\n aa:any|bb (= 1:2-3) |\tcc:amd64 ( << 4~ ), dd (< 5), ee (>6)")
	if err != nil {
		t.Fatal(err)
	}
	want := []Relation{
		{{Name: "libc6", Op: ">=", Version: "2.38"}},
		{{Name: "aa", Arch: "any"}, {Name: "bb", Op: "=", Version: "1:2-3"}, {Name: "cc", Arch: "amd64", Op: "<<", Version: "4~"}},
		{{Name: "dd", Op: "<=", Version: "5"}},
		{{Name: "ee", Op: ">=", Version: "6"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := want[1].String(); s != "aa:any | bb (= 1:2-3) | cc:amd64 (<< 4~)" {
		t.Errorf("String: %s", s)
	}
	if got, err := parseRelations(" \n "); got != nil || err != nil {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

func TestRelationsThatAreNoneAreRefused(t *testing.T) {
	for _, bad := range []string{
		",", "aa,", ",aa", "aa,,bb", "aa|", "|aa", "aa bb", "AA", "a1_", "a", "aa:", "aa:AMD", "aa (1)", "aa (== 1)", "aa (>= )", "aa (>=)", "aa (>= 1", "aa >= 1)",
		"aa (>= 1) bb", "aa (>= 1) (<< 2)", "aa [amd64]", "aa <!nocheck>", "${misc:Depends}", "aa (>= 1 2)", "aa (>= xx)", "aa (>= 1-)", "a\x00b", strings.Repeat("a", 300),
	} {
		if got, err := parseRelations(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

// The order is that of Debian Policy 5.6.12 and of dpkg --compare-versions.
func TestVersionsCompareAsDpkgDoes(t *testing.T) {
	ascending := []string{"0~", "0-0~1", "0", "0-1", "0.9", "1.0~rc1~git", "1.0~rc1", "1.0~rc1-1", "1.0", "1.0-0.1", "1.0-1~bpo12+1", "1.0-1", "1.0-1+b1",
		"1.0-1+deb13u1", "1.0-1.1", "1.0a", "1.0+dfsg", "1.0.1", "1.2", "1.10", "10", "20250419", "1:0~", "1:0.1", "2:0"}
	for i, a := range ascending {
		for j, b := range ascending {
			got := compareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compare %s with %s: got %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.00"}, {"1.0-0", "1.0"}, {"01", "1"}} {
		if got := compareVersions(same[0], same[1]); got != 0 {
			t.Errorf("compare %s with %s: got %d", same[0], same[1], got)
		}
	}
}

func TestPossibilityAdmitsVersions(t *testing.T) {
	for _, tt := range []struct {
		op   string
		want [3]bool // of 1, 2 and 3 against 2
	}{
		{"<<", [3]bool{true, false, false}},
		{"<=", [3]bool{true, true, false}},
		{"=", [3]bool{false, true, false}},
		{">=", [3]bool{false, true, true}},
		{">>", [3]bool{false, false, true}},
		{"", [3]bool{true, true, true}},
	} {
		for i, have := range []string{"1", "2", "3"} {
			if got := (Possibility{Name: "aa", Op: tt.op, Version: "2"}).admits(have); got != tt.want[i] {
				t.Errorf("%s %s 2: got %t", have, tt.op, got)
			}
		}
	}
}

func TestVersionNumbersThatAreNoneAreRefused(t *testing.T) {
	for _, good := range []string{"1", "1.0-1", "1:2-3", "0", "1.0~~", "1-2-3", "2.0+dfsg-1~bpo"} {
		if _, err := parseVersion(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " ", "1 2", " 1", "a", "1_2", ":1", "1:", "x:1", "-1:1", "+1:1", "1-", "-1", "1-2_3", "1\n"} {
		if _, err := parseVersion(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func FuzzRelations(f *testing.F) {
	for _, s := range []string{"", "a", "aa, bb | cc (>= 1)", "aa:any (= 1:2~3-4)", "aa (< 1), bb(>2)", ",", "(", "aa [x]", "aa (>= 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		relations, err := parseRelations(s)
		if err != nil {
			return
		}
		var parts []string
		for _, r := range relations {
			for _, p := range r {
				if !isName(p.Name) || !p.admits(p.Version) && p.Op != "<<" && p.Op != ">>" {
					t.Fatalf("%q gave %+v", s, p)
				}
			}
			parts = append(parts, r.String())
		}
		again, err := parseRelations(strings.Join(parts, ", "))
		if diff := cmp.Diff(relations, again); err != nil || diff != "" {
			t.Errorf("%v (-first +second):\n%s", err, diff)
		}
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("1.0~rc1", "1.0")
	f.Add("1:0", "0:2-1")
	f.Add("0.0009", "0.9a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, err := parseVersion(a); err != nil {
			return
		}
		if _, err := parseVersion(b); err != nil {
			return
		}
		ab, ba := compareVersions(a, b), compareVersions(b, a)
		if (ab < 0) != (ba > 0) || (ab == 0) != (ba == 0) || compareVersions(a, a) != 0 {
			t.Errorf("compare %q with %q: %d, and back %d", a, b, ab, ba)
		}
	})
}
