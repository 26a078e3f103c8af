package imgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// SmallDebian starts an archive that has the shape of Debian 13 in a few
// kilobytes: what an image needs to be told apart from a heap of files, for
// amd64 and arm64.
//
// Essential are base-files (the merged /usr), base-passwd (the masters of
// passwd and group), dpkg, libc-bin (ld.so.conf) and mawk, which provides the
// virtual awk. To be asked for are ca-certificates (two certificates of throw-away
// CAs), iptables (alternatives nft and legacy, and libxtables12 as a dependency)
// and tool-static (arch all, a hard link, a setuid file, a file without licence).
func SmallDebian(t testing.TB) *Debian {
	t.Helper()
	packages := []Deb{baseFiles(), basePasswd(), caCertificates(t), toolStatic()}
	for _, arch := range []string{"amd64", "arm64"} {
		packages = append(packages, dpkg(arch), libcBin(arch), libc6(arch), mawk(arch), iptables(arch), libxtables(arch))
	}
	return NewDebian(t, packages...)
}

// SmallInstall is what to ask of [SmallDebian] to get all of it.
func SmallInstall() []string { return []string{"ca-certificates", "iptables", "tool-static"} }

const exampleScript = "#!/bin/sh\nexit 0\n"

// debCopyright returns a machine-readable copyright file with one licence.
func debCopyright(license string) string {
	return "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n" +
		"Files: *\nCopyright: 2026 nobody\nLicense: " + license + "\n"
}

// triplet returns Debian's name for the directory of an architecture's libraries.
func triplet(arch string) string {
	return map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[arch]
}

func baseFiles() Deb {
	return Deb{
		Name: "base-files", Version: "13.8",
		Control: "Essential: yes\nPriority: required\nSection: admin\nMulti-Arch: foreign\nPre-Depends: awk\nProvides: base, usr-is-merged\n" +
			"Description: base system\n Directories and files\n .\n of every system.\n",
		Members: map[string]string{"conffiles": "/etc/debian_version\n/etc/issue\n", "postinst": exampleScript},
		Files: []DebFile{
			Dir("dev", 0), Dir("etc/default", 0), Dir("home", 0), Dir("proc", 0), Dir("root", 0o700), Dir("run", 0), Dir("sys", 0),
			Dir("tmp", 0o1777), Dir("usr/bin", 0), Dir("usr/lib", 0), Dir("usr/sbin", 0), Dir("var/lib", 0), Dir("var/tmp", 0o1777),
			{Path: "etc/debian_version", Body: "13.8\n"},
			{Path: "etc/issue", Body: "Debian GNU/Linux 13 \\n \\l\n\n"},
			{Path: "usr/bin/sh", Body: "what scripts name as their interpreter\n", Mode: 0o755},
			{Path: "usr/lib/os-release", Body: "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nID=debian\n"},
			{Path: "usr/share/doc/base-files/copyright", Body: debCopyright("GPL-2+")},
			{Path: "usr/share/doc/base-files/changelog.gz", Body: "left out of images"},
			{Path: "etc/os-release", Symlink: "../usr/lib/os-release"},
			{Path: "bin", Symlink: "usr/bin"}, {Path: "lib", Symlink: "usr/lib"}, {Path: "sbin", Symlink: "usr/sbin"},
			{Path: "var/run", Symlink: "/run"},
		},
	}
}

