package inspect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// status returns dpkg's status file with the packages, each "name version" or
// "name version state".
func status(packages ...string) string {
	var b strings.Builder
	for _, p := range packages {
		words := append(strings.Fields(p), "installed")
		b.WriteString("Package: " + words[0] + "\nStatus: install ok " + words[2] + "\nMaintainer: x\nArchitecture: amd64\n")
		if words[0] == "libbb" {
			b.WriteString("Multi-Arch: same\n")
		}
		b.WriteString("Version: " + words[1] + "\nDescription: x\n more\n\n")
	}
	return b.String()
}

func TestDatabaseKnowsWhoBroughtWhat(t *testing.T) {
	f := read(t, []item{
		link("bin", "usr/bin"), dir("usr"), dir("usr/bin"), file("usr/bin/a", ""), file("usr/bin/b", ""), file("usr/bin/b.real", ""), file("usr/bin/gone", ""),
		link("usr/bin/pager", "/etc/alternatives/pager"), link("etc/alternatives/pager", "/usr/bin/a"), link("usr/bin/slave", "x"),
		file("var/lib/dpkg/status", status("aa 1", "libbb 2", "removed 1 config-files", "half 3 half-configured", "cc 1")),
		file("var/lib/dpkg/info/aa.list", "/.\n/bin\n/bin/a\n/usr/bin/b\n"),
		file("var/lib/dpkg/info/aa.postinst", ""),
		file("var/lib/dpkg/info/libbb:amd64.list", "/.\n/usr/bin/b\n"),
		file("var/lib/dpkg/info/libbb:amd64.md5sums", ""),
		file("var/lib/dpkg/info/half.list", "/.\n"),
		file("var/lib/dpkg/info/removed.list", "/usr/bin/gone\n"),
		file("var/lib/dpkg/info/stranger.list", "/usr/bin/gone\n"),
		file("var/lib/dpkg/diversions", "/usr/bin/b\n/usr/bin/b.real\nlibbb\n"),
		file("var/lib/dpkg/alternatives/pager", "auto\n/bin/pager\nslave\n/usr/bin/slave\n\n/usr/bin/a\n10\n\n\n"),
	})
	db := f.database()
	for path, want := range map[string]string{
		"/bin": "aa", "/usr/bin/a": "aa", "/usr/bin/b": "libbb", "/usr/bin/b.real": "aa", "/usr/bin/gone": "", "/usr/bin": "",
		"/var/lib/dpkg/info/aa.list": "aa", "/var/lib/dpkg/info/aa.postinst": "aa", "/var/lib/dpkg/info/libbb:amd64.md5sums": "libbb",
		"/var/lib/dpkg/info/stranger.list": "", "/var/lib/dpkg/info/removed.list": "", "/var/lib/dpkg/info/": "",
	} {
		if got := db.owner(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	wantChoices := map[string]bool{"/etc/alternatives/pager": true, "/usr/bin/pager": true, "/etc/alternatives/slave": true, "/usr/bin/slave": true}
	if diff := cmp.Diff(wantChoices, db.choices); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	wantProblems := []problem{
		{"/var/lib/dpkg/status", "half", "package half is half-configured, want installed"},
		{"/var/lib/dpkg/info/cc.list", "cc", "the list of the package's files is missing"},
	}
	if diff := cmp.Diff(wantProblems, db.problems, cmp.AllowUnexported(problem{})); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestDamagedDatabaseIsAProblem(t *testing.T) {
	for name, tt := range map[string]struct{ bad, good item }{
		"status":       {file("var/lib/dpkg/status", "Package: aa\n"), file("var/lib/dpkg/status", "\n"+status("aa 1")+"\n\n")},
		"no state":     {file("var/lib/dpkg/status", strings.Replace(status("aa 1"), " ok", "", 1)), file("var/lib/dpkg/status", "")},
		"list":         {file("var/lib/dpkg/info/aa.list", "usr\n"), file("var/lib/dpkg/info/aa.list", "/usr")},
		"list with ..": {file("var/lib/dpkg/info/aa.list", "/usr/../x\n"), file("var/lib/dpkg/info/aa.list", "/usr/..x\n")},
		"diversions":   {file("var/lib/dpkg/diversions", "/a\n/b\n"), file("var/lib/dpkg/diversions", "/a\n/b\n:\n")},
		"diverted":     {file("var/lib/dpkg/diversions", "/a\nb\nx\n"), file("var/lib/dpkg/diversions", "")},
		"alternative":  {file("var/lib/dpkg/alternatives/x", "auto\n"), file("var/lib/dpkg/alternatives/x", "auto\n/x\n\n")},
		"slave":        {file("var/lib/dpkg/alternatives/x", "auto\n/x\ny\n\n"), file("var/lib/dpkg/alternatives/x", "auto\n/x\ny\n/y\n\n")},
		"slave's link": {file("var/lib/dpkg/alternatives/x", "auto\n/x\ny\ny\n\n"), file("var/lib/dpkg/alternatives/x", "manual\n/x\ny\n/y\n\n")},
	} {
		base := []item{file("var/lib/dpkg/status", status("aa 1")), file("var/lib/dpkg/info/aa.list", "/.\n")}
		for _, i := range []item{tt.bad, tt.good} {
			db := read(t, base, []item{i}).database()
			if bad := i.body == tt.bad.body; bad != (len(db.problems) > 0) {
				t.Errorf("%s: got problems %v", name, db.problems)
			}
		}
	}
}

func FuzzDatabase(f *testing.F) {
	f.Add([]byte(status("aa 1", "libbb 2")), []byte("/.\n/bin\n/bin/a\n"), []byte("/a\n/b\n:\n"), []byte("auto\n/x\ny\n/y\n\n/a\n1\n\n\n"))
	f.Fuzz(func(t *testing.T, packages, list, diverted, alternative []byte) {
		parseStatus(packages)
		names, err := parseList(list)
		for _, n := range names {
			if err == nil && (!strings.HasPrefix(n, "/") || strings.Contains(n, "/../")) {
				t.Errorf("got path %q", n)
			}
		}
		parseDiversions(diverted)
		links, err := parseAlternative("x", alternative)
		for name, link := range links {
			if err == nil && (strings.Contains(name, "/") || !strings.HasPrefix(link, "/")) {
				t.Errorf("got link %q of %q", link, name)
			}
		}
	})
}
