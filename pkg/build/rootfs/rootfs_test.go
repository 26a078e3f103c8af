package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/imgtest"
)

var created = time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC)

// system is the smallest set of packages that makes a file system.
func system(more ...imgtest.Deb) []imgtest.Deb {
	return append([]imgtest.Deb{
		{Name: "base-files", Version: "13.8", Members: map[string]string{"conffiles": "/etc/issue\n"}, Files: []imgtest.DebFile{
			imgtest.Dir("root", 0o700), imgtest.Dir("tmp", 0o1777), imgtest.Dir("usr/bin", 0), imgtest.Dir("usr/lib", 0),
			imgtest.Dir("var/run", 0), imgtest.Dir("var/lock", 0),
			{Path: "bin", Symlink: "usr/bin"}, {Path: "lib", Symlink: "usr/lib"},
			{Path: "etc/issue", Body: "Debian\n"}, {Path: "etc/dpkg/origins/debian", Body: "Vendor: Debian\n"},
			{Path: "usr/share/base-files/profile", Body: "umask 022\n"},
			{Path: "usr/share/doc/base-files/copyright", Body: "License: GPL-2\n"},
			{Path: "usr/share/doc/base-files/changelog.gz", Body: "news"},
			{Path: "usr/share/man/man1/base.1.gz", Body: "manual"},
		}},
		{Name: "base-passwd", Files: []imgtest.DebFile{
			{Path: "usr/share/base-passwd/passwd.master", Body: "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
			{Path: "usr/share/base-passwd/group.master", Body: "root:*:0:\nshadow:*:42:\nsudo:*:27:root\nnogroup:*:65534:\n"},
		}},
		{Name: "dpkg", Files: []imgtest.DebFile{{Path: "usr/bin/dpkg", Body: "dpkg", Mode: 0o755}}},
		{Name: "passwd", Files: []imgtest.DebFile{{Path: "usr/bin/passwd", Body: "passwd", Mode: 0o755}}},
	}, more...)
}

// write writes packages to disk.
func write(t testing.TB, packages ...imgtest.Deb) []Package {
	t.Helper()
	var result []Package
	dir := t.TempDir()
	for i, d := range packages {
		file := filepath.Join(dir, fmt.Sprint(i, ".deb"))
		if err := os.WriteFile(file, d.Bytes(t), 0o644); err != nil {
			t.Fatal(err)
		}
		version := d.Version
		if version == "" {
			version = "1.0-1"
		}
		result = append(result, Package{Name: d.Name, Version: version, File: file})
	}
	return result
}

func try(t testing.TB, cfg Config, packages ...imgtest.Deb) (*Tree, error) {
	t.Helper()
	if cfg.Arch == "" {
		cfg.Arch = "amd64"
	}
	cfg.Created = created
	tree, err := Assemble(context.Background(), cfg, write(t, packages...), t.TempDir(), make(chan struct{}, 2))
	if err == nil {
		t.Cleanup(func() { tree.Close() })
	}
	return tree, err
}

func assemble(t testing.TB, cfg Config, packages ...imgtest.Deb) *Tree {
	t.Helper()
	tree, err := try(t, cfg, packages...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func text(t testing.TB, tree *Tree, path string) string {
	t.Helper()
	data, err := tree.read(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// readTar returns the headers of the tree's archive, in order, and what is in each file.
func readTar(t testing.TB, tree *Tree) ([]*tar.Header, map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := tree.WriteTar(&b); err != nil {
		t.Fatal(err)
	}
	var headers []*tar.Header
	bodies := make(map[string]string)
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			return headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		headers, bodies[h.Name] = append(headers, h), string(body)
	}
}

func header(t testing.TB, headers []*tar.Header, name string) *tar.Header {
	t.Helper()
	i := slices.IndexFunc(headers, func(h *tar.Header) bool { return h.Name == name })
	if i < 0 {
		t.Fatalf("no entry %s", name)
	}
	return headers[i]
}

func TestTheArchiveIsSortedAndSaysNothingOfTheMachine(t *testing.T) {
	young := imgtest.Deb{Name: "young", Files: []imgtest.DebFile{{Path: "usr/bin/x", Body: "x", Mode: 0o755, UID: 0}}}
	headers, bodies := readTar(t, assemble(t, Config{}, system(young)...))
	seen := map[string]bool{"./": true}
	last := ""
	for _, h := range headers {
		name := strings.TrimSuffix(h.Name, "/")
		if name <= last {
			t.Errorf("%s after %s: want them sorted and each once", name, last)
		}
		last = name
		if dir := filepath.Dir(name) + "/"; !seen[dir] {
			t.Errorf("%s comes before its directory", h.Name)
		}
		seen[h.Name] = true
		if h.Uname+h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() || h.ModTime.After(created) || h.ModTime.Nanosecond() != 0 {
			t.Errorf("%s: %+v", h.Name, h)
		}
	}
	if bodies["usr/bin/x"] != "x" || header(t, headers, "bin").Linkname != "usr/bin" {
		t.Errorf("got %q through %+v", bodies["usr/bin/x"], header(t, headers, "bin"))
	}
}

// This digest changes whenever the same packages give other bytes. Then Version must change, too:
// it is what keeps a layer that an older imgctl left in the cache from being used.
func TestTheBytesAreThoseOfTheVersion(t *testing.T) {
	const wantVersion, want = 2, "d368c9074c986f1d15e7703f677ec3a6c785329051a5fb4d0e18ff8ca4ed0aa2"
	lib := imgtest.Deb{Name: "libx1", Arch: "amd64", Control: "Multi-Arch: same\n", Files: []imgtest.DebFile{
		{Path: "etc/ld.so.conf", Body: "/usr/lib/x86_64-linux-gnu\n"},
		{Path: "usr/lib/x86_64-linux-gnu/libx.so.1", Body: imgtest.SharedObject("amd64", "libx.so.1")}}}
	tree := assemble(t, Config{
		Exclude: []string{"/usr/share/man/*"}, Users: []User{{Name: "_rpc", UID: 100, GID: 65534}},
		Links: []Link{{Path: "/etc/localtime", Target: "/usr/share/zoneinfo/UTC"}}}, system(lib)...)
	h := sha256.New()
	if err := tree.WriteTar(h); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want || Version != wantVersion {
		t.Errorf("version %d gives %s, want version %d and %s: count Version up when the bytes are meant to be others", Version, got, wantVersion, want)
	}
}

// B14: two packages with one path.
func TestTwoPackagesMayNotHaveOneFile(t *testing.T) {
	one := imgtest.Deb{Name: "one", Files: []imgtest.DebFile{{Path: "usr/bin/x", Body: "one"}}}
	two := imgtest.Deb{Name: "two", Version: "2.0-1", Files: []imgtest.DebFile{{Path: "bin/x", Body: "two"}}}
	_, err := try(t, Config{}, system(one, two)...)
	if err == nil || err.Error() != "/usr/bin/x: in package one and in package two, and neither replaces the other" {
		t.Errorf("got %v", err)
	}
	for name, tt := range map[string]struct{ one, two, want string }{
		"the later replaces":                   {"", "Replaces: zero, one\n", "two"},
		"the earlier replaces":                 {"Replaces: two (<= 2.0-1)\n", "", "one"},
		"the later replaces an older version":  {"", "Replaces: one (<< 1.0-2)\n", "two"},
		"both replace":                         {"Replaces: two\n", "Replaces: one\n", "two"},
		"the relation is on a line of its own": {"", "Replaces: zero,\n one\n", "two"},
	} {
		t.Run(name, func(t *testing.T) {
			one.Control, two.Control = tt.one, tt.two
			if got := text(t, assemble(t, Config{}, system(one, two)...), "/bin/x"); got != tt.want {
				t.Errorf("got the file of %s, want that of %s", got, tt.want)
			}
		})
	}
	one.Control, two.Control = "", "Replaces: one (<< 1.0-1)\n"
	if _, err := try(t, Config{}, system(one, two)...); err == nil {
		t.Error("a version that is not replaced was")
	}
}

// B05: what a package must not hold.
func TestHostilePackagesAreRefusedByTheNameOfTheEntry(t *testing.T) {
	for name, tt := range map[string]struct {
		file imgtest.DebFile
		want string
	}{
		"traversal":              {imgtest.DebFile{Path: "usr/../../etc/x", Body: "x"}, ".."},
		"hard link out":          {imgtest.DebFile{Path: "usr/bin/x", Hardlink: "../etc/shadow"}, "usr/bin/x"},
		"hard link to nothing":   {imgtest.DebFile{Path: "usr/bin/x", Hardlink: "etc/shadow"}, "usr/bin/x"},
		"character device":       {imgtest.DebFile{Path: "dev/kmem", Type: tar.TypeChar}, "dev/kmem"},
		"block device":           {imgtest.DebFile{Path: "dev/sda", Type: tar.TypeBlock}, "dev/sda"},
		"fifo":                   {imgtest.DebFile{Path: "run/pipe", Type: tar.TypeFifo}, "run/pipe"},
		"through another's link": {imgtest.DebFile{Path: "var/lock/x", Body: "x"}, "var/lock"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := try(t, Config{}, system(imgtest.Deb{Name: "hostile", Files: []imgtest.DebFile{tt.file}})...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to name %s", err, tt.want)
			}
		})
	}
}

func TestAFileBelowALinkIsRefused(t *testing.T) {
	link := imgtest.Deb{Name: "link", Files: []imgtest.DebFile{{Path: "etc/conf", Symlink: "/tmp"}}}
	file := imgtest.Deb{Name: "file", Files: []imgtest.DebFile{{Path: "etc/conf/x", Body: "x"}}}
	_, err := try(t, Config{}, system(file, link)...)
	if err == nil || !strings.Contains(err.Error(), "etc/conf") {
		t.Errorf("got %v", err)
	}
	whiteout := imgtest.Deb{Name: "whiteout", Files: []imgtest.DebFile{{Path: "etc/.wh.passwd", Body: ""}}}
	if _, err := try(t, Config{}, system(whiteout)...); err == nil || !strings.Contains(err.Error(), "etc/.wh.passwd") {
		t.Errorf("got %v, want a name refused that deletes in an image layer", err)
	}
}

func TestAPackageIsWhatTheLockSays(t *testing.T) {
	packages := write(t, system()...)
	packages[0].Version = "13.9"
	_, err := Assemble(context.Background(), Config{Arch: "amd64", Created: created}, packages, t.TempDir(), make(chan struct{}, 1))
	if err == nil || !strings.Contains(err.Error(), `says "base-files 13.8", want "base-files 13.9"`) {
		t.Errorf("got %v", err)
	}
	if _, err := Assemble(t.Context(), Config{Arch: "amd64"}, nil, t.TempDir(), nil); err == nil {
		t.Error("slots without room were accepted")
	}
	if _, err := try(t, Config{Arch: "mips"}, system()...); err == nil {
		t.Error("an unknown architecture was accepted")
	}
}

func TestHardLinksStayLinks(t *testing.T) {
	tool := imgtest.Deb{Name: "tool", Files: []imgtest.DebFile{
		{Path: "usr/bin/z-tool", Body: "tool", Mode: 0o755}, {Path: "usr/bin/a-tool", Hardlink: "usr/bin/z-tool", Mode: 0o755}}}
	headers, bodies := readTar(t, assemble(t, Config{}, system(tool)...))
	first, second := header(t, headers, "usr/bin/a-tool"), header(t, headers, "usr/bin/z-tool")
	if first.Typeflag != tar.TypeReg || bodies["usr/bin/a-tool"] != "tool" || second.Typeflag != tar.TypeLink || second.Linkname != "usr/bin/a-tool" {
		t.Errorf("got %+v and %+v, want the first name to have the content and the second to point to it", first, second)
	}
	if got := text(t, assemble(t, Config{Exclude: []string{"/usr/bin/a-*"}}, system(tool)...), "usr/bin/z-tool"); got != "tool" {
		t.Errorf("got %q", got)
	}
	_, err := try(t, Config{Exclude: []string{"/usr/bin/z-*"}}, system(tool)...)
	if err == nil || !strings.Contains(err.Error(), "usr/bin/a-tool: a hard link to a file that is left out") {
		t.Errorf("got %v", err)
	}
}

func TestExcludeAndKeep(t *testing.T) {
	tree := assemble(t, Config{Exclude: []string{"/usr/share/doc/*", "/usr/share/man*", "/var/lib/dpkg/info/*.conffiles"}, Keep: []string{"/usr/share/doc/*/copyright"}}, system()...)
	for path, want := range map[string]bool{
		"/usr/share/doc/base-files/copyright":     true,
		"/usr/share/doc/base-files/changelog.gz":  false,
		"/usr/share/doc/base-files":               true, // holds what is kept
		"/usr/share/man/man1":                     false,
		"/usr/share/man":                          false,
		"/var/lib/dpkg/info/base-files.conffiles": false,
		"/var/lib/dpkg/info/base-files.list":      true,
	} {
		if got := tree.has(path); got != want {
			t.Errorf("%s: there: %v, want %v", path, got, want)
		}
	}
	if got, want := text(t, tree, "/etc/dpkg/dpkg.cfg.d/imgctl"), "path-exclude /usr/share/doc/*\npath-exclude /usr/share/man*\npath-exclude /var/lib/dpkg/info/*.conffiles\npath-include /usr/share/doc/*/copyright\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if string(tree.Licenses["base-files"]) != "License: GPL-2\n" {
		t.Errorf("got %q", tree.Licenses["base-files"])
	}
	for _, glob := range []string{"usr/*", "/usr/[a-z]", `/usr/\*`} {
		if _, err := try(t, Config{Exclude: []string{glob}}, system()...); err == nil {
			t.Errorf("glob %s was accepted", glob)
		}
	}
}

func TestTheCopyrightIsReadEvenWhereItIsLeftOut(t *testing.T) {
	linked := imgtest.Deb{Name: "linked", Files: []imgtest.DebFile{{Path: "usr/share/doc/linked", Symlink: "base-files"}}}
	tree := assemble(t, Config{Exclude: []string{"/usr/share/doc/*"}}, system(linked)...)
	for _, name := range []string{"base-files", "linked"} {
		if string(tree.Licenses[name]) != "License: GPL-2\n" {
			t.Errorf("%s: got %q", name, tree.Licenses[name])
		}
	}
	if tree.has("/usr/share/doc/base-files") {
		t.Error("/usr/share/doc/base-files is there")
	}
}

func TestNothingIsLeftOnDisk(t *testing.T) {
	dir := t.TempDir()
	slots := make(chan struct{}, 2)
	tree, err := Assemble(context.Background(), Config{Arch: "amd64", Created: created}, write(t, system()...), dir, slots)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	broken := write(t, system()...)
	if err := os.WriteFile(broken[1].File, []byte("!<arch>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Assemble(context.Background(), Config{Arch: "amd64", Created: created}, broken, dir, slots); err == nil {
		t.Error("a broken package was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Assemble(ctx, Config{Arch: "amd64", Created: created}, write(t, system()...), dir, slots); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}

func TestLookupFollowsLinksWithinTheRootOnly(t *testing.T) {
	links := imgtest.Deb{Name: "links", Files: []imgtest.DebFile{
		{Path: "usr/lib/up", Symlink: "../../../../../etc/issue"}, {Path: "usr/lib/abs", Symlink: "/lib/up"},
		{Path: "usr/lib/below", Symlink: "/etc/issue"}}}
	tree := assemble(t, Config{}, system(links)...)
	for _, p := range []string{"/lib/abs", "lib/up", "/../etc/issue"} {
		if e, err := tree.lookup(p); err != nil || e.Path != "etc/issue" {
			t.Errorf("%s: got %v, %v", p, e, err)
		}
	}
	if _, err := tree.lookup("/usr/lib/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	for _, p := range []string{"/lib/below/x", "/"} {
		if _, err := tree.lookup(p); err == nil {
			t.Errorf("%s was found", p)
		}
	}
}

// The entry errors of a package reach the caller with their type.
func TestEntryErrorsKeepTheirType(t *testing.T) {
	_, err := try(t, Config{}, system(imgtest.Deb{Name: "hostile", Files: []imgtest.DebFile{{Path: "../x", Body: "x"}}})...)
	var entry *deb.EntryError
	if !errors.As(err, &entry) || entry.Entry != "./../" {
		t.Errorf("got %v", err)
	}
}
