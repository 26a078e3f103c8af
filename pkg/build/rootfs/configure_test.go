package rootfs

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build/rootfs/certhash"
	"github.com/imgctl/imgctl/pkg/build/rootfs/ldso"
	"github.com/imgctl/imgctl/pkg/build/rootfs/pam"
)

func TestAccounts(t *testing.T) {
	tree := assemble(t, Config{
		Groups: []Group{{Name: "kvm", GID: 994, Members: []string{"_rpc"}}},
		Users:  []User{{Name: "_rpc", UID: 100, GID: 65534, Comment: "rpcbind", Home: "/run/rpcbind"}},
	}, system()...)
	for path, want := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
			"_rpc:x:100:65534:rpcbind:/run/rpcbind:/usr/sbin/nologin\n",
		"/etc/group":   "root:x:0:\nshadow:x:42:\nsudo:x:27:root\nnogroup:x:65534:\nkvm:x:994:_rpc\n",
		"/etc/shadow":  "root:*:20708:0:99999:7:::\nnobody:*:20708:0:99999:7:::\n_rpc:!:20708:0:99999:7:::\n",
		"/etc/gshadow": "root:*::\nshadow:*::\nsudo:*::root\nnogroup:*::\nkvm:!::_rpc\n",
	} {
		if got := text(t, tree, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	headers, _ := readTar(t, tree)
	if h := header(t, headers, "etc/shadow"); h.Mode != 0o640 || h.Uid != 0 || h.Gid != 42 {
		t.Errorf("got %o %d:%d, want 640 0:42", h.Mode, h.Uid, h.Gid)
	}
}

func TestAccountsThatCannotBeAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"uid taken":    {Config{Users: []User{{Name: "x", UID: 65534, GID: 0}}}, "user x: uid 65534 is that of nobody"},
		"name taken":   {Config{Users: []User{{Name: "nobody", UID: 5, GID: 0}}}, "user nobody: already there"},
		"no group":     {Config{Users: []User{{Name: "x", UID: 5, GID: 5}}}, "user x: there is no group with gid 5"},
		"gid taken":    {Config{Groups: []Group{{Name: "x", GID: 42}}}, "group x: gid 42 is that of shadow"},
		"group taken":  {Config{Groups: []Group{{Name: "sudo", GID: 5}}}, "group sudo: already there"},
		"unknown user": {Config{Directories: []Directory{{Path: "/x", Owner: Owner{User: "who"}}}}, `directories: /x: there is no user "who"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := try(t, tt.cfg, system()...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestOwnersAreResolvedByName(t *testing.T) {
	a := &accounts{uid: map[string]int{"statd": 101}, gid: map[string]int{"mail": 8}}
	named := &Entry{Path: "a", UID: 7, GID: 7, user: "statd", group: "mail"}
	numeric := &Entry{Path: "b", UID: 7, GID: 7, user: "other"}
	tree := &Tree{entries: map[string]*Entry{"a": named, "b": numeric}}
	tree.resolveOwners(a)
	if named.UID != 101 || named.GID != 8 || numeric.UID != 7 || numeric.GID != 7 {
		t.Errorf("got %d:%d and %d:%d, want 101:8 and 7:7", named.UID, named.GID, numeric.UID, numeric.GID)
	}
}

func TestEssentialFilesAreThoseOfANewSystem(t *testing.T) {
	tree := assemble(t, Config{}, system()...)
	headers, bodies := readTar(t, tree)
	if bodies["etc/profile"] != "umask 022\n" {
		t.Errorf("got profile %q", bodies["etc/profile"])
	}
	for path, mode := range map[string]int64{"root/": 0o700, "tmp/": 0o1777, "run/lock/": 0o1777, "var/mail/": 0o2775, "usr/local/bin/": 0o755} {
		if h := header(t, headers, path); h.Mode != mode {
			t.Errorf("%s: got mode %o, want %o", path, h.Mode, mode)
		}
	}
	for path, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock", "etc/dpkg/origins/default": "debian"} {
		if h := header(t, headers, path); h.Linkname != target {
			t.Errorf("%s: got %q, want %q", path, h.Linkname, target)
		}
	}
}

func TestShellsAreListedUnderBothNames(t *testing.T) {
	shells := imgtest.Deb{Name: "debianutils", Files: []imgtest.DebFile{
		{Path: "usr/share/debianutils/shells", Body: "# /etc/shells: valid login shells\n/bin/sh\n"},
		{Path: "usr/share/debianutils/shells.d/bash", Body: "/bin/bash\n/usr/bin/bash\n"},
		{Path: "usr/share/debianutils/shells.d/dash", Body: "/usr/bin/dash # small\n"},
	}}
	// As update-shells of debianutils 5.23 writes it on Debian 13, but for its own comment on dash.
	const want = "# /etc/shells: valid login shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n/usr/bin/dash \n"
	if got := text(t, assemble(t, Config{}, system(shells)...), "/etc/shells"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpecFilesDirectoriesAndLinks(t *testing.T) {
	tree := assemble(t, Config{
		Users:       []User{{Name: "statd", UID: 101, GID: 65534}},
		Directories: []Directory{{Path: "/root", Owner: Owner{Mode: "0750"}}, {Path: "/bin/new/deep", Owner: Owner{User: "statd", Group: "nogroup"}}},
		Files:       []File{{Path: "/etc/copy", Copy: "/lib/../etc/issue", Owner: Owner{Mode: "600"}}, {Path: "/etc/text", Content: "text\n"}},
		Links:       []Link{{Path: "/sbin-tool", Target: "../relative/target"}},
	}, system()...)
	headers, bodies := readTar(t, tree)
	if h := header(t, headers, "usr/bin/new/deep/"); h.Uid != 101 || h.Gid != 65534 || h.Mode != 0o755 {
		t.Errorf("got %+v", h)
	}
	if h := header(t, headers, "root/"); h.Mode != 0o750 {
		t.Errorf("got mode %o, want 750", h.Mode)
	}
	if h := header(t, headers, "etc/copy"); h.Mode != 0o600 || bodies["etc/copy"] != "Debian\n" || bodies["etc/text"] != "text\n" {
		t.Errorf("got %+v, %q, %q", h, bodies["etc/copy"], bodies["etc/text"])
	}
	if h := header(t, headers, "sbin-tool"); h.Linkname != "../relative/target" {
		t.Errorf("got %q", h.Linkname)
	}
	for name, cfg := range map[string]Config{
		"over a package's file": {Links: []Link{{Path: "/etc/issue", Target: "x"}}},
		"over its alias":        {Files: []File{{Path: "/bin", Content: "x"}}},
		"below a file":          {Files: []File{{Path: "/etc/issue/x", Content: "x"}}},
		"copy of nothing":       {Files: []File{{Path: "/etc/x", Copy: "/etc/absent"}}},
		"copy of a directory":   {Files: []File{{Path: "/etc/x", Copy: "/usr"}}},
		"directory over a file": {Directories: []Directory{{Path: "/etc/issue"}}},
	} {
		if _, err := try(t, cfg, system()...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

var iptables = imgtest.Deb{Name: "iptables", Files: []imgtest.DebFile{
	{Path: "usr/sbin/iptables-nft", Body: "nft", Mode: 0o755}, {Path: "usr/sbin/iptables-legacy", Body: "legacy", Mode: 0o755},
	{Path: "usr/sbin/iptables-nft-save", Body: "nft", Mode: 0o755}}}

func choice(kind string, priority int) Alternative {
	return Alternative{Name: "iptables", Link: "/usr/sbin/iptables", Path: "/usr/sbin/iptables-" + kind, Priority: priority,
		Slaves: []Slave{{Name: "iptables-save", Link: "/usr/sbin/iptables-save", Path: "/usr/sbin/iptables-" + kind + "-save"}}}
}

func TestTheBestAlternativeIsLinked(t *testing.T) {
	tree := assemble(t, Config{Alternatives: []Alternative{choice("nft", 20), choice("legacy", 10)}}, system(iptables)...)
	if got := text(t, tree, "/usr/sbin/iptables"); got != "nft" {
		t.Errorf("got %q, want nft", got)
	}
	headers, _ := readTar(t, tree)
	for link, target := range map[string]string{
		"usr/sbin/iptables": "/etc/alternatives/iptables", "etc/alternatives/iptables": "/usr/sbin/iptables-nft",
		"etc/alternatives/iptables-save": "/usr/sbin/iptables-nft-save"} {
		if h := header(t, headers, link); h.Linkname != target {
			t.Errorf("%s: got %q, want %q", link, h.Linkname, target)
		}
	}
	// As update-alternatives of Debian 13 writes it.
	const want = "auto\n/usr/sbin/iptables\niptables-save\n/usr/sbin/iptables-save\n\n" +
		"/usr/sbin/iptables-legacy\n10\n/usr/sbin/iptables-legacy-save\n/usr/sbin/iptables-nft\n20\n/usr/sbin/iptables-nft-save\n\n"
	if got := text(t, tree, "/var/lib/dpkg/alternatives/iptables"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnAlternativeMustBeThereAndItsSlaveNeedNot(t *testing.T) {
	tree := assemble(t, Config{Alternatives: []Alternative{choice("legacy", 10)}}, system(iptables)...)
	if tree.has("/usr/sbin/iptables-save") || text(t, tree, "/usr/sbin/iptables") != "legacy" {
		t.Error("want iptables without a slave that is not there")
	}
	if _, err := try(t, Config{Alternatives: []Alternative{choice("absent", 10)}}, system(iptables)...); err == nil ||
		!strings.Contains(err.Error(), "alternatives: iptables: /usr/sbin/iptables-absent is not in the image") {
		t.Errorf("got %v", err)
	}
	other := choice("nft", 20)
	other.Link = "/usr/bin/iptables"
	if _, err := try(t, Config{Alternatives: []Alternative{choice("legacy", 10), other}}, system(iptables)...); err == nil {
		t.Error("one name with two links was accepted")
	}
}

func TestDpkgKnowsThePackages(t *testing.T) {
	lib := imgtest.Deb{Name: "libx1", Version: "2-1", Arch: "amd64", Control: "Multi-Arch: same\n",
		Members: map[string]string{"triggers": "interest-noawait ldconfig\ninterest /usr/lib/x\nactivate ldconfig\n", "postinst": "#!/bin/sh\n"},
		Files:   []imgtest.DebFile{{Path: "lib/libx.so.1", Body: "x"}, {Path: "usr/share/man/x", Body: "left out"}}}
	tree := assemble(t, Config{Exclude: []string{"/usr/share/man/*"}}, system(lib)...)
	status := text(t, tree, "/var/lib/dpkg/status")
	for _, want := range []string{
		"Package: base-files\nStatus: install ok installed\n",
		"Conffiles:\n /etc/issue 32865e97b5342e762ab140e00f3da23b\n",
		"Package: libx1\n", "Version: 2-1\n",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
	for path, want := range map[string]string{
		"info/libx1:amd64.list":     "/.\n/lib\n/lib/libx.so.1\n/usr\n/usr/share\n/usr/share/man\n/usr/share/man/x\n",
		"info/libx1:amd64.md5sums":  "9dd4e461268c8034f5c8564e155c67a6  lib/libx.so.1\nca6d3a576de899110a505bb9c529c1c4  usr/share/man/x\n",
		"info/libx1:amd64.postinst": "#!/bin/sh\n",
		"info/format":               "1\n", "arch-native": "amd64\n",
		"triggers/ldconfig": "libx1:amd64/noawait\n", "triggers/File": "/usr/lib/x libx1:amd64\n",
	} {
		if got := text(t, tree, "/var/lib/dpkg/"+path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestLibrariesAreFoundByTheLinker(t *testing.T) {
	dir := "usr/lib/x86_64-linux-gnu/"
	libs := imgtest.Deb{Name: "libs", Arch: "amd64", Files: []imgtest.DebFile{
		{Path: "etc/ld.so.conf", Body: "include /etc/ld.so.conf.d/*.conf # all\n"},
		{Path: "etc/ld.so.conf.d/x.conf", Body: "/lib/x86_64-linux-gnu\n/" + dir + "\n/absent\n"},
		{Path: dir + "libz.so.1.3", Body: imgtest.SharedObject("amd64", "libz.so.1")},
		{Path: dir + "libz.so.1", Symlink: "libz.so.1.3"},
		{Path: dir + "libz.so", Symlink: "libz.so.1"},
		{Path: dir + "libc10.so.10", Body: imgtest.SharedObject("amd64", "libc10.so.10")},
		{Path: dir + "libc10.so.9", Body: imgtest.SharedObject("amd64", "libc10.so.9")},
		{Path: dir + "libarm.so.1", Body: imgtest.SharedObject("arm64", "libarm.so.1")},
		{Path: dir + "plugin.so", Body: imgtest.SharedObject("amd64", "plugin.so")},
		{Path: dir + "libtext.so", Body: "INPUT(-lz)"},
		{Path: "usr/lib/libz.so.1", Body: imgtest.SharedObject("amd64", "libz.so.1")},
		{Path: "usr/sbin/ldconfig", Mode: 0o755, Body: "\x00ldconfig (test) 1\x00"},
	}}
	tree := assemble(t, Config{}, system(libs)...)
	got := text(t, tree, "/etc/ld.so.cache")
	dir = "/lib/x86_64-linux-gnu/"
	want := []ldso.Library{{Soname: "libz.so.1", Path: dir + "libz.so.1"}, {Soname: "libz.so.1", Path: "/lib/libz.so.1"}, {Soname: "libz.so", Path: dir + "libz.so"},
		{Soname: "libc10.so.10", Path: dir + "libc10.so.10"}, {Soname: "libc10.so.9", Path: dir + "libc10.so.9"}}
	if got != string(ldso.Encode(want, 0x0303, "ldconfig (test) 1")) {
		t.Errorf("got %q, want the cache of %v", got, want)
	}
	got = text(t, assemble(t, Config{Arch: "arm64"}, system(libs)...), "/etc/ld.so.cache")
	want = []ldso.Library{{Soname: "libarm.so.1", Path: dir + "libarm.so.1"}}
	if got != string(ldso.Encode(want, 0x0a03, "ldconfig (test) 1")) {
		t.Errorf("arm64: got %q, want the cache of %v", got, want)
	}
	libs.Files = libs.Files[:len(libs.Files)-1]
	if assemble(t, Config{}, system(libs)...).has("/etc/ld.so.cache") {
		t.Error("an image without ldconfig has its cache")
	}
}

func TestCertificatesAreBundledAndLinkedByHash(t *testing.T) {
	dir := "usr/share/ca-certificates/mozilla/"
	first, second := certificate(t, "Test CA"), certificate(t, "test  ca") // two names that are one to OpenSSL
	certs := imgtest.Deb{Name: "ca-certificates", Files: []imgtest.DebFile{
		{Path: dir + "B,_(CA).crt", Body: strings.TrimSuffix(second, "\n")}, {Path: dir + "A_CA.crt", Body: first}}}
	tree := assemble(t, Config{}, system(certs)...)
	if got := text(t, tree, "/etc/ssl/certs/ca-certificates.crt"); got != first+second {
		t.Errorf("got a bundle of %d bytes, want both certificates in the order of their names", len(got))
	}
	if got := text(t, tree, "/etc/ssl/certs/B__=CA=.pem"); got+"\n" != second {
		t.Errorf("got %q", got)
	}
	der, err := hex.DecodeString("3012311030" + "0e060355040313" + "07" + "54657374204341") // CN=Test CA
	if err != nil {
		t.Fatal(err)
	}
	hash, err := certhash.Name(der)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"A_CA.pem", "B__=CA=.pem"} {
		e := tree.entries[fmt.Sprintf("etc/ssl/certs/%08x.%d", hash, i)]
		if e == nil || e.Target != want {
			t.Errorf("%08x.%d: got %+v, want a link to %s", hash, i, e, want)
		}
	}
	certs.Files[0].Body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	if _, err := try(t, Config{}, system(certs)...); err == nil || !strings.Contains(err.Error(), "B,_(CA).crt") {
		t.Errorf("got %v, want the broken certificate named", err)
	}
}

func TestMachinesAreReadFromTheFirstBytes(t *testing.T) {
	for arch, want := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		if got := headMachine(imgtest.SharedObject(arch, "libx.so")); got != machines[arch].machine || got.id != want {
			t.Errorf("%s: got %+v", arch, got)
		}
	}
	big := []byte(imgtest.SharedObject("amd64", "libx.so"))
	big[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	binary.BigEndian.PutUint16(big[18:], uint16(elf.EM_S390))
	if got := headMachine(string(big)); got.id != elf.EM_S390 {
		t.Errorf("got %+v, want s390", got)
	}
	for _, s := range []string{"", "\x7fELF", strings.Repeat("x", 64)} {
		if got := headMachine(s); got != (machine{}) {
			t.Errorf("%q: got %+v", s, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/usr/share/doc/*", "/usr/share/doc/x/y")
	f.Add("/a*b?c", "/aXbYc")
	f.Fuzz(func(t *testing.T, glob, s string) {
		if len(glob) > 100 || len(s) > 1000 {
			return
		}
		if match(glob, s) && !strings.ContainsAny(glob, "*?") && glob != s {
			t.Errorf("%q matches %q", glob, s)
		}
		if !match("*"+s+"*", "x"+s+"y") && !strings.ContainsAny(s, "*?") {
			t.Errorf("*%q* does not match it", s)
		}
	})
}

func TestPAMIsConfiguredWhereItsToolIs(t *testing.T) {
	files := []imgtest.DebFile{{Path: "usr/share/pam-configs/unix", Body: "Default: yes\nAuth-Type: Primary\nAuth:\n\trequired pam_unix.so\n"}, {Path: "etc/pam.d/common-session", Body: "own"}}
	for _, kind := range pam.Kinds() {
		files = append(files, imgtest.DebFile{Path: "usr/share/pam/common-" + kind, Body: "# here are the per-package modules (the \"Primary\" block)\n# end of pam-auth-update config\n"})
	}
	if got := text(t, assemble(t, Config{}, system(imgtest.Deb{Name: "pam", Files: files})...), "/etc/pam.d/common-session"); got != "own" {
		t.Errorf("got %q", got)
	}
	files = append(files, imgtest.DebFile{Path: "usr/sbin/pam-auth-update", Body: "perl", Mode: 0o755})
	tree := assemble(t, Config{}, system(imgtest.Deb{Name: "pam", Files: files})...)
	if got := text(t, tree, "/etc/pam.d/common-auth"); !strings.Contains(got, "\nauth\trequired pam_unix.so \n") || text(t, tree, "/etc/pam.d/common-session") != "own" {
		t.Errorf("got %q", got)
	}
	files[0].Body = "\tnone\n"
	if _, err := try(t, Config{}, system(imgtest.Deb{Name: "pam", Files: files})...); err == nil || err.Error() != `/usr/share/pam-configs: profile unix: got "none", want a field` {
		t.Errorf("got %v", err)
	}
}
