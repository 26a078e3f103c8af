package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
)

// tree is a package that needs nothing.
var tree = imgtest.Deb{Name: "tree", Files: []imgtest.DebFile{{Path: "usr/bin/tree", Body: "tree", Mode: 0o755}}}

// essentials are the smallest system that newPlan accepts.
func essentials(more ...imgtest.Deb) []imgtest.Deb {
	all := append([]imgtest.Deb{
		{Name: "base-files", Control: "Essential: yes\nPre-Depends: awk\n", Files: []imgtest.DebFile{
			{Path: "bin", Symlink: "usr/bin"}, imgtest.Dir("tmp", 0o1777), imgtest.Dir("usr/bin", 0o755)}},
		{Name: "bash", Control: "Essential: yes\nDepends: base-files\nPre-Depends: libc6 (>= 2)\n", Files: []imgtest.DebFile{
			{Path: "bin/bash", Body: "bash", Mode: 0o755}, {Path: "bin/rbash", Hardlink: "bin/bash"}, imgtest.Dir("tmp", 0o700)}},
		{Name: "dpkg", Control: "Pre-Depends: libc6\n"},
		{Name: "libc6", Version: "2.41-1"},
		{Name: "mawk", Control: "Provides: awk\nPre-Depends: libc6\n"},
	}, more...)
	slices.SortFunc(all, func(a, b imgtest.Deb) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// withPackages gives the engine packages, and returns an input that has them in its lock.
func withPackages(t testing.TB, e *Engine, packages ...imgtest.Deb) build.Input {
	t.Helper()
	files := writeDebs(t, packages...)
	m := e.Materials.(materials)
	m.packages = files
	e.Materials = m
	in := input(amd64)
	in.Lock.Debian.Suites = []build.LockedSuite{{Suite: "trixie", Codename: "trixie"}}
	in.Lock.Debian.Packages = map[string]map[string][]build.LockedPackage{"default": {}}
	for i, f := range files {
		in.Lock.Debian.Packages["default"]["linux/amd64"] = append(in.Lock.Debian.Packages["default"]["linux/amd64"],
			build.LockedPackage{Name: f.Name, Version: f.Version, SHA256: digestsOf(len(files))[i]})
	}
	return in
}

func digestsOf(n int) []string {
	var digests []string
	for i := range n {
		digests = append(digests, fmt.Sprintf("%064x", i))
	}
	return digests
}

// readDebs is what newPlan gets.
func readDebs(t testing.TB, packages ...imgtest.Deb) []debian {
	t.Helper()
	all, err := readPackages(t.Context(), writeDebs(t, packages...), digestsOf(len(packages)), 2)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEssentialPackagesComeWithAllThatTheyNeed(t *testing.T) {
	p, err := newPlan(readDebs(t, essentials(tree, imgtest.Deb{Name: "zz", Control: "Depends: tree | bash\n"})...))
	if err != nil {
		t.Fatal(err)
	}
	if got := namesOf(p.essential); got != "base-files bash dpkg libc6 mawk" {
		t.Errorf("essential: got %s", got)
	}
	if len(p.batches) != 1 || namesOf(p.batches[0]) != "tree zz" {
		t.Errorf("batches: got %v, want one of tree and zz", p.batches)
	}
}

func TestPackageIsUnpackedAfterWhatItPreDependsOnIsConfigured(t *testing.T) {
	p, err := newPlan(readDebs(t, essentials(
		imgtest.Deb{Name: "aa", Control: "Pre-Depends: bb\n"},
		imgtest.Deb{Name: "bb", Control: "Depends: cc\n"},
		imgtest.Deb{Name: "cc", Control: "Pre-Depends: dd-virtual\n"},
		imgtest.Deb{Name: "dd", Control: "Provides: dd-virtual (= 1)\nPre-Depends: libc6\n"},
		imgtest.Deb{Name: "ee", Control: "Depends: dd\n"},
	)...))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range p.batches {
		got = append(got, namesOf(b))
	}
	if want := []string{"dd ee", "bb cc", "aa"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDependencyCyclesAreOneBatchUnlessTheyPreDepend(t *testing.T) {
	p, err := newPlan(readDebs(t, essentials(imgtest.Deb{Name: "aa", Control: "Depends: bb\n"}, imgtest.Deb{Name: "bb", Control: "Depends: aa\n"})...))
	if err != nil || len(p.batches) != 1 || namesOf(p.batches[0]) != "aa bb" {
		t.Errorf("got %v, %v; want one batch", p, err)
	}
	_, err = newPlan(readDebs(t, essentials(imgtest.Deb{Name: "aa", Control: "Pre-Depends: bb\n"}, imgtest.Deb{Name: "bb", Control: "Depends: aa\n"})...))
	has(t, err, "aa bb", "Pre-Depends")
}

func TestMissingDependencyIsNamed(t *testing.T) {
	for want, packages := range map[string][]imgtest.Deb{
		"aa needs libz (>= 3)":                 essentials(imgtest.Deb{Name: "aa", Control: "Depends: libz (>= 3)\n"}),
		"aa needs libz | liby":                 essentials(imgtest.Deb{Name: "aa", Control: "Pre-Depends: libz | liby\n"}),
		"base-files needs awk":                 slices.DeleteFunc(essentials(), func(d imgtest.Deb) bool { return d.Name == "mawk" }),
		"no dpkg and no Essential packages":    {tree},
		"no dpkg and no Essential packages: B": slices.DeleteFunc(essentials(), func(d imgtest.Deb) bool { return d.Name == "dpkg" }),
	} {
		_, err := newPlan(readDebs(t, packages...))
		var closure *ClosureError
		if !errors.As(err, &closure) {
			t.Errorf("%s: got %v, want a *ClosureError", want, err)
			continue
		}
		has(t, err, want)
	}
}

func TestPackageThatIsNotTheLockedOneIsRefused(t *testing.T) {
	for want, change := range map[string]func(*imgtest.Deb, *string, *string){
		`its control file says "tree 1.0-1"`:     func(_ *imgtest.Deb, _, version *string) { *version = "2" },
		`package "../tree": want the name`:       func(_ *imgtest.Deb, name, _ *string) { *name = "../tree" },
		"Depends":                                func(d *imgtest.Deb, _, _ *string) { d.Control = "Depends: a b c\n" },
		"package tree: unpack tree: control.tar": func(d *imgtest.Deb, _, _ *string) { d.Control = "Depends: bb\nDepends: cc\n" },
	} {
		d := tree
		name, version := "tree", "1.0-1"
		change(&d, &name, &version)
		files := writeDebs(t, d)
		files[0].Name, files[0].Version = name, version
		_, err := readPackages(t.Context(), files, digestsOf(1), 1)
		has(t, err, want)
	}
}

// entries reads an archive of essential packages.
func entries(t testing.TB, file string) (names []string, all map[string]*tar.Header) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	all = make(map[string]*tar.Header)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names, all
		}
		if err != nil {
			t.Fatal(err)
		}
		names, all[h.Name] = append(names, h.Name), h
	}
}

func TestEssentialArchiveIsWhatDpkgWouldHaveUnpacked(t *testing.T) {
	u, err := writeEssential(t.Context(), readDebs(t, essentials()...), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	names, all := entries(t, u.file)
	if slices.Contains(names, "bin/") || all["bin"] == nil || all["bin"].Linkname != "usr/bin" {
		t.Errorf("got %q, want bin to be the link of base-files", names)
	}
	if all["usr/bin/bash"] == nil || all["usr/bin/rbash"] == nil || all["usr/bin/rbash"].Linkname != "usr/bin/bash" {
		t.Errorf("got %q, want bash and its hard link where /bin leads", names)
	}
	if tmp := all["tmp/"]; tmp == nil || tmp.Mode != 0o1777 {
		t.Errorf("/tmp: got %+v, want it as base-files has it", tmp)
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("got %q, want each path once", names)
	}
}

func TestEssentialArchiveIsTheSameForTheSamePackages(t *testing.T) {
	packages := readDebs(t, essentials()...)
	var uploads []upload
	for range 2 {
		u, err := writeEssential(t.Context(), packages, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		uploads = append(uploads, u)
	}
	if uploads[0].name != uploads[1].name {
		t.Errorf("got %s and %s, want one name", uploads[0].name, uploads[1].name)
	}
	other, err := writeEssential(t.Context(), packages[1:], t.TempDir())
	if err != nil || other.name == uploads[0].name {
		t.Errorf("other packages: got %s, %v; want another name", other.name, err)
	}
}

func TestCancelledArchiveLeavesNoFile(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	_, err := writeEssential(ctx, readDebs(t, essentials()...), dir)
	if left, _ := os.ReadDir(dir); !errors.Is(err, context.Canceled) || len(left) != 0 {
		t.Errorf("got %v and %v, want it cancelled and nothing left", err, left)
	}
}
