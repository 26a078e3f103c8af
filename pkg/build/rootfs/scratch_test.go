package rootfs

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
)

func pathsOf(tree *Tree) []string {
	var all []string
	for _, e := range tree.Entries() {
		all = append(all, e.Path)
	}
	return all
}

func digest(t *testing.T, tree *Tree) string {
	t.Helper()
	h := sha256.New()
	must(t, tree.WriteTar(h))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// The digests change with Version: see TestTheBytesAreThoseOfTheVersion.
func TestAnImageOfNoPackages(t *testing.T) {
	tree := assemble(t, Config{Groups: []Group{{Name: "app", GID: 1000}}, Users: []User{{Name: "app", UID: 1000, GID: 1000}},
		Directories: []Directory{{Path: "/var/lib/app", Owner: Owner{Mode: "0750", User: "app", Group: "app"}}}})
	if got, want := pathsOf(tree), []string{"etc", "etc/group", "etc/passwd", "var", "var/lib", "var/lib/app"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for path, want := range map[string]string{
		"/etc/passwd": "root:*:0:0:root:/root:/usr/sbin/nologin\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\napp:!:1000:1000::/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":  "root:*:0:\nnogroup:*:65534:\napp:!:1000:\n",
	} {
		if got := text(t, tree, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	const want = "02d68142219859c8d25b15110b5aa7c35afd1f71cfef2a54e51e8d28211ab070"
	if got := digest(t, tree); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, cfg := range []Config{{Users: []User{{Name: "nobody", UID: 5, GID: 0}}}, {Users: []User{{Name: "x", UID: 0, GID: 0}}}, {Groups: []Group{{Name: "x", GID: 65534}}}} {
		if _, err := try(t, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// A few packages without what they depend on: nothing of Debian's base is there,
// but scanners see the packages.
func TestAnImageOfAFewPackages(t *testing.T) {
	cert := strings.TrimSpace(fixedCertificate) + "\n"
	tree := assemble(t, Config{},
		imgtest.Deb{Name: "ca-certificates", Version: "20250419", Members: map[string]string{"postinst": "#!/bin/sh\ncat > /etc/ssl/scripted <<EOF\nEOF\n"},
			Files: []imgtest.DebFile{{Path: "usr/share/ca-certificates/mozilla/Test_CA.crt", Body: cert}, {Path: "usr/sbin/update-ca-certificates", Body: "#!/bin/sh -e\n", Mode: 0o755},
				imgtest.Dir("etc/ssl/certs", 0)}},
		imgtest.Deb{Name: "tzdata", Version: "2026c-0", Files: []imgtest.DebFile{{Path: "usr/share/zoneinfo/Etc/UTC", Body: "TZif2"}}})
	for _, path := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/Test_CA.pem", "/etc/ssl/certs/3387b84d.0", "/etc/localtime", "/etc/ssl/scripted"} {
		if !tree.has(path) {
			t.Errorf("%s is not there", path)
		}
	}
	if got := text(t, tree, "/etc/ssl/certs/ca-certificates.crt"); got != cert {
		t.Errorf("got %q", got)
	}
	status := text(t, tree, "/var/lib/dpkg/status")
	if !strings.Contains(status, "Package: ca-certificates\nStatus: install ok installed\n") || !strings.Contains(status, "Package: tzdata\n") {
		t.Errorf("got %q", status)
	}
	info := slices.DeleteFunc(pathsOf(tree), func(p string) bool { return !strings.HasPrefix(p, "var/lib/dpkg/") })
	if want := []string{"var/lib/dpkg/info", "var/lib/dpkg/info/ca-certificates.list", "var/lib/dpkg/info/ca-certificates.md5sums",
		"var/lib/dpkg/info/tzdata.list", "var/lib/dpkg/info/tzdata.md5sums", "var/lib/dpkg/status"}; !slices.Equal(info, want) {
		t.Errorf("got %q, want %q", info, want)
	}
	for _, path := range []string{"bin", "lib", "mnt", "etc/shadow", "var/run", "etc/dpkg", "etc/ld.so.cache"} {
		if tree.entries[path] != nil {
			t.Errorf("/%s is there", path)
		}
	}
	const want = "018543557db4a0412bc8999c16688ef61bec723c60d363a5c1d6bf6d92bf16a7"
	if got := digest(t, tree); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUsrIsMergedWhereSomethingNeedsIt(t *testing.T) {
	tool := imgtest.DebFile{Path: "usr/bin/tool", Body: program(""), Mode: 0o755}
	linker := imgtest.DebFile{Path: "usr/lib64/ld-linux-x86-64.so.2", Body: "linker", Mode: 0o755}
	shell := imgtest.DebFile{Path: "usr/bin/sh", Body: "shell", Mode: 0o755}
	for name, tt := range map[string]struct {
		files []imgtest.DebFile
		want  string
	}{
		"a program that needs nothing":         {[]imgtest.DebFile{tool, shell, linker}, ""},
		"a program that needs a linker":        {[]imgtest.DebFile{{Path: "usr/bin/x", Body: program("/lib64/ld-linux-x86-64.so.2"), Mode: 0o755}, linker, shell}, "lib64"},
		"a linker that is not there":           {[]imgtest.DebFile{{Path: "usr/bin/x", Body: program("/lib64/ld-linux-x86-64.so.2"), Mode: 0o755}, shell}, ""},
		"a script":                             {[]imgtest.DebFile{{Path: "usr/bin/x", Body: "#! /bin/sh -e\n", Mode: 0o755}, linker, shell}, "bin"},
		"a script that nobody runs":            {[]imgtest.DebFile{{Path: "usr/bin/x", Body: "#!/bin/sh\n"}, linker, shell}, ""},
		"a script for what is not there":       {[]imgtest.DebFile{{Path: "usr/bin/x", Body: "#!/bin/bash", Mode: 0o755}, shell}, ""},
		"a script for nothing":                 {[]imgtest.DebFile{{Path: "usr/bin/x", Body: "#!", Mode: 0o755}, {Path: "usr/bin/y", Body: "", Mode: 0o755}, shell}, ""},
		"a link":                               {[]imgtest.DebFile{{Path: "usr/bin/x", Symlink: "/bin/sh"}, shell}, "bin"},
		"a link within /usr":                   {[]imgtest.DebFile{{Path: "usr/bin/x", Symlink: "sh"}, {Path: "usr/bin/y", Symlink: "/usr/bin/sh"}, shell}, ""},
		"two needs, and one has its directory": {[]imgtest.DebFile{{Path: "usr/bin/x", Symlink: "/bin/sh"}, {Path: "bin/own", Body: "x"}, shell}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := assemble(t, Config{}, imgtest.Deb{Name: "few", Files: tt.files})
			var got []string
			for _, p := range []string{"bin", "sbin", "lib", "lib64"} {
				if to := link(t, tree, p); to == "usr/"+p {
					got = append(got, p)
				} else if to != "" {
					t.Errorf("/%s points to %s", p, to)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got links %q, want %q", got, tt.want)
			}
		})
	}
	base := assemble(t, Config{}, system(imgtest.Deb{Name: "needs", Files: []imgtest.DebFile{{Path: "usr/bin/x", Symlink: "/share/x"}, {Path: "usr/share/x", Body: "x"}}})...)
	if base.entries["share"] != nil {
		t.Error("base-files knows which links there are")
	}
}

// fixedCertificate is CN=Test CA, made once, so that the digest stays.
const fixedCertificate = `
-----BEGIN CERTIFICATE-----
MIIBOjCB7aADAgECAhQJ5aGd9lQhZ1x1qUPUErghk0N7EjAFBgMrZXAwEjEQMA4G
A1UEAwwHVGVzdCBDQTAgFw0yNjExMjExNDQ2NDlaGA8yMTI2MTAyODE0NDY0OVow
EjEQMA4GA1UEAwwHVGVzdCBDQTAqMAUGAytlcAMhAL78zHZBTYhw9wiCykTRAud3
jxnIP4LXQLiSkQXcQwrSo1MwUTAdBgNVHQ4EFgQUFvLTCAVUf0zbAFM4OWgf3iEA
lDEwHwYDVR0jBBgwFoAUFvLTCAVUf0zbAFM4OWgf3iEAlDEwDwYDVR0TAQH/BAUw
AwEB/zAFBgMrZXADQQCbm9QkN38qSBfbnOZwfT2NuP3C+wPAJFF9a0qlAu6+lINX
mcAqcMvdGAD8e3xa0KF/8YM3rrCTJft9eG66YSAN
-----END CERTIFICATE-----
`
