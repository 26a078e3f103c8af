package deb

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxChangelog bounds what is read of a changelog. Those of a node's packages
// have up to 2 MB; the newest entries come first, so a longer one is cut.
const maxChangelog = 8 << 20

// Changelog is what the maintainers of a package say of its versions.
type Changelog struct {
	Entries []Change // in the file's order: newest first
	// At is the package that the documentation directory is a link to. Then there
	// are no entries: the changelog is in that package, of the same source.
	At string
}

// Change is one entry of a changelog: a version.
type Change struct {
	Version string
	CVEs    []string // the "CVE-2026-12345" that the entry names, sorted, each once
}

// ReadChangelog reads the changelog in the package file at file; name is the
// package's. It is empty when there is none.
//
// It is changelog.Debian.gz, or changelog.gz of a package that has no other, in
// usr/share/doc and there the package's name (Debian Policy 12.7). A rebuild
// without new sources has its own entry in changelog.Debian.<arch>.gz.
func ReadChangelog(file, name string) (Changelog, error) {
	dir := "usr/share/doc/" + name
	var debian, native, rebuild []Change
	var at string
	err := Unpack(file, func(m Member) error {
		switch {
		case m.Control:
			return nil
		case m.Header.Name == dir && m.Header.Linkname != "":
			at = path.Base(m.Header.Linkname)
			return nil
		}
		in, base := path.Split(m.Header.Name)
		stem, compressed := strings.CutSuffix(base, ".gz")
		if in != dir+"/" || m.Header.Linkname != "" || !strings.HasPrefix(stem, "changelog") {
			return nil
		}
		entries, err := readChanges(m.Body, compressed)
		switch {
		case stem == "changelog.Debian":
			debian = entries
		case strings.HasPrefix(stem, "changelog.Debian."):
			rebuild = entries
		case stem == "changelog":
			native = entries
		}
		return err
	})
	if err != nil {
		return Changelog{}, err
	}
	if len(debian) == 0 {
		debian = native
	}
	c := Changelog{Entries: slices.Concat(rebuild, debian)}
	if len(c.Entries) == 0 && isName(at) && at != name {
		c.At = at
	}
	return c, nil
}

// readChanges reads one changelog file, up to the bound.
func readChanges(r io.Reader, compressed bool) ([]Change, error) {
	if compressed {
		plain, err := decompress(r, ".gz", maxData)
		if err != nil {
			return nil, err
		}
		defer plain.Close()
		r = plain
	}
	data, err := io.ReadAll(io.LimitReader(r, maxChangelog))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return parseChanges(data), nil
}

// changeHead is the first line of an entry (deb-changelog(5)): the source
// package, its version, where it was uploaded to, and what else there is to say.
var changeHead = regexp.MustCompile(`^[a-z0-9][-+.a-z0-9]+ \(([^() \t]+)\)(?: [-+.0-9A-Za-z]+)+;`)

var cve = regexp.MustCompile(`\bCVE-([0-9]{4})-([0-9]{4,12})\b`)

// parseChanges reads a changelog. It is prose with headings that people have
// written for thirty years: a line that is no heading belongs to the entry above
// it, and what stands before the first belongs to none.
func parseChanges(data []byte) []Change {
	var all []Change
	for line := range bytes.Lines(data) {
		if m := changeHead.FindSubmatch(line); m != nil {
			if _, err := parseVersion(string(m[1])); err == nil {
				all = append(all, Change{Version: string(m[1])})
			}
		}
		if len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		for _, id := range cve.FindAll(line, -1) {
			last.CVEs = append(last.CVEs, string(id))
		}
	}
	for i := range all {
		all[i].CVEs = sortCVEs(all[i].CVEs)
	}
	return all
}

// CVEs returns the vulnerabilities that entries newer than the installed version
// name, sorted by year and number. installed is the version of the source
// package, with the suffix "+b1" of a rebuild if the binary one has it.
func (c Changelog) CVEs(installed string) []string {
	var all []string
	for _, e := range c.Entries {
		if compareVersions(e.Version, installed) > 0 {
			all = append(all, e.CVEs...)
		}
	}
	return sortCVEs(all)
}

// sortCVEs sorts by year, then number, and leaves each once.
func sortCVEs(all []string) []string {
	slices.SortFunc(all, func(a, b string) int {
		yearA, numberA := splitCVE(a)
		yearB, numberB := splitCVE(b)
		return cmp.Or(cmp.Compare(yearA, yearB), cmp.Compare(numberA, numberB), cmp.Compare(a, b))
	})
	return slices.Compact(all)
}

// splitCVE returns year and number of what [cve] has matched.
func splitCVE(id string) (year, number int) {
	m := cve.FindStringSubmatch(id)
	year, _ = strconv.Atoi(m[1]) // digits, and few enough
	number, _ = strconv.Atoi(m[2])
	return year, number
}
