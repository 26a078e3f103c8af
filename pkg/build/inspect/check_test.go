package inspect

import (
	"archive/tar"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// debian is a small image that passes all gates with [fine].
func debian() []item {
	return []item{
		link("bin", "usr/bin"), link("lib64", "usr/lib64"), dir("usr"), dir("usr/bin"), dir("usr/lib64"),
		program("usr/lib64/ld-linux-x86-64.so.2", library("ld-linux-x86-64.so.2")),
		file("usr/lib64/libc.so.6", library("libc.so.6")),
		program("usr/bin/sh", dynamic("libc.so.6")),
		link("usr/bin/awk", "/etc/alternatives/awk"), link("etc/alternatives/awk", "/usr/bin/sh"),
		dir("tmp").mode(0o1777), dir("var/mail").mode(0o2775).owner(0, 8), link("etc/mtab", "../proc/self/mounts"),
		file("etc/passwd", "root:x:0:0::/:/bin/sh\n"), file("etc/ld.so.cache", linkerCacheOf("/lib64/libc.so.6")),
		file("var/log/wtmp", ""), file("usr/local/bin/own", ""),
		file("var/lib/dpkg/status", status("base-files 13", "base-passwd 3", "libc-bin 2.41", "dash 0.5", "systemd 257")),
		file("var/lib/dpkg/info/base-files.list", "/.\n/bin\n/lib64\n/tmp\n/var/mail\n"),
		file("var/lib/dpkg/info/base-passwd.list", "/.\n"), file("var/lib/dpkg/info/systemd.list", "/.\n"),
		file("var/lib/dpkg/info/libc-bin.list", "/.\n/lib64/ld-linux-x86-64.so.2\n/lib64/libc.so.6\n"),
		file("var/lib/dpkg/info/dash.list", "/.\n/bin/sh\n"), file("var/lib/dpkg/info/dash.postinst", ""),
		file("var/lib/dpkg/alternatives/awk", "auto\n/usr/bin/awk\n\n/usr/bin/sh\n5\n\n"),
	}
}

// fine allows what is in [debian].
func fine() (Gates, Expect) {
	return Gates{WorldWritable: []string{"/tmp"}, Dangling: []string{"/etc/mtab"}},
		Expect{Architecture: "amd64", Owned: []string{"/usr/local/bin/own", "/bin/spec", "/etc/mtab"}}
}

func texts(violations []Violation) []string {
	var all []string
	for _, v := range violations {
		all = append(all, v.String())
	}
	return all
}

func TestGoodImagePasses(t *testing.T) {
	g, want := fine()
	if got := read(t, debian()).Check(g, want); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

// TestGates adds something to an image that passes. Each row has what is refused
// for it, and a sibling, which differs little and passes.
func TestGates(t *testing.T) {
	owned := func(names ...string) item { // also by the package dash
		return file("var/lib/dpkg/info/dash.list", "/.\n/bin/sh\n"+strings.Join(names, "\n")+"\n")
	}
	for name, tt := range map[string]struct {
		bad, good []item
		want      []string
		allow     Gates // what lets the bad one through; the zero value: nothing does
	}{
		"setuid": {
			[]item{program("usr/bin/su", "").mode(0o4755), owned("/bin/su")}, []item{program("usr/bin/su", "").mode(0o1755), owned("/bin/su")},
			[]string{"setuid: /usr/bin/su: mode 4755, owner 0:0 (package dash)"}, Gates{Setuid: []string{"/usr/bin/su"}},
		},
		"setgid": {
			[]item{program("usr/local/bin/own", "").mode(0o2755).owner(3, 42)}, []item{dir("usr/local").mode(0o2775)},
			[]string{"setuid: /usr/local/bin/own: mode 2755, owner 3:42"}, Gates{Setuid: []string{"/usr/local/*"}},
		},
		"capability": {
			[]item{program("usr/local/bin/own", "").attribute(capability, "\x01")}, []item{program("usr/local/bin/own", "")},
			[]string{"setuid: /usr/local/bin/own: capability 01"}, Gates{Setuid: []string{"/usr/local/bin/own"}},
		},
		"capability of a directory": {
			[]item{dir("x").attribute(capability, "\x01")}, []item{dir("x")},
			[]string{"special: /x: extended attribute security.capability"}, Gates{},
		},
		"world-writable file": {
			[]item{file("usr/local/bin/own", "").mode(0o666)}, []item{file("usr/local/bin/own", "").mode(0o664)},
			[]string{"worldWritable: /usr/local/bin/own: file of mode 0666"}, Gates{},
		},
		"world-writable directory": {
			[]item{dir("x").mode(0o1777)}, []item{dir("x").mode(0o1775)},
			[]string{"worldWritable: /x: directory of mode 1777"}, Gates{WorldWritable: []string{"/x"}},
		},
		"without the sticky bit": {
			[]item{dir("tmp").mode(0o777)}, []item{dir("tmp").mode(0o1777)},
			[]string{"worldWritable: /tmp: directory of mode 0777 (package base-files)"}, Gates{},
		},
		"device": {
			[]item{device(tar.TypeChar, "usr/local/bin/own", 1, 3)}, []item{file("usr/local/bin/own", "")},
			[]string{"special: /usr/local/bin/own: character device 1:3"}, Gates{},
		},
		"FIFO": {
			[]item{entry(tar.TypeFifo, "usr/local/bin/own", 0o600)}, []item{file("usr/local/bin/own", "")},
			[]string{"special: /usr/local/bin/own: FIFO"}, Gates{},
		},
		"access list": {
			[]item{file("usr/local/bin/own", "").attribute("system.posix_acl_access", "x")}, []item{file("usr/local/bin/own", "")},
			[]string{"special: /usr/local/bin/own: extended attribute system.posix_acl_access"}, Gates{},
		},
		"another machine": {
			[]item{file("usr/local/bin/own", amd64(func(e *ELF) { e.Machine = elf.EM_AARCH64 }))}, []item{file("usr/local/bin/own", amd64(nil))},
			[]string{"foreignELF: /usr/local/bin/own: for EM_AARCH64, ELFCLASS64, ELFDATA2LSB; want EM_X86_64, ELFCLASS64, ELFDATA2LSB"},
			Gates{ForeignELF: []string{"/usr/local/bin/own"}},
		},
		"x32": {
			[]item{file("usr/local/bin/own", amd64(func(e *ELF) { e.Class = elf.ELFCLASS32 }))}, []item{file("usr/local/bin/own", amd64(nil))},
			[]string{"foreignELF: /usr/local/bin/own: for EM_X86_64, ELFCLASS32, ELFDATA2LSB; want EM_X86_64, ELFCLASS64, ELFDATA2LSB"},
			Gates{ForeignELF: []string{"/usr/local/bin/own"}},
		},
		"damaged": {
			[]item{file("usr/local/bin/own", dynamic("x")[:100])}, []item{file("usr/local/bin/own", dynamic("libc.so.6"))},
			[]string{"foreignELF: /usr/local/bin/own: cannot be read: EOF"}, Gates{ForeignELF: []string{"*own"}},
		},
		"missing library": {
			[]item{program("usr/local/bin/own", dynamic("libc.so.6", "libx.so"))}, []item{program("usr/local/bin/own", dynamic("libc.so.6"))},
			[]string{"missingLibraries: /usr/local/bin/own: needs libx.so, which is not found"}, Gates{MissingLibraries: []string{"/usr/local/bin/own"}},
		},
		"missing linker": {
			[]item{program("usr/local/bin/own", amd64(func(e *ELF) { e.Interpreter = "/lib/ld-musl" }))}, []item{program("usr/local/bin/own", dynamic())},
			[]string{"missingLibraries: /usr/local/bin/own: dynamic linker /lib/ld-musl: file does not exist"}, Gates{MissingLibraries: []string{"/usr/local/bin/own"}},
		},
		"missing interpreter": {
			[]item{program("usr/local/bin/own", "#!/bin/bash\n")}, []item{program("usr/local/bin/own", "#!/bin/sh\n")},
			[]string{"missingLibraries: /usr/local/bin/own: script for /bin/bash, which is not found"}, Gates{MissingLibraries: []string{"/usr/local/bin/own"}},
		},
		"dangling link": {
			[]item{link("usr/local/bin/own", "../none")}, []item{link("usr/local/bin/own", "../../bin/sh")},
			[]string{"dangling: /usr/local/bin/own: points to ../none, ends at /usr/local/none: file does not exist"}, Gates{Dangling: []string{"/usr/local/*"}},
		},
		"link to what is not running": {
			[]item{link("usr/local/bin/own", "/procfs/x")}, []item{link("usr/local/bin/own", "/proc/x")},
			[]string{"dangling: /usr/local/bin/own: points to /procfs/x, ends at /procfs: file does not exist"}, Gates{Dangling: []string{"/usr/local/bin/own"}},
		},
		"link to itself": {
			[]item{link("usr/local/bin/own", "own")}, []item{link("usr/local/bin/own", "/run/own")},
			[]string{"dangling: /usr/local/bin/own: points to own, ends at /usr/local/bin/own: too many links"}, Gates{Dangling: []string{"/usr/local/bin/own"}},
		},
		"link below a file": {
			[]item{link("usr/local/bin/own", "/etc/passwd/x")}, []item{link("usr/local/bin/own", "/etc/passwd")},
			[]string{"dangling: /usr/local/bin/own: points to /etc/passwd/x, ends at /etc/passwd: not a directory"}, Gates{Dangling: []string{"/usr/local/bin/own"}},
		},
		"apt's cache": {
			[]item{file("var/cache/apt/pkgcache.bin", "")}, []item{dir("var/cache/apt/archives/partial")},
			[]string{"leftover: /var/cache/apt/pkgcache.bin: a cache"}, Gates{Unowned: []string{"/var/cache/*"}},
		},
		"package list": {
			[]item{file("var/lib/apt/lists/x_InRelease", "")}, []item{dir("var/lib/apt/lists")},
			[]string{"leftover: /var/lib/apt/lists/x_InRelease: a package list of apt"}, Gates{},
		},
		"package file": {
			[]item{file("opt/x.deb", "")}, []item{file("usr/bin/x.deb", ""), owned("/usr/bin/x.deb")},
			[]string{"leftover: /opt/x.deb: a package file"}, Gates{},
		},
		"log": {
			[]item{file("var/log/wtmp", "x")}, []item{file("var/log/wtmp", "")},
			[]string{"leftover: /var/log/wtmp: a log"}, Gates{Unowned: []string{"/var/log/wtmp"}},
		},
		"machine ID": {
			[]item{file("etc/machine-id", "0123\n")}, []item{file("usr/local/bin/own", "0123\n")},
			[]string{"leftover: /etc/machine-id: an identity that all machines would share"}, Gates{Unowned: []string{"/etc/machine-id"}},
		},
		"host key": {
			[]item{file("etc/ssh/ssh_host_rsa_key", "")}, []item{dir("etc/ssh")},
			[]string{"leftover: /etc/ssh/ssh_host_rsa_key: a key that all machines would share"}, Gates{},
		},
		"backup of the accounts": {
			[]item{file("etc/passwd-", "")}, []item{file("etc/group", "")},
			[]string{"leftover: /etc/passwd-: a backup of the accounts"}, Gates{},
		},
		"account file that is a link": {
			[]item{link("etc/group", "passwd")}, []item{file("etc/group", "")},
			[]string{"unowned: /etc/group: link that neither a package nor the spec brings"}, Gates{Unowned: []string{"/etc/group"}},
		},
		"temporary file": {
			[]item{file("tmp/x", "")}, []item{dir("tmp/x")},
			[]string{"leftover: /tmp/x: a temporary file"}, Gates{},
		},
		"unowned file": {
			[]item{file("usr/bin/x", "")}, []item{file("usr/bin/x", ""), owned("/bin/x")},
			[]string{"unowned: /usr/bin/x: file that neither a package nor the spec brings"}, Gates{Unowned: []string{"/usr/bin/x"}},
		},
		"file of the spec": {
			[]item{file("usr/bin/other", "")}, []item{file("usr/bin/spec", "")},
			[]string{"unowned: /usr/bin/other: file that neither a package nor the spec brings"}, Gates{Unowned: []string{"/usr/bin/*"}},
		},
		"file of a package that is not there": {
			[]item{file("etc/shells", "")}, []item{file("etc/group", "")},
			[]string{"unowned: /etc/shells: file that neither a package nor the spec brings"}, Gates{Unowned: []string{"/etc/shells"}},
		},
		"alternative that is no link": {
			[]item{file("usr/bin/awk", "")}, []item{link("usr/bin/awk", "sh")},
			[]string{"unowned: /usr/bin/awk: file that neither a package nor the spec brings"}, Gates{Unowned: []string{"/usr/bin/awk"}},
		},
		"alternative that nobody manages": {
			[]item{link("etc/alternatives/nawk", "/bin/sh")}, []item{link("etc/alternatives/awk", "/bin/sh")},
			[]string{"unowned: /etc/alternatives/nawk: link that neither a package nor the spec brings"}, Gates{Unowned: []string{"/etc/alternatives/nawk"}},
		},
		"a list of one's own": {
			[]item{file("var/lib/dpkg/info/x.list", "/usr/bin/x\n"), file("usr/bin/x", "")}, []item{file("var/lib/dpkg/info/dash.preinst", "")},
			[]string{"unowned: /usr/bin/x: file that neither a package nor the spec brings", "unowned: /var/lib/dpkg/info/x.list: file that neither a package nor the spec brings"},
			Gates{Unowned: []string{"/usr/bin/x", "/var/lib/dpkg/info/*"}},
		},
		"dpkg's backup": {
			[]item{file("var/lib/dpkg/status-old", "")}, []item{file("var/lib/dpkg/statoverride", "")},
			[]string{"leftover: /var/lib/dpkg/status-old: a backup of dpkg"}, Gates{},
		},
		"package that is not configured": {
			[]item{file("var/lib/dpkg/status", status("base-files 13", "base-passwd 3", "libc-bin 2.41", "dash 0.5 unpacked", "systemd 257"))},
			[]item{file("var/lib/dpkg/status", status("base-files 13", "base-passwd 3", "libc-bin 2.41", "dash 0.5 installed", "systemd 257"))},
			[]string{"packages: /var/lib/dpkg/status: package dash is unpacked, want installed (package dash)"}, Gates{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, want := fine()
			bad := read(t, debian(), tt.bad)
			if diff := cmp.Diff(tt.want, texts(bad.Check(g, want))); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
			if got := read(t, debian(), tt.good).Check(g, want); len(got) > 0 {
				t.Errorf("the sibling: got %v", texts(got))
			}
			if got := bad.Check(g.Merge(tt.allow), want); len(tt.allow.globs()) > 0 && len(got) > 0 {
				t.Errorf("allowed by %+v: got %v", tt.allow, texts(got))
			}
		})
	}
}

// globs returns all globs of the lists.
func (g Gates) globs() []string {
	var all []string
	for _, l := range g.lists() {
		all = append(all, *l.globs...)
	}
	return all
}

func TestImageMustBeForThePlatform(t *testing.T) {
	g, want := fine()
	want.Architecture = "arm64"
	got := texts(read(t, debian()).Check(g, want))
	if len(got) == 0 || got[0] != `platform: the image's config says "amd64", want "arm64"` {
		t.Errorf("got %q", got)
	}
	if !slices.Contains(got, "foreignELF: /usr/bin/sh: for EM_X86_64, ELFCLASS64, ELFDATA2LSB; want EM_AARCH64, ELFCLASS64, ELFDATA2LSB (package dash)") {
		t.Errorf("got %q, want the programs to be refused as well", got)
	}
	want.Architecture = "riscv64"
	got = texts(read(t, debian()).Check(g, want))
	if !slices.Contains(got, `platform: architecture "riscv64": want amd64 or arm64`) {
		t.Errorf("got %q", got)
	}
}

func TestPackagesMustBeThoseOfTheLock(t *testing.T) {
	g, want := fine()
	all := []Package{{Name: "base-files", Version: "13"}, {Name: "base-passwd", Version: "3"}, {Name: "libc-bin", Version: "2.41"},
		{Name: "dash", Version: "0.5"}, {Name: "systemd", Version: "257"}}
	want.Packages = all
	f := read(t, debian())
	if got := f.Check(g, want); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	want.Packages = slices.Clone(all[:4])
	want.Packages[1].Version = "4"
	want.Packages[3].Name = "bash"
	wanted := []string{
		"packages: package base-passwd: got version 3, want 4",
		"packages: package bash 0.5 is not in the image",
		"packages: package dash 0.5 is not in the lock",
		"packages: package systemd 257 is not in the lock",
	}
	if diff := cmp.Diff(wanted, texts(f.Check(g, want))); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	want.Packages = []Package{}
	if got := f.Check(g, want); len(got) != 5 {
		t.Errorf("a lock without packages: got %v, want each package to be refused", texts(got))
	}
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	got := texts(read(t, debian()).Check(Gates{}, Expect{Architecture: "amd64"}))
	want := []string{
		"worldWritable: /tmp: directory of mode 1777 (package base-files)",
		"unowned: /etc/mtab: link that neither a package nor the spec brings",
		"unowned: /usr/local/bin/own: file that neither a package nor the spec brings",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestImageWithoutPackagesIsTheSpecsAlone(t *testing.T) {
	f := read(t, []item{program("usr/bin/imgctl", amd64(nil)), file("etc/passwd", "")})
	want := Expect{Architecture: "amd64", Packages: []Package{}, Owned: []string{"/usr/bin/imgctl", "/etc/passwd"}}
	if got := f.Check(Gates{}, want); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	want.Owned = want.Owned[:1]
	if got := texts(f.Check(Gates{}, want)); len(got) != 1 || got[0] != "unowned: /etc/passwd: file that neither a package nor the spec brings" {
		t.Errorf("got %v", got)
	}
}

func TestEveryGateHasItsPlaceAndKey(t *testing.T) {
	for _, l := range (&Gates{}).lists() {
		if l.gate.order() < 0 || !strings.Contains(l.gate.Hint(), "gates."+string(l.gate)) {
			t.Errorf("%s: order %d, hint %q", l.gate, l.gate.order(), l.gate.Hint())
		}
	}
	if GatePackages.Hint() != "" || GatePackages.order() < 0 {
		t.Errorf("packages: order %d, hint %q", GatePackages.order(), GatePackages.Hint())
	}
}