func basePasswd() Deb {
	return Deb{
		Name: "base-passwd", Version: "3.6.7", Control: "Essential: yes\nPriority: required\nMulti-Arch: foreign\n",
		Files: []DebFile{
			{Path: "usr/share/base-passwd/passwd.master", Body: "root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
			{Path: "usr/share/base-passwd/group.master", Body: "root:*:0:\ndaemon:*:1:\nadm:*:4:\nnogroup:*:65534:\n"},
			{Path: "usr/share/doc/base-passwd/copyright", Body: debCopyright("GPL-2 and public-domain")},
		},
	}
}

func dpkg(arch string) Deb {
	return Deb{
		Name: "dpkg", Version: "1.22.21", Arch: arch, Compress: "gz",
		Control: "Essential: yes\nPriority: required\nMulti-Arch: foreign\nPre-Depends: libc6 (>= 2.38)\n",
		Members: map[string]string{"conffiles": "/etc/dpkg/dpkg.cfg\n"},
		Files: []DebFile{
			{Path: "etc/dpkg/dpkg.cfg", Body: "no-debsig\n"},
			{Path: "usr/bin/dpkg", Body: exampleScript, Mode: 0o755},
			{Path: "usr/share/doc/dpkg/copyright", Body: debCopyright("GPL-2+")},
			Dir("var/lib/dpkg/info", 0),
		},
	}
}

func libcBin(arch string) Deb {
	return Deb{
		Name: "libc-bin", Version: "2.41-12", Arch: arch,
		Control: "Essential: yes\nPriority: required\nSource: glibc\nMulti-Arch: foreign\nDepends: libc6 (>> 2.41), libc6 (<< 2.42)\n",
		Members: map[string]string{"conffiles": "/etc/ld.so.conf\n/etc/ld.so.conf.d/libc.conf\n", "triggers": "interest-noawait ldconfig\n"},
		Files: []DebFile{
			{Path: "etc/ld.so.conf", Body: "include /etc/ld.so.conf.d/*.conf\n\n"},
			{Path: "etc/ld.so.conf.d/libc.conf", Body: "# libc default configuration\n/usr/local/lib\n"},
			{Path: "usr/sbin/ldconfig", Body: exampleScript, Mode: 0o755},
			{Path: "usr/share/libc-bin/nsswitch.conf", Body: "passwd: files\ngroup: files\nhosts: files dns\n"},
			Dir("var/cache/ldconfig", 0o700),
		},
	}
}

func libc6(arch string) Deb {
	dir := "usr/lib/" + triplet(arch) + "/"
	return Deb{
		Name: "libc6", Version: "2.41-12", Arch: arch,
		Control: "Source: glibc\nSection: libs\nMulti-Arch: same\n",
		Members: map[string]string{"conffiles": "/etc/ld.so.conf.d/" + triplet(arch) + ".conf\n", "triggers": "activate-noawait ldconfig\n"},
		Files: []DebFile{
			{Path: "etc/ld.so.conf.d/" + triplet(arch) + ".conf", Body: "# Multiarch support\n/lib/" + triplet(arch) + "\n/usr/lib/" + triplet(arch) + "\n"},
			{Path: dir + "libc.so.6", Body: SharedObject(arch, "libc.so.6"), Mode: 0o755},
			{Path: "usr/share/doc/libc6/copyright", Body: debCopyright("LGPL-2.1+")},
		},
	}
}

func mawk(arch string) Deb {
	return Deb{
		Name: "mawk", Version: "1.3.4.20250131-1", Arch: arch,
		Control: "Priority: required\nMulti-Arch: foreign\nProvides: awk\nPre-Depends: libc6 (>= 2.38)\n",
		Members: map[string]string{"postinst": "#!/bin/sh\nset -e\nupdate-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5\n"},
		Files:   []DebFile{{Path: "usr/bin/mawk", Body: exampleScript, Mode: 0o755}},
	}
}

func caCertificates(t testing.TB) Deb {
	dir := "usr/share/ca-certificates/mozilla/"
	return Deb{
		Name: "ca-certificates", Version: "20250419", Control: "Multi-Arch: foreign\n",
		Files: []DebFile{
			Dir("etc/ca-certificates/update.d", 0), Dir("etc/ssl/certs", 0),
			{Path: dir + "Test_Root_CA_1.crt", Body: testCA(t, "Test Root CA 1")},
			{Path: dir + "Test_Root_CA_2.crt", Body: testCA(t, "Test Root CA 2")},
			{Path: "usr/sbin/update-ca-certificates", Body: exampleScript, Mode: 0o755},
			{Path: "usr/share/doc/ca-certificates/copyright", Body: debCopyright("MPL-2.0")},
		},
	}
}

func iptables(arch string) Deb {
	postinst := "#!/bin/sh\n\nset -e\n\nif [ \"$1\" = \"configure\" ]; then\n"
	files := []DebFile{{Path: "usr/share/doc/iptables/copyright", Body: debCopyright("GPL-2+")}}
	for _, kind := range []struct{ name, priority string }{{"legacy", "10"}, {"nft", "20"}} {
		postinst += "\tupdate-alternatives \\\n\t  --install /usr/sbin/iptables iptables /usr/sbin/iptables-" + kind.name + " " + kind.priority + " \\\n" +
			"\t  --slave /usr/sbin/iptables-save iptables-save /usr/sbin/iptables-" + kind.name + "-save\n"
		multi := "xtables-" + kind.name + "-multi"
		files = append(files, DebFile{Path: "usr/sbin/" + multi, Body: exampleScript, Mode: 0o755},
			DebFile{Path: "usr/sbin/iptables-" + kind.name, Symlink: multi},
			DebFile{Path: "usr/sbin/iptables-" + kind.name + "-save", Symlink: multi})
	}
	return Deb{
		Name: "iptables", Version: "1.8.11-2", Arch: arch, Control: "Depends: libxtables12 (= 1.8.11-2), libc6 (>= 2.38)\nMulti-Arch: foreign\n",
		Members: map[string]string{"postinst": postinst + "fi\n"}, Files: files,
	}
}

func libxtables(arch string) Deb {
	dir := "usr/lib/" + triplet(arch) + "/"
	return Deb{
		Name: "libxtables12", Version: "1.8.11-2", Arch: arch, Control: "Source: iptables\nMulti-Arch: same\nDepends: libc6 (>= 2.38)\n",
		Files: []DebFile{
			{Path: dir + "libxtables.so.12.7.0", Body: SharedObject(arch, "libxtables.so.12")},
			{Path: dir + "libxtables.so.12", Symlink: "libxtables.so.12.7.0"},
		},
	}
}

func toolStatic() Deb {
	return Deb{
		Name: "tool-static", Version: "1:2.0~rc1-1+b1", Compress: "zst", Control: "Source: tool (1:2.0~rc1-1)\nDepends: awk | gawk\n",
		Files: []DebFile{
			{Path: "usr/bin/tool", Body: strings.Repeat("tool ", 100), Mode: 0o755},
			{Path: "usr/bin/tool-link", Hardlink: "usr/bin/tool", Mode: 0o755},
			{Path: "usr/bin/tool-setuid", Body: exampleScript, Mode: 0o4755},
			{Path: "usr/share/tool/data", Body: "data\n", GID: 4, Mode: 0o640},
		},
	}
}

// testCA returns the certificate of a new CA, as PEM.
func testCA(t testing.TB, name string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	debMust(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: debTime, NotAfter: debTime.Add(20 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	debMust(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
