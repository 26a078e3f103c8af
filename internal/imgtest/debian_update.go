package imgtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"testing"
)

// Update returns the packages of d with that name, of every architecture, in
// another version. Their changelog has one entry for it, whose text is reason:
// "Fix CVE-2026-12345.".
func (d *Debian) Update(t testing.TB, name, version, reason string) []Deb {
	t.Helper()
	var all []Deb
	for _, p := range d.Packages {
		if p.Name != name {
			continue
		}
		p.Version = version
		p.Files = slices.Clone(p.Files)
		p.Files = append(p.Files, DebFile{Path: "usr/share/doc/" + name + "/changelog.Debian.gz", Body: changelog(t, name, version, reason)})
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatalf("the test archive has no package %s", name)
	}
	return all
}

// changelog returns a compressed changelog with one entry.
func changelog(t testing.TB, name, version, reason string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := fmt.Fprintf(w, "%s (%s) trixie-security; urgency=medium\n\n  * %s\n\n -- imgctl tests <tests@imgctl.invalid>  %s\n",
		name, version, reason, debTime.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	debMust(t, err)
	debMust(t, w.Close())
	return out.String()
}
