package deb_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// described makes packages of lines "name [version] / control lines; …".
func described(lines ...string) []imgtest.Deb {
	var all []imgtest.Deb
	for _, p := range lines {
		head, control, _ := strings.Cut(p, "/")
		words := strings.Fields(head)
		d := imgtest.Deb{Name: words[0], Arch: "amd64", Compress: "none"}
		if len(words) > 1 {
			d.Version = words[1]
		}
		for line := range strings.SplitSeq(control, ";") {
			if strings.TrimSpace(line) != "" {
				d.Control += strings.TrimSpace(line) + "\n"
			}
		}
		all = append(all, d)
	}
	return all
}

// merged publishes the three suites that a Debian system is made of and reads
// each from its own archive, as it was published.
func merged(t *testing.T, stable, updates, security []string) *deb.Index {
	t.Helper()
	d := imgtest.NewDebian(t, described(stable...)...)
	d.AddSuite(t, "-updates", described(updates...)...)
	s := d.Security(t, described(security...)...)
	var indexes []*deb.Index
	for _, suite := range []struct {
		name string
		at   *imgtest.Debian
	}{{"trixie", d}, {"trixie-updates", d}, {"trixie-security", s}} {
		a := archive(t, suite.at)
		a.Name = deb.ArchiveOf(suite.name)
		read, err := a.Suite(t.Context(), suite.name, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, read.Packages["amd64"])
	}
	return deb.Merge(indexes...)
}

func TestOfSeveralSuitesTheHighestVersionWins(t *testing.T) {
	for name, tt := range map[string]struct {
		stable, updates, security []string
		want                      string // of package aa: version, suite, archive
	}{
		"only in one":                  {[]string{"aa 1"}, nil, nil, "1 trixie debian"},
		"a security update":            {[]string{"aa 1-1"}, nil, []string{"aa 1-1+deb13u1"}, "1-1+deb13u1 trixie-security debian-security"},
		"an update that is newer":      {[]string{"aa 1-1"}, []string{"aa 1-1+deb13u2"}, []string{"aa 1-1+deb13u1"}, "1-1+deb13u2 trixie-updates debian"},
		"security that was overtaken":  {[]string{"aa 1-1+deb13u2"}, nil, []string{"aa 1-1+deb13u1"}, "1-1+deb13u2 trixie debian"},
		"the same everywhere":          {[]string{"aa 1"}, []string{"aa 1"}, []string{"aa 1"}, "1 trixie debian"},
		"an epoch":                     {[]string{"aa 9"}, nil, []string{"aa 1:1"}, "1:1 trixie-security debian-security"},
		"a backport with a tilde":      {[]string{"aa 2-1"}, nil, []string{"aa 2-1~deb13u1"}, "2-1 trixie debian"},
		"numbers, not letters":         {[]string{"aa 1.9"}, []string{"aa 1.10"}, nil, "1.10 trixie-updates debian"},
		"the highest of one suite too": {[]string{"aa 1", "aa 3"}, []string{"aa 2"}, nil, "3 trixie debian"},
	} {
		t.Run(name, func(t *testing.T) {
			ix := merged(t, tt.stable, tt.updates, tt.security)
			p, _ := ix.Lookup("aa")
			if got := p.Version + " " + p.Suite + " " + p.Archive; got != tt.want || ix.Len() != 1 {
				t.Errorf("got %s of %d packages, want %s", got, ix.Len(), tt.want)
			}
		})
	}
}

