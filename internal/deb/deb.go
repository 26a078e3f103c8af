// Package deb reads a Debian archive: from a suite's signed index to the files
// in its packages, in Go alone. No apt, dpkg, root or network daemon takes part.
//
// The chain of trust is the archive's own (apt-secure(8)): a key in
// [Archive.Keyring] signs InRelease, InRelease holds the digest of each Packages
// index, and that holds the digest of each package. [Archive.Suite] walks the
// first two steps, [Merge] makes one index of several suites, [Index.Closure] says
// which packages an installation needs, [Archive.Fetch] gets them, [Unpack] streams
// what is in one and [ReadChangelog] what its maintainers say of it. Therefore any
// mirror may serve the bytes, and a lock needs no host name: file names are
// relative to the archive. What left an archive is in its snapshots.
//
// Everything here is bounded and strict. What dpkg would do but imgctl does not
// need is left out: sources, udebs, triggers and the running of maintainer scripts.
package deb

import "strings"

// The archives that Debian has, by name. Each has suites and a pool of its own.
const (
	Main     = "debian"
	Security = "debian-security"
)

const (
	// DefaultBase is where [Main] is when neither the user nor apt's own
	// configuration says so. Debian promises that this name serves the archive.
	DefaultBase = "https://ftp.debian.org/debian"
	// DefaultSecurityBase is the same for [Security].
	DefaultSecurityBase = "https://security.debian.org/debian-security"
	// DefaultSnapshot is Debian's own memory of both: see [Archive.Snapshot].
	DefaultSnapshot = "https://snapshot.debian.org"
)

// ArchiveOf returns the name of the archive that has a suite, by the suite's
// name: "trixie" and "trixie-updates" are in [Main], "trixie-security" is in
// [Security]. That of releases before Debian 11 ("buster/updates") is not known.
func ArchiveOf(suite string) string {
	if strings.HasSuffix(suite, "-security") {
		return Security
	}
	return Main
}

// isName reports whether s is a package name: lower case letters, digits and
// "+-.", two characters or more, the first a letter or digit (Debian Policy 5.6.7).
// Names become parts of paths and URLs, so nothing else may pass.
func isName(s string) bool {
	return len(s) >= 2 && len(s) <= 255 && isWord(s, "+-.")
}

// isWord reports whether s starts with a lower case letter or digit and goes on
// with those and the characters in also.
func isWord(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte(also, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isArch reports whether s can be the name of an architecture.
func isArch(s string) bool { return len(s) <= 64 && isWord(s, "-") }

// isHex reports whether s is n hexadecimal digits in lower case.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
