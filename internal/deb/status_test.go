package deb_test

import (
	"crypto/md5"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// testdata/odd.status is what dpkg 1.21.22 itself wrote when it installed a
// package with this control file, these conffiles, and "one" and "two" in them.
func TestStatusEntryIsDpkgsOwn(t *testing.T) {
	conffiles, err := deb.ParseConffiles(testdata(t, "odd.conffiles"))
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range []string{"one\n", "", "two\n"} {
		if !conffiles[i].RemoveOnUpgrade {
			conffiles[i].MD5 = fmt.Sprintf("%x", md5.Sum([]byte(body)))
		}
	}
	got, err := deb.StatusEntry(testdata(t, "odd.control"), conffiles...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(testdata(t, "odd.status")), string(got)); diff != "" {
		t.Errorf("(-dpkg +got):\n%s", diff)
	}
}

func TestStatusEntryOfAPlainPackage(t *testing.T) {
	got, err := deb.StatusEntry([]byte("Package: tool\nVersion: 1\nEssential: yes\nMulti-Arch: no\nProvides:\nDescription: a tool\n"))
	want := "Package: tool\nEssential: yes\nStatus: install ok installed\nVersion: 1\nDescription: a tool\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStatusEntryRefusesWhatWouldBreakTheDatabase(t *testing.T) {
	const control = "Package: tool\nVersion: 1\n"
	md5sum := strings.Repeat("0", 32)
	for name, tt := range map[string]struct {
		control   string
		conffiles []deb.Conffile
	}{
		"empty":              {"", nil},
		"no name":            {"Version: 1\n", nil},
		"bad name":           {"Package: a b\nVersion: 1\n", nil},
		"no version":         {"Package: tool\n", nil},
		"two stanzas":        {control + "\n" + control, nil},
		"bad relation":       {control + "Depends: a b\n", nil},
		"no md5":             {control, []deb.Conffile{{Path: "/etc/x"}}},
		"bad md5":            {control, []deb.Conffile{{Path: "/etc/x", MD5: strings.Repeat("x", 32)}}},
		"relative conffile":  {control, []deb.Conffile{{Path: "etc/x", MD5: md5sum}}},
		"line in a conffile": {control, []deb.Conffile{{Path: "/etc/x\nPackage: y", MD5: md5sum}}},
	} {
		if got, err := deb.StatusEntry([]byte(tt.control), tt.conffiles...); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
	if _, err := deb.StatusEntry([]byte(control), deb.Conffile{Path: "/etc/x", MD5: md5sum}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestParseConffiles(t *testing.T) {
	got, err := deb.ParseConffiles([]byte("/etc/a\n\n/etc/b c\nremove-on-upgrade /etc/d\n/etc/last"))
	want := []deb.Conffile{{Path: "/etc/a"}, {Path: "/etc/b c"}, {Path: "/etc/d", RemoveOnUpgrade: true}, {Path: "/etc/last"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"etc/a", "/etc/../passwd", "//etc", "/", "/etc/", "/etc/a\x00", "/etc/\ta", "obsolete /etc/a", "/etc/a\r"} {
		if got, err := deb.ParseConffiles([]byte(bad + "\n")); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestParseControl(t *testing.T) {
	got, err := deb.ParseControl(testdata(t, "odd.control"))
	want := deb.Control{Package: "odd", Version: "0:1.5-1+b2", Arch: "amd64", MultiArch: "same", Source: "odd-source", SourceVersion: "0:1.5-1",
		Maintainer: "Odd Person <odd@imgctl.invalid>", Homepage: "https://odd.imgctl.invalid/"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got.InfoName() != "odd:amd64" {
		t.Errorf("InfoName of a package that is Multi-Arch: same: got %s", got.InfoName())
	}
	other, err := deb.ParseControl([]byte("Package: tool\nVersion: 1\nArchitecture: all\nMulti-Arch: no\n"))
	if err != nil || other.InfoName() != "tool" || other.Source != "tool" || other.SourceVersion != "1" || other.MultiArch != "" {
		t.Errorf("got %+v, %v", other, err)
	}
	for _, bad := range []string{"", "Package: ../x\nVersion: 1\nArchitecture: all\n", "Package: xx\nVersion: 1\n", "Package: xx\nArchitecture: all\n", "Package: xx\nVersion: 1\nArchitecture: all\nSource: ../y\n"} {
		if got, err := deb.ParseControl([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func FuzzStatusEntry(f *testing.F) {
	f.Add(testdata(f, "odd.control"), "/etc/x")
	f.Add([]byte("Package: tool\nVersion: 1\n"), "")
	f.Fuzz(func(t *testing.T, control []byte, conffile string) {
		var conffiles []deb.Conffile
		if conffile != "" {
			conffiles = append(conffiles, deb.Conffile{Path: conffile, MD5: strings.Repeat("0", 32)})
		}
		once, err := deb.StatusEntry(control, conffiles...)
		if err != nil {
			return
		}
		twice, err := deb.StatusEntry(once, conffiles...) // what it wrote is one stanza, and already as it should be
		if diff := cmp.Diff(string(once), string(twice)); err != nil || diff != "" {
			t.Errorf("%v (-once +twice):\n%s", err, diff)
		}
	})
}
