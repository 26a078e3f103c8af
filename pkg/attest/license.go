package attest

import (
	"slices"
	"strings"
)

// noAssertion is what SPDX wants where nothing is known.
const noAssertion = "NOASSERTION"

// validLicense tells whether expression is an SPDX licence expression of
// identifiers that the SPDX licence list has. A document may not carry any
// other: Debian's short names, such as "GPL-2+", look alike and are not.
func validLicense(expression string) bool {
	p := licenseParser{tokens: tokens(expression)}
	return len(p.tokens) > 0 && p.compound(0) && len(p.tokens) == 0
}

func tokens(expression string) []string {
	spaced := strings.NewReplacer("(", " ( ", ")", " ) ").Replace(expression)
	return strings.Fields(spaced)
}

// licenseParser reads the grammar of SPDX 2.3, annex D. AND binds stronger than
// OR, but what is valid does not depend on that.
type licenseParser struct{ tokens []string }

// maxNesting bounds the recursion; no real expression comes near.
const maxNesting = 16

func (p *licenseParser) compound(depth int) bool {
	for p.simple(depth) {
		if next := p.peek(); next != "AND" && next != "OR" {
			return true
		}
		p.tokens = p.tokens[1:]
	}
	return false
}

func (p *licenseParser) simple(depth int) bool {
	t := p.peek()
	if t == "" || depth > maxNesting {
		return false
	}
	p.tokens = p.tokens[1:]
	if t == "(" {
		if !p.compound(depth+1) || p.peek() != ")" {
			return false
		}
		p.tokens = p.tokens[1:]
		return true
	}
	if !known(licenseIDs(), t) {
		return false
	}
	if p.peek() != "WITH" {
		return true
	}
	p.tokens = p.tokens[1:]
	if !known(licenseExceptions(), p.peek()) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *licenseParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func known(list []string, id string) bool {
	_, ok := slices.BinarySearch(list, id)
	return ok
}

// licenseIDs are the identifiers of the SPDX licence list (3.25) that packages
// of a Debian base system and Go modules use, sorted.
func licenseIDs() []string {
	return []string{
		"0BSD", "AFL-2.1", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-1.1", "Apache-2.0", "Artistic-1.0", "Artistic-1.0-Perl", "Artistic-2.0",
		"BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause", "BSD-4-Clause-UC", "BSL-1.0",
		"CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0", "CDDL-1.0", "EPL-1.0", "EPL-2.0", "FSFAP", "FSFUL", "FSFULLR",
		"GFDL-1.1-or-later", "GFDL-1.2-only", "GFDL-1.2-or-later", "GFDL-1.3-only", "GFDL-1.3-or-later",
		"GPL-1.0-only", "GPL-1.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later",
		"HPND", "ICU", "IJG", "ISC",
		"LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later",
		"MIT", "MIT-0", "MPL-1.1", "MPL-2.0", "OFL-1.1", "OLDAP-2.8", "OpenSSL", "PSF-2.0", "Python-2.0", "RSA-MD",
		"SISSL", "SSLeay-standalone", "Sleepycat", "Spencer-94", "TCL", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Vim", "W3C",
		"X11", "Zlib", "bzip2-1.0.6", "curl", "ntp-0", "zlib-acknowledgement",
	}
}

// licenseExceptions are those of the list that may follow WITH, sorted.
func licenseExceptions() []string {
	return []string{
		"Autoconf-exception-2.0", "Autoconf-exception-3.0", "Bison-exception-2.2", "Classpath-exception-2.0", "GCC-exception-2.0", "GCC-exception-3.1",
		"LLVM-exception", "Libtool-exception", "Linux-syscall-note", "cryptsetup-OpenSSL-exception", "openvpn-openssl-exception",
	}
}
