package deb_test

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/imgtest"
)

const changes = `tool (1:2.0-1+deb13u2) trixie-security; urgency=high

  * Non-maintainer upload by the Security Team.
  * Fix overflow (CVE-2026-30002, CVE-2026-4111) (Closes: #1234)
  * CVE-2025-99999: not to be read in one's sleep.

 -- Somebody <somebody@debian.invalid>  Mon, 02 Nov 2026 10:00:00 +0100

tool (1:2.0-1+deb13u1) trixie; urgency=medium, binary-only=no

  * d/patches/CVE-2026-30002.patch: first try.

 -- Somebody <somebody@debian.invalid>  Mon, 05 Oct 2026 10:00:00 +0100

tool (1:2.0-1) unstable experimental; urgency=medium

  * New release, fixes CVE-2024-0001.

 -- Somebody <somebody@debian.invalid>  Mon, 05 Oct 2025 10:00:00 +0100

Old Changelog:
tool 0.9: CVE-1999-0001
`

const rebuilt = `tool (1:2.0-1+deb13u2+b2) sid; urgency=low, binary-only=yes

  * Rebuild against what fixes CVE-2026-5555.

 -- amd64 Build Daemon <buildd@debian.invalid>  Mon, 09 Nov 2026 10:00:00 +0100
`

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAChangelogNamesWhatIsNewerThanInstalled(t *testing.T) {
	const doc = "usr/share/doc/tool/"
	debian := imgtest.DebFile{Path: doc + "changelog.Debian.gz", Body: gzipped(t, changes)}
	for name, tt := range map[string]struct {
		files     []imgtest.DebFile
		installed string
		want      string
	}{
		"one version behind":        {[]imgtest.DebFile{debian}, "1:2.0-1+deb13u1", "CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"two versions behind":       {[]imgtest.DebFile{debian}, "1:2.0-1", "CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"older than all":            {[]imgtest.DebFile{debian}, "0.1", "CVE-1999-0001 CVE-2024-0001 CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"up to date":                {[]imgtest.DebFile{debian}, "1:2.0-1+deb13u2", ""},
		"an older epoch":            {[]imgtest.DebFile{debian}, "9.9", "CVE-1999-0001 CVE-2024-0001 CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"a native package":          {[]imgtest.DebFile{{Path: doc + "changelog.gz", Body: gzipped(t, changes)}}, "1:2.0-1+deb13u1", "CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"upstream's is another":     {[]imgtest.DebFile{debian, {Path: doc + "changelog.gz", Body: gzipped(t, strings.ReplaceAll(changes, "CVE-", "CVE-2020-1 and CVE-"))}}, "1:2.0-1+deb13u1", "CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"a rebuild":                 {[]imgtest.DebFile{debian, {Path: doc + "changelog.Debian.amd64.gz", Body: gzipped(t, rebuilt)}}, "1:2.0-1+deb13u2", "CVE-2026-5555"},
		"the rebuild is there":      {[]imgtest.DebFile{debian, {Path: doc + "changelog.Debian.amd64.gz", Body: gzipped(t, rebuilt)}}, "1:2.0-1+deb13u2+b2", ""},
		"an older rebuild":          {[]imgtest.DebFile{debian, {Path: doc + "changelog.Debian.amd64.gz", Body: gzipped(t, rebuilt)}}, "1:2.0-1+deb13u2+b1", "CVE-2026-5555"},
		"not compressed":            {[]imgtest.DebFile{{Path: doc + "changelog.Debian", Body: changes}}, "1:2.0-1+deb13u1", "CVE-2025-99999 CVE-2026-4111 CVE-2026-30002"},
		"another package's":         {[]imgtest.DebFile{{Path: "usr/share/doc/other/changelog.Debian.gz", Body: gzipped(t, changes)}}, "1:2.0-1", ""},
		"in the control archive":    {nil, "1:2.0-1", ""},
		"a link is not followed":    {[]imgtest.DebFile{{Path: doc + "changelog.Debian.gz", Symlink: "../other/changelog.Debian.gz"}}, "1:2.0-1", ""},
		"text without any heading":  {[]imgtest.DebFile{{Path: doc + "changelog.gz", Body: gzipped(t, "Fixed CVE-2026-1111.\n")}}, "1", ""},
		"a heading without version": {[]imgtest.DebFile{{Path: doc + "changelog.gz", Body: gzipped(t, "tool (x y) sid; urgency=low\n  * CVE-2026-1111\n")}}, "1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := imgtest.Deb{Name: "tool", Files: tt.files}
			if name == "in the control archive" {
				d.Members = map[string]string{"usr/share/doc/tool/changelog.gz": gzipped(t, changes)}
			}
			c, err := deb.ReadChangelog(save(t, d.Bytes(t)), "tool")
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.CVEs(tt.installed), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAChangelogMayBeInAnotherPackage(t *testing.T) {
	for target, want := range map[string]string{"libtool1": "libtool1", "./libtool1": "libtool1", "../../share/doc/libtool1": "libtool1", "tool": "", "/": "", "..": ""} {
		d := imgtest.Deb{Name: "tool", Files: []imgtest.DebFile{{Path: "usr/share/doc/tool", Symlink: target}}}
		c, err := deb.ReadChangelog(save(t, d.Bytes(t)), "tool")
		if err != nil || c.At != want || len(c.Entries) != 0 {
			t.Errorf("%s: got %+v, %v", target, c, err)
		}
	}
}

func TestAChangelogIsReadUpToABound(t *testing.T) {
	long := changes + strings.Repeat("  * Much ado about nothing.\n", 1<<20) + "tool (0.1-1) unstable; urgency=low\n  * CVE-1998-0001\n"
	body := gzipped(t, long)
	d := imgtest.Deb{Name: "tool", Files: []imgtest.DebFile{{Path: "usr/share/doc/tool/changelog.Debian.gz", Body: body}}}
	c, err := deb.ReadChangelog(save(t, d.Bytes(t)), "tool")
	if err != nil || len(body) > 1<<20 {
		t.Fatalf("got %v from %d bytes", err, len(body))
	}
	if all := c.CVEs("0"); !slices.Contains(all, "CVE-2024-0001") || slices.Contains(all, "CVE-1998-0001") {
		t.Errorf("got %v", all)
	}
}

func TestADamagedChangelogIsAnError(t *testing.T) {
	body := gzipped(t, changes)
	for name, bad := range map[string]string{"no gzip": "changelog", "cut": body[:len(body)/2], "checksum": body[:len(body)-8] + "\x00\x00\x00\x00" + body[len(body)-4:]} {
		d := imgtest.Deb{Name: "tool", Files: []imgtest.DebFile{{Path: "usr/share/doc/tool/changelog.Debian.gz", Body: bad}}}
		if c, err := deb.ReadChangelog(save(t, d.Bytes(t)), "tool"); err == nil {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

func TestChangesAreKeptInOrder(t *testing.T) {
	d := imgtest.Deb{Name: "tool", Files: []imgtest.DebFile{{Path: "usr/share/doc/tool/changelog.Debian.gz", Body: gzipped(t, changes)}}}
	c, err := deb.ReadChangelog(save(t, d.Bytes(t)), "tool")
	if err != nil {
		t.Fatal(err)
	}
	want := []deb.Change{
		{Version: "1:2.0-1+deb13u2", CVEs: []string{"CVE-2025-99999", "CVE-2026-4111", "CVE-2026-30002"}},
		{Version: "1:2.0-1+deb13u1", CVEs: []string{"CVE-2026-30002"}},
		{Version: "1:2.0-1", CVEs: []string{"CVE-1999-0001", "CVE-2024-0001"}},
	}
	if diff := cmp.Diff(want, c.Entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
