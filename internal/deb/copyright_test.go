package deb_test

import (
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
)

const copyrightHeader = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n"

// files returns a copyright file with one Files paragraph for each licence.
func files(licenses ...string) string {
	s := copyrightHeader
	for _, l := range licenses {
		s += "Files: *\nCopyright: 2026 somebody\nLicense: " + l + "\n\n"
	}
	return s
}

func TestLicenseIsAnSPDXExpression(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{files("GPL-2+"), "GPL-2.0-or-later"},
		{files("GPL-2"), "GPL-2.0-only"},
		{files("gpl-3.0-or-later"), "GPL-3.0-or-later"},
		{files("LGPL-2.1+", "Expat"), "LGPL-2.1-or-later AND MIT"},
		{files("Expat", "LGPL-2.1+", "Expat"), "LGPL-2.1-or-later AND MIT"},
		{files("GPL-1+ or Artistic"), "Artistic-1.0 OR GPL-1.0-or-later"},
		{files("GPL-1+ or Artistic", "Artistic or GPL-1+"), "Artistic-1.0 OR GPL-1.0-or-later"},
		{files("GPL-1+ or Artistic", "ISC"), "(Artistic-1.0 OR GPL-1.0-or-later) AND ISC"},
		{files("GPL-1+ or Artistic, and BSD-3-clause"), "(Artistic-1.0 OR GPL-1.0-or-later) AND BSD-3-Clause"},
		{files("ISC and Zlib or MIT"), "ISC AND Zlib OR MIT"},
		{files("GPL-2 with Linux-syscall-note exception"), "GPL-2.0-only WITH Linux-syscall-note"},
		{files("GPL-3+ with Bison exception or Expat"), "GPL-3.0-or-later WITH Bison-exception-2.2 OR MIT"},
		{files("GFDL-NIV-1.3+"), "GFDL-1.3-no-invariants-or-later"},
		{files("Expat\n Permission is hereby granted …\n ."), "MIT"},
		{files("Expat") + "License: Odd-Name\n Text of a licence that nothing uses.\n", "MIT"},
		{"# a comment\n" + files("Zlib"), "Zlib"},
		{strings.Replace(files("Zlib"), "https:", "http:", 1), "Zlib"},
	} {
		if got := deb.License([]byte(tt.text)); got != tt.want {
			t.Errorf("%q: got %q, want %q", strings.TrimPrefix(tt.text, copyrightHeader), got, tt.want)
		}
	}
}

func TestLicenseIsUnknownRatherThanWrong(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                    "",
		"free form":                "This package was debianized by somebody.\n\nIt is under the GPL-2.\n",
		"another format":           strings.Replace(files("Expat"), "copyright-format/1.0", "copyright-format/2.0", 1),
		"another site":             strings.Replace(files("Expat"), "www.debian.org", "www.example.org", 1),
		"no files":                 copyrightHeader + "License: Expat\n Text\n",
		"no licence":               copyrightHeader + "Files: *\nCopyright: x\n",
		"only a text":              files("\n Permission is hereby granted"),
		"one of two":               files("Expat", "custom"),
		"one of an or":             files("Expat or custom"),
		"one of an and":            files("Expat, and custom"),
		"public domain":            files("public-domain"),
		"a family":                 files("BSD"),
		"no version":               files("GPL"),
		"a version that is none":   files("GPL-2.1+"),
		"exception without a name": files("GPL-2+ with exception"),
		"unknown exception":        files("GPL-2+ with OpenSSL exception"),
		"or after a comma":         files("GPL-2+, or Expat"),
		"dangling or":              files("Expat or"),
		"dangling and":             files("and Expat"),
		"broken later":             files("Expat") + "Files: debian/*\nhello\n",
		"a text as the name":       files("Permission to use, copy, modify"),
	} {
		if got := deb.License([]byte(text)); got != "" {
			t.Errorf("%s: got %q, want nothing", name, got)
		}
	}
}

func FuzzLicense(f *testing.F) {
	f.Add([]byte(files("GPL-1+ or Artistic, and BSD-3-clause", "GPL-2 with Linux-syscall-note exception")))
	f.Add([]byte(files("or", ",", "and and")))
	f.Add([]byte("Format: x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := deb.License(text)
		if strings.Count(got, "(") != strings.Count(got, ")") || strings.ContainsAny(got, "\n,+\x00") || strings.Contains(got, "  ") ||
			strings.HasPrefix(got, " ") || strings.HasSuffix(got, " ") || strings.HasSuffix(got, " OR") || strings.HasSuffix(got, " AND") {
			t.Errorf("%q gave %q", text, got)
		}
	})
}
