package deb_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// An index that a mirror has only half of is not the one that was signed. Of one
// that is empty nothing is known.
func TestATruncatedIndexIsRefused(t *testing.T) {
	for name, keep := range map[string]func(n int) int{
		"half of it":      func(n int) int { return n / 2 },
		"all but a byte":  func(n int) int { return n - 1 },
		"nothing":         func(int) int { return 0 },
		"one byte longer": func(n int) int { return n + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			d := imgtest.SmallDebian(t)
			for _, path := range d.Paths("/binary-amd64/") {
				d.Edit(t, path, func(b []byte) []byte { return append(b, 'x')[:keep(len(b))] })
			}
			_, err := archive(t, d).Suite(t.Context(), "trixie", "amd64")
			var m *download.Mismatch
			if empty := name == "nothing"; errors.As(err, &m) == empty || download.Unreachable(err) != empty {
				t.Errorf("got %v, want a mismatch of the size", err)
			}
			if _, err := archive(t, d).Suite(t.Context(), "trixie", "arm64"); err != nil {
				t.Errorf("the whole one beside it: %v", err)
			}
		})
	}
}

// One that was cut before it was signed breaks off within a package.
func TestAnIndexThatWasSignedTruncatedIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(index string) string
		want string
	}{
		"within the last field": {func(s string) string { return s[:len(s)-20] }, "field SHA256"},
		"before the last field": {func(s string) string { return s[:strings.LastIndex(s, "SHA256: ")] }, "field SHA256"},
		"within the size":       {func(s string) string { return s[:strings.LastIndex(s, "Size: ")+6] }, "field Size"},
		"within a field's name": {func(s string) string { return s[:strings.LastIndex(s, "Filename: ")+4] }, "not a field"},
		"within a relation":     {func(s string) string { return strings.Replace(s, "Provides: awk", "Provides: awk (=", 1) }, "no closing parenthesis"},
	} {
		t.Run(name, func(t *testing.T) {
			d := imgtest.SmallDebian(t)
			d.EditIndex = func(_, index string) string { return tt.edit(index) }
			d.Publish(t)
			if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	d := imgtest.SmallDebian(t)
	d.EditIndex = func(_, index string) string { return strings.TrimRight(index, "\n") }
	d.Publish(t)
	if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Errorf("one without its last newline: %v", err)
	}
}

// A package is as large as the index says, or it is not that package.
func TestAnIndexThatLiesAboutASizeIsNoticed(t *testing.T) {
	for _, by := range []int64{0, 1, -1, 1 << 30} {
		d := imgtest.SmallDebian(t)
		a := archive(t, d)
		s, err := a.Suite(t.Context(), "trixie", "amd64")
		if err != nil {
			t.Fatal(err)
		}
		p, _ := s.Packages["amd64"].Lookup("iptables")
		f := p.File()
		f.Size += by
		_, err = a.Fetch(t.Context(), f)
		var m *download.Mismatch
		if by == 0 && err != nil || by != 0 && (!errors.As(err, &m) || m.What != "size") {
			t.Errorf("%+d bytes: got %v", by, err)
		}
	}
}

// The chain to a requirement that cannot be met goes through virtual packages and alternatives.
func TestAnUnsatisfiableClosureNamesTheWay(t *testing.T) {
	for want, packages := range map[string][]string{
		"aa → ex → lib (>= 2): lib is 1.9 in trixie":                                  {"aa/Depends: mail", "ex/Provides: mail; Depends: lib (>= 2)", "lib 1.9"},
		"aa → bb → cc → zz (= 1.0-1): no package zz for amd64":                        {"aa/Depends: bb | yy", "bb/Pre-Depends: cc", "cc/Depends: zz (= 1.0-1)"},
		"sh → lib (<< 1) | other: lib is 1.0-1 in trixie, no package other for amd64": {"aa", "sh/Essential: yes; Depends: lib (<< 1) | other", "lib"},
	} {
		_, err := index(t, packages...).Closure([]string{"aa"})
		var ue *deb.UnsatisfiedError
		if !errors.As(err, &ue) || err.Error() != "resolve packages: "+want {
			t.Errorf("got  %v\nwant resolve packages: %s", err, want)
		}
	}
}
