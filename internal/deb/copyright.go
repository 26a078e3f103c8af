package deb

import (
	"bytes"
	"io"
	"regexp"
	"slices"
	"strings"
)

// maxCopyright bounds a copyright file; the largest of a node's packages has 200 KB.
const maxCopyright = 4 << 20

// License returns the SPDX expression for everything that a machine-readable
// debian/copyright file covers (copyright-format 1.0, once DEP-5): the licences of
// all its Files paragraphs, joined by AND. It is "" when the file is of the older,
// free form, or when any licence in it has no SPDX identifier: a partial answer
// would be a wrong one.
func License(copyright []byte) string {
	if len(copyright) > maxCopyright {
		return ""
	}
	r := newStanzaReader(bytes.NewReader(copyright))
	r.comments = true
	header, err := r.next()
	if err != nil || !isCopyrightFormat(header.get("Format")) {
		return ""
	}
	var terms []licenseTerm
	for {
		s, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return ""
		}
		if s.get("Files") == "" {
			continue // a paragraph that only has the text of a licence
		}
		name, _, _ := strings.Cut(s.get("License"), "\n")
		t, ok := parseLicense(name)
		if !ok {
			return ""
		}
		terms = append(terms, t...)
	}
	return conjunction(terms)
}

// isCopyrightFormat reports whether a Format field names the machine-readable form.
func isCopyrightFormat(format string) bool {
	_, path, ok := strings.Cut(format, "://")
	return ok && strings.TrimSuffix(path, "/") == "www.debian.org/doc/packaging-manuals/copyright-format/1.0"
}

// licenseTerm is one member of a conjunction.
type licenseTerm struct {
	text         string
	alternatives bool // text has an OR that AND would bind tighter than
}

// conjunction joins terms by AND, sorted and each once.
func conjunction(terms []licenseTerm) string {
	var parts []string
	for _, t := range terms {
		if t.alternatives && len(terms) > 1 {
			t.text = "(" + t.text + ")"
		}
		parts = append(parts, t.text)
	}
	slices.Sort(parts)
	parts = slices.Compact(parts)
	if len(parts) == 1 && len(terms) > 1 {
		return conjunction(terms[:1]) // all the same: no parentheses after all
	}
	return strings.Join(parts, " AND ")
}

// parseLicense parses the synopsis of a License field. "and" binds tighter than
// "or", and both bind tighter than a comma: "A or B, and C" is (A or B) and C.
func parseLicense(s string) ([]licenseTerm, bool) {
	groups := strings.Split(s, ",")
	all, ok := parseAlternatives(strings.Fields(groups[0]))
	for _, g := range groups[1:] {
		words := strings.Fields(g)
		if !ok || len(words) < 2 || !strings.EqualFold(words[0], "and") {
			return nil, false // ", or" after a comma is legal, but nobody can be sure what it was meant to join
		}
		more, fine := parseAlternatives(words[1:])
		all, ok = append(all, more...), fine
	}
	return all, ok
}

// parseAlternatives parses "A and B or C".
func parseAlternatives(words []string) ([]licenseTerm, bool) {
	var either []string
	var first []licenseTerm
	for _, alternative := range splitWords(words, "or") {
		var terms []licenseTerm
		for _, name := range splitWords(alternative, "and") {
			id := spdxLicense(name)
			if id == "" {
				return nil, false
			}
			terms = append(terms, licenseTerm{text: id})
		}
		if first == nil {
			first = terms
		}
		either = append(either, conjunction(terms))
	}
	slices.Sort(either)
	either = slices.Compact(either)
	if len(either) == 1 {
		return first, true
	}
	return []licenseTerm{{text: strings.Join(either, " OR "), alternatives: true}}, true
}

// splitWords splits words at each separator.
func splitWords(words []string, separator string) [][]string {
	var parts [][]string
	for {
		i := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, separator) })
		if i < 0 {
			return append(parts, words)
		}
		parts = append(parts, words[:i])
		words = words[i+1:]
	}
}

// spdxLicense returns the SPDX identifier for "NAME" or "NAME with WHAT
// exception", "" when there is none.
func spdxLicense(words []string) string {
	switch {
	case len(words) == 1:
		return spdxID(words[0])
	case len(words) == 4 && strings.EqualFold(words[1], "with") && strings.EqualFold(words[3], "exception"):
		id, exception := spdxID(words[0]), spdxExceptions[strings.ToLower(words[2])]
		if id != "" && exception != "" {
			return id + " WITH " + exception
		}
	}
	return ""
}