// A closure is computed over all suites, and never takes back what one replaced.
func TestClosureOfSeveralSuites(t *testing.T) {
	for name, tt := range map[string]struct {
		stable, updates, security []string
		want                      string
	}{
		"an update may need what only security has": {
			[]string{"aa 1"}, []string{"aa 2/Depends: bb"}, []string{"bb 1"}, "aa 2, bb 1"},
		"an essential package in its newest version": {
			[]string{"aa", "sh 1/Essential: yes"}, nil, []string{"sh 1.1/Essential: yes"}, "aa 1.0-1, sh 1.1"},
		"a name that only the old version provided": {
			[]string{"aa/Depends: mail", "ex 1/Provides: mail", "pf/Provides: mail"}, nil, []string{"ex 2"}, "aa 1.0-1, pf 1.0-1"},
		"a version that is still the highest": {
			[]string{"aa/Depends: bb (= 1)", "bb 1"}, nil, []string{"bb 0.9"}, "aa 1.0-1, bb 1"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := merged(t, tt.stable, tt.updates, tt.security).Closure([]string{"aa"})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range all {
				got = append(got, p.Name+" "+p.Version)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	_, err := merged(t, []string{"aa/Depends: mm", "mm/Depends: bb (= 1)", "bb 1"}, nil, []string{"bb 1+deb13u1"}).Closure([]string{"aa"})
	var ue *deb.UnsatisfiedError
	const want = "resolve packages: aa → mm → bb (= 1): bb is 1+deb13u1 in trixie-security"
	if !errors.As(err, &ue) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestMergeOfNothingIsEmpty(t *testing.T) {
	if ix := deb.Merge(); ix.Len() != 0 {
		t.Errorf("got %d packages", ix.Len())
	}
	one := index(t, "aa", "bb")
	if ix := deb.Merge(one); ix.Len() != 2 || ix.Arch != "amd64" {
		t.Errorf("got %d packages for %q", ix.Len(), ix.Arch)
	}
}

func TestOnlyTakesWhatIsNamed(t *testing.T) {
	ix := index(t, "aa/Depends: bb", "bb 1", "bb 2", "sh/Essential: yes", "ex/Provides: mail")
	for install, want := range map[string]string{"": "", "aa": "aa", "bb aa bb": "aa bb", "ex": "ex"} {
		got, err := ix.Only(strings.Fields(install))
		if err != nil || strings.Join(names(got), " ") != want {
			t.Errorf("%s: got %v, %v, want %s", install, names(got), err, want)
		}
	}
	if got, err := ix.Only([]string{"bb (<< 2)"}); err != nil || got[0].Version != "1" {
		t.Errorf("got %+v, %v", got, err)
	}
	for install, want := range map[string]string{
		"zz":        "resolve packages: zz: no package zz for amd64",
		"mail":      "resolve packages: mail: no package mail for amd64",
		"bb (>= 3)": "resolve packages: bb (>= 3): bb is 2 in trixie",
		"aa | bb":   "resolve packages: aa | bb: want one name and no choice",
	} {
		if _, err := ix.Only([]string{install}); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// Each suite stands for itself: what one has lost, the others do not make good.
func TestEachSuiteIsCheckedOnItsOwn(t *testing.T) {
	d := imgtest.NewDebian(t, described("aa")...)
	updates := d.AddSuite(t, "-updates", described("bb")...)
	s := d.Security(t, described("cc")...)
	read := func(from *imgtest.Debian, suite string, now time.Time) error {
		a := archive(t, from)
		a.Now = func() time.Time { return now }
		_, err := a.Suite(t.Context(), suite, "amd64")
		return err
	}
	var expired *deb.ExpiredError
	later := s.ValidUntil.Add(time.Second)
	if err := read(s, "trixie-security", later); !errors.As(err, &expired) || expired.Suite != "trixie-security" {
		t.Errorf("security after a week: got %v", err)
	}
	if err := read(s, "trixie-security", s.ValidUntil); err != nil {
		t.Errorf("security within its week: %v", err)
	}
	for _, suite := range []string{"trixie", "trixie-updates"} {
		if err := read(d, suite, later); err != nil {
			t.Errorf("%s, which has no end: %v", suite, err)
		}
	}
	var m *download.Mismatch
	updates.EditRelease = func(r string) string { return strings.ReplaceAll(r, "-updates", "") }
	d.Publish(t)
	if err := read(d, "trixie-updates", d.Date); !errors.As(err, &m) || m.What != "suite" {
		t.Errorf("another suite under its name: got %v", err)
	}
	if err := read(d, "trixie", d.Date); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
	s.EditRelease = func(r string) string { return strings.ReplaceAll(r, "updates/main", "updates/mainly") }
	s.Publish(t)
	if err := read(s, "trixie-security", s.Date); !errors.As(err, &m) || m.What != "components" {
		t.Errorf("without main: got %v", err)
	}
}

func TestASuiteTellsItsArchive(t *testing.T) {
	for suite, want := range map[string]string{"trixie": deb.Main, "trixie-updates": deb.Main, "trixie-backports": deb.Main, "security": deb.Main,
		"trixie-security": deb.Security, "bookworm-security": deb.Security, "stable-security": deb.Security} {
		if got := deb.ArchiveOf(suite); got != want {
			t.Errorf("%s: got %s, want %s", suite, got, want)
		}
	}
}