// gnu matches the names of the GNU licences with their versions, in Debian's
// spelling and in SPDX's, old and new.
var gnu = regexp.MustCompile(`^(gpl|lgpl|agpl|gfdl|gfdl-niv)-([123](?:\.[0-9])?)(\+|-only|-or-later|)$`)

// spdxID returns the SPDX identifier for a short name.
func spdxID(name string) string {
	name = strings.ToLower(name)
	m := gnu.FindStringSubmatch(name)
	if m == nil {
		return spdxIDs[name]
	}
	family, variant := strings.ToUpper(m[1]), ""
	if family == "GFDL-NIV" {
		family, variant = "GFDL", "-no-invariants"
	}
	version := m[2]
	if len(version) == 1 {
		version += ".0"
	}
	if !slices.Contains(gnuVersions[family], version) {
		return ""
	}
	suffix := "-only"
	if m[3] == "+" || m[3] == "-or-later" {
		suffix = "-or-later"
	}
	return family + "-" + version + variant + suffix
}

// gnuVersions are the versions that exist.
var gnuVersions = map[string][]string{
	"GPL":  {"1.0", "2.0", "3.0"},
	"LGPL": {"2.0", "2.1", "3.0"},
	"AGPL": {"1.0", "3.0"},
	"GFDL": {"1.1", "1.2", "1.3"},
}

// spdxIDs maps the short names of copyright-format 1.0, and those of its users
// that mean one SPDX licence and no other, to SPDX identifiers.
var spdxIDs = map[string]string{
	"0bsd":                   "0BSD",
	"apache-1.0":             "Apache-1.0",
	"apache-1.1":             "Apache-1.1",
	"apache-2":               "Apache-2.0",
	"apache-2.0":             "Apache-2.0",
	"artistic":               "Artistic-1.0",
	"artistic-1.0":           "Artistic-1.0",
	"artistic-2":             "Artistic-2.0",
	"artistic-2.0":           "Artistic-2.0",
	"beerware":               "Beerware",
	"bsd-1-clause":           "BSD-1-Clause",
	"bsd-2-clause":           "BSD-2-Clause",
	"bsd-3-clause":           "BSD-3-Clause",
	"bsd-4-clause":           "BSD-4-Clause",
	"bsd-4-clause-uc":        "BSD-4-Clause-UC",
	"bsl-1.0":                "BSL-1.0",
	"cc-by-3.0":              "CC-BY-3.0",
	"cc-by-4.0":              "CC-BY-4.0",
	"cc-by-sa-3.0":           "CC-BY-SA-3.0",
	"cc-by-sa-4.0":           "CC-BY-SA-4.0",
	"cc0":                    "CC0-1.0",
	"cc0-1.0":                "CC0-1.0",
	"cddl-1.0":               "CDDL-1.0",
	"curl":                   "curl",
	"expat":                  "MIT",
	"fsfap":                  "FSFAP",
	"fsful":                  "FSFUL",
	"fsfullr":                "FSFULLR",
	"hpnd":                   "HPND",
	"isc":                    "ISC",
	"mit":                    "MIT",
	"mit-cmu":                "MIT-CMU",
	"mpl-1.1":                "MPL-1.1",
	"mpl-2":                  "MPL-2.0",
	"mpl-2.0":                "MPL-2.0",
	"ntp":                    "NTP",
	"ofl-1.1":                "OFL-1.1",
	"openldap-2.8":           "OLDAP-2.8",
	"openssl":                "OpenSSL",
	"postgresql":             "PostgreSQL",
	"psf-2":                  "PSF-2.0",
	"psf-2.0":                "PSF-2.0",
	"python-2.0":             "Python-2.0",
	"rsa-md":                 "RSA-MD",
	"sunpro":                 "SunPro",
	"unicode-dfs-2016":       "Unicode-DFS-2016",
	"unlicense":              "Unlicense",
	"vim":                    "Vim",
	"x11":                    "X11",
	"zlib":                   "Zlib",
	"bsd-4-clause-shortened": "BSD-4-Clause-Shortened",
}

// spdxExceptions maps what stands between "with" and "exception". Those that have
// several versions under one name are left out.
var spdxExceptions = map[string]string{
	"bison":              "Bison-exception-2.2",
	"bison-2.2":          "Bison-exception-2.2",
	"classpath":          "Classpath-exception-2.0",
	"font":               "Font-exception-2.0",
	"libtool":            "Libtool-exception",
	"linux-syscall-note": "Linux-syscall-note",
}
