package build_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// cycle is a [world] whose image is made of three suites and that moves on.
type cycle struct {
	*world
	security *imgtest.Debian
	snapshot *imgtest.DebianSnapshot
}

// newCycle makes a world with these releases of Kubernetes, whose spec names others of them.
func newCycle(t testing.TB, named string, released ...string) *cycle {
	t.Helper()
	c := &cycle{world: newWorld(t), snapshot: imgtest.NewDebianSnapshot(t)}
	c.release(t, 20_000, released...)
	c.debian.AddSuite(t, "-updates")
	c.security = c.debian.Security(t)
	c.edit(t, "[v1.36.2]", named, "[trixie]", "[trixie, trixie-updates, trixie-security]")
	return c
}

func (c *cycle) archives() build.Archives {
	security := c.archive()
	security.Name, security.Base, security.Snapshot = deb.Security, c.security.URL, c.snapshot.URL
	main := c.archive()
	main.Snapshot = c.snapshot.URL
	return build.Archives{deb.Main: main, deb.Security: security}
}

func (c *cycle) locker() *build.Locker {
	return &build.Locker{Upstream: c.upstream(), Debian: c.archives()}
}

// lock resolves the spec and writes the lock beside it.
func (c *cycle) lock(t testing.TB, old *build.Lock) *build.Lock {
	t.Helper()
	l, err := c.locker().Lock(t.Context(), c.spec(t), old)
	must(t, err)
	must(t, l.Save(c.dir))
	return l
}

// update moves the parts that u names, in the files on disk.
func (c *cycle) update(t testing.TB, old *build.Lock, u build.Update) *build.Lock {
	t.Helper()
	next, l, err := c.locker().Update(t.Context(), c.spec(t), old, u)
	must(t, err)
	must(t, next.SaveVersions())
	must(t, l.Save(c.dir))
	must(t, l.Check(c.spec(t)))
	return l
}

func (c *cycle) check(t testing.TB, l *build.Lock) build.LockDiff {
	t.Helper()
	d, err := c.locker().Check(t.Context(), c.spec(t), l)
	must(t, err)
	return d
}

// secure publishes security updates, an hour after the last ones.
func (c *cycle) secure(t testing.TB, packages ...[]imgtest.Deb) {
	t.Helper()
	c.security.Packages = slices.Concat(append([][]imgtest.Deb{c.security.Packages}, packages...)...)
	c.security.Date = c.security.Date.Add(time.Minute)
	c.security.Publish(t)
}

// fetch gets all that an image of the spec is made of, and has it proved.
func (c *cycle) fetch(t testing.TB, from build.Archives, l *build.Lock, target build.Target) error {
	t.Helper()
	m := &build.Materials{Upstream: c.upstream(), Debian: from, Cache: c.cache}
	for _, arch := range []string{"amd64", "arm64"} {
		in := build.Input{Spec: c.spec(t), Lock: l, Target: target, Platform: v1.Platform{OS: "linux", Architecture: arch}}
		packages, err := m.Packages(t.Context(), in)
		if err != nil {
			return err
		}
		if len(packages) != len(in.Packages()) {
			t.Errorf("got %d packages, want %d", len(packages), len(in.Packages()))
		}
		published, err := m.Published(t.Context(), in)
		if err != nil {
			return err
		}
		if _, err := m.Programs(t.Context(), in, published); err != nil {
			return err
		}
	}
	return nil
}

func (c *cycle) read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	must(t, err)
	return string(data)
}

// versions returns what a lock has of one package, "archive version" for each platform.
func versions(l *build.Lock, name string) []string {
	var all []string
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		for _, p := range l.Debian.Packages["default"][platform] {
			if p.Name == name {
				all = append(all, strings.TrimSpace(p.Archive+" "+p.Version))
			}
		}
	}
	return all
}

func TestSeveralSuitesAreLockedTogether(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	c.debian.Others[0].Packages = c.debian.Update(t, "ca-certificates", "20260419~deb13u1", "New roots.")
	c.debian.Publish(t)
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))
	l := c.lock(t, nil)
	var suites []string
	for _, s := range l.Debian.Suites {
		suites = append(suites, s.Suite+" "+s.Codename+" "+s.Archive)
	}
	if diff := cmp.Diff([]string{"trixie trixie ", "trixie-updates trixie-updates ", "trixie-security trixie-security debian-security"}, suites); diff != "" {
		t.Errorf("suites (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]string{
		"ca-certificates": {"20260419~deb13u1", "20260419~deb13u1"},
		"libc6":           {"debian-security 2.41-12+deb13u1", "debian-security 2.41-12+deb13u1"},
		"libc-bin":        {"2.41-12", "2.41-12"},
	} {
		if diff := cmp.Diff(want, versions(l, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if !l.Created.Equal(c.security.Date) {
		t.Errorf("created %s, want the date of the newest suite, %s", l.Created, c.security.Date)
	}
	first := c.read(t, build.LockFile)
	c.lock(t, l)
	if again := c.read(t, build.LockFile); again != first {
		t.Errorf("a second lock differs:\n%s", cmp.Diff(first, again))
	}
	if err := c.fetch(t, c.archives(), l, c.target(t, l)); err != nil {
		t.Error(err)
	}
}

func TestAPackageRemembersWhatItWas(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	first := c.lock(t, nil)
	for _, p := range first.Debian.Packages["default"]["linux/amd64"] {
		if p.Before != nil {
			t.Errorf("%s in a first lock: %+v", p.Name, p.Before)
		}
	}
	before := func(l *build.Lock, name string) *build.LockedBefore {
		for _, p := range l.Debian.Packages["default"]["linux/amd64"] {
			if p.Name == name {
				return p.Before
			}
		}
		t.Fatalf("no %s", name)
		return nil
	}
	size := func(l *build.Lock, name string) int64 {
		for _, p := range l.Debian.Packages["default"]["linux/amd64"] {
			if p.Name == name {
				return p.Size
			}
		}
		return 0
	}
	extra := imgtest.Deb{Name: "extra"}
	certificates := c.debian.Update(t, "ca-certificates", "20260419", "New roots.")
	certificates[0].Control += "Depends: extra\n"
	c.secure(t, certificates, []imgtest.Deb{extra})
	second := c.lock(t, first)
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))
	third := c.lock(t, second)
	fourth := c.lock(t, third)
	for name, want := range map[string]*build.LockedBefore{
		"ca-certificates": {Version: "20250419", Size: size(first, "ca-certificates")},
		"extra":           {},
		"libc6":           {Version: "2.41-12", Size: size(first, "libc6")},
		"libc-bin":        nil,
	} {
		if diff := cmp.Diff(want, before(fourth, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	read, err := build.LoadLock(c.dir)
	must(t, err)
	if diff := cmp.Diff(fourth.Debian, read.Debian); diff != "" {
		t.Errorf("what was read differs:\n%s", diff)
	}
}

func TestALockDoesNotGoBack(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))
	l := c.lock(t, nil)
	c.security.Packages = nil
	c.security.Date = c.security.Date.Add(-time.Second)
	c.security.Publish(t)
	var older *build.OlderSuite
	if _, err := c.locker().Lock(t.Context(), c.spec(t), l); !errors.As(err, &older) || older.Suite != "trixie-security" {
		t.Errorf("lock: got %v, want an *OlderSuite", err)
	}
	if _, err := c.locker().Check(t.Context(), c.spec(t), l); !errors.As(err, &older) {
		t.Errorf("check: got %v, want an *OlderSuite", err)
	}
	c.security.Date = c.security.Date.Add(time.Second)
	c.security.Publish(t)
	if d := c.check(t, l); len(d.Packages) != 1 || d.Packages[0].Change != build.Downgraded {
		t.Errorf("a package that was withdrawn at a later date: got %+v", d.Packages)
	}
	if _, err := c.locker().Lock(t.Context(), c.spec(t), nil); err != nil {
		t.Errorf("without a lock: %v", err)
	}
}

func TestSeveralMinorReleasesSideBySide(t *testing.T) {
	c := newCycle(t, "[v1.34.9, stable-1.35, v1.36.2]", "v1.34.9", "v1.35.4", "v1.36.2")
	l := c.lock(t, nil)
	var got []string
	for _, u := range l.Upstream {
		got = append(got, strings.TrimSpace(u.Asked+" "+u.Version))
		for _, platform := range []string{"linux/amd64", "linux/arm64"} {
			for _, pin := range u.Files[platform] {
				if !strings.Contains(pin.Path, u.Version+"/") || pin.Evidence == nil {
					t.Errorf("%s: got %s", u.Version, pin.Path)
				}
			}
		}
	}
	if diff := cmp.Diff([]string{"v1.34.9", "stable-1.35 v1.35.4", "v1.36.2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d := c.check(t, l); !d.Empty() || len(d.Unknown) > 0 {
		t.Errorf("nothing has moved, got %+v", d)
	}
	tags := map[string]bool{}
	for _, target := range c.spec(t).Targets(l) {
		if err := c.fetch(t, c.archives(), l, target); err != nil {
			t.Errorf("%s: %v", target.Tag(), err)
		}
		tags[target.Tag()] = true
	}
	if len(tags) != 3 {
		t.Errorf("got %v", tags)
	}

	// A day later each line has moved, and a new one is there.
	c.release(t, 20_000, "v1.34.9", "v1.35.4", "v1.36.2", "v1.34.10", "v1.35.5", "v1.36.10", "v1.37.0")
	want := []build.VersionDiff{
		{Change: build.Updated, Old: "v1.36.2", New: "v1.36.10"},
		{Change: build.Updated, Asked: "stable-1.35", Old: "v1.35.4", New: "v1.35.5"},
		{Change: build.Updated, Old: "v1.34.9", New: "v1.34.10"},
	}
	if diff := cmp.Diff(want, c.check(t, l).Kubernetes); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
	moved := c.update(t, l, build.Update{Kubelet: true})
	if diff := cmp.Diff(want, build.Diff(l, moved).Kubernetes); diff != "" {
		t.Errorf("update (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"v1.34.10", "stable-1.35", "v1.36.10"}, c.spec(t).Upstream.Versions); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if d := c.check(t, moved); !d.Empty() {
		t.Errorf("after the update: got %+v", d)
	}
}

func TestOnlyThePartThatIsNamedMoves(t *testing.T) {
	c := newCycle(t, "[stable-1.35, v1.36.2]", "v1.35.4", "v1.36.2")
	l := c.lock(t, nil)
	c.release(t, 20_000, "v1.35.4", "v1.36.2", "v1.35.5", "v1.36.4")
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))

	_, kubelet, err := c.locker().Update(t.Context(), c.spec(t), l, build.Update{Kubelet: true})
	must(t, err)
	if diff := cmp.Diff(l.Debian, kubelet.Debian); diff != "" || !kubelet.Created.Equal(l.Created) {
		t.Errorf("the kubelet moved, and Debian with it:\n%s", diff)
	}
	if kubelet.Upstream[0].Version != "v1.35.5" || kubelet.Upstream[1].Version != "v1.36.4" {
		t.Errorf("the kubelet did not move: %+v", kubelet.Upstream)
	}
	next, packages, err := c.locker().Update(t.Context(), c.spec(t), l, build.Update{Packages: true})
	must(t, err)
	if diff := cmp.Diff(l.Upstream, packages.Upstream); diff != "" {
		t.Errorf("packages moved, and Kubernetes with them:\n%s", diff)
	}
	if diff := cmp.Diff(c.spec(t).Upstream.Versions, next.Upstream.Versions); diff != "" {
		t.Errorf("packages moved, and the spec with them:\n%s", diff)
	}
	if got := versions(packages, "libc6"); got[0] != "debian-security 2.41-12+deb13u1" {
		t.Errorf("packages did not move: %v", got)
	}

	// What the spec asks anew is resolved, whichever part is named.
	must(t, l.Save(c.dir))
	c.write(t, build.SpecFile, strings.Replace(c.read(t, build.SpecFile), "install: [ca-certificates, ", "install: [", 1))
	both := c.update(t, l, build.Update{Kubelet: true})
	if got := versions(both, "ca-certificates"); len(got) > 0 {
		t.Errorf("a package that is not asked for any more stayed: %v", got)
	}
}

func TestAFileBesideTheSpecMovesOnlyWhenItIsLocked(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	c.write(t, "tool-amd64", "one")
	c.write(t, "tool-arm64", "two")
	c.write(t, build.SpecFile, c.read(t, build.SpecFile)+"local: [{source: \"tool-{arch}\", path: /usr/bin/local}]\n")
	l := c.lock(t, nil)
	must(t, os.Remove(filepath.Join(c.dir, "tool-amd64")))
	c.write(t, "tool-arm64", "three")
	if moved := c.update(t, l, build.Update{Kubelet: true, Packages: true}); !slices.Equal(moved.Local, l.Local) {
		t.Errorf("an update: got %+v", moved.Local)
	}
	if d := c.check(t, l); !d.Empty() {
		t.Errorf("a check: got %+v", d)
	}
	c.write(t, "tool-amd64", "one")
	d := build.Diff(l, c.lock(t, l))
	if len(d.Local) != 1 || d.Local[0].Name != "tool-arm64" || d.Local[0].Change != build.Replaced {
		t.Errorf("a lock: got %+v", d.Local)
	}
}

// A crash between the two files leaves a lock that says it is stale, and locking
// again ends where the update would have.
func TestAnUpdateThatStopsHalfWayIsCompletedByALock(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	l := c.lock(t, nil)
	c.release(t, 20_000, "v1.36.2", "v1.36.4")
	next, updated, err := c.locker().Update(t.Context(), c.spec(t), l, build.Update{Kubelet: true, Packages: true})
	must(t, err)
	must(t, next.SaveVersions()) // and no more
	var stale *build.StaleError
	onDisk, err := build.LoadLock(c.dir)
	must(t, err)
	if err := onDisk.Check(c.spec(t)); !errors.As(err, &stale) || stale.Hint() != "imgctl lock "+c.dir {
		t.Errorf("got %v, want a *StaleError", err)
	}
	if _, err := c.locker().Check(t.Context(), c.spec(t), onDisk); !errors.As(err, &stale) {
		t.Errorf("check: got %v, want a *StaleError", err)
	}
	want, err := updated.Bytes()
	must(t, err)
	c.lock(t, onDisk)
	if diff := cmp.Diff(string(want), c.read(t, build.LockFile)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnUpdateWritesOnlyTheVersions(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.34.9", "v1.36.2", "v1.36.4")
	const comment = "# what we run, ä ö ü\nupstream:\n  versions: # two lines\n  - v1.34.9   # the last of its line\n  - \"v1.36.2\" # the present\n"
	before := strings.Replace(c.read(t, build.SpecFile), "upstream:\n  versions: [v1.36.2]\n", comment, 1)
	c.write(t, build.SpecFile, before)
	must(t, os.Chmod(filepath.Join(c.dir, build.SpecFile), 0o600))
	l := c.lock(t, nil)
	c.update(t, l, build.Update{Kubelet: true})
	want := strings.Replace(before, `"v1.36.2" # the present`, `"v1.36.4" # the present`, 1)
	if diff := cmp.Diff(want, c.read(t, build.SpecFile)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(c.dir, build.SpecFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	c.update(t, l, build.Update{Kubelet: true})
	if c.read(t, build.SpecFile) != want {
		t.Error("a second update changed the spec")
	}

	// In one line, each in its own spelling.
	c.edit(t, "[v1.36.2]", "['v1.34.9', v1.36.2]")
	c.update(t, nil, build.Update{Kubelet: true})
	if got := c.read(t, build.SpecFile); !strings.Contains(got, "versions: ['v1.34.9', v1.36.4]\n") {
		t.Errorf("got %s", got)
	}
}

func TestASpecThatChangedMeanwhileIsNotOverwritten(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2", "v1.36.4")
	next, _, err := c.locker().Update(t.Context(), c.spec(t), nil, build.Update{Kubelet: true})
	must(t, err)
	mine := c.read(t, build.SpecFile) + "# mine\n"
	c.write(t, build.SpecFile, mine)
	if err := next.SaveVersions(); err == nil || !strings.Contains(err.Error(), "changed meanwhile") || c.read(t, build.SpecFile) != mine {
		t.Errorf("got %v", err)
	}
}

func TestOfOneMinorReleaseOnlyTheHighestMoves(t *testing.T) {
	for named, want := range map[string][]string{
		"[v1.36.1, v1.36.2]":     {"v1.36.1", "v1.36.4"},
		"[v1.36.2, v1.36.1]":     {"v1.36.4", "v1.36.1"},
		"[v1.36.2, stable-1.36]": {"v1.36.2", "stable-1.36"},
		"[v1.36.4]":              {"v1.36.4"},
		"[stable]":               {"stable"},
	} {
		t.Run(named, func(t *testing.T) {
			c := newCycle(t, named, "v1.36.1", "v1.36.2", "v1.36.4")
			next, _, err := c.locker().Update(t.Context(), c.spec(t), nil, build.Update{Kubelet: true})
			must(t, err)
			if diff := cmp.Diff(want, next.Upstream.Versions); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestACheckSaysWhatIsNewerAndWritesNothing(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	l := c.lock(t, nil)
	c.release(t, 20_000, "v1.36.2", "v1.36.4")
	c.secure(t,
		c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000 and CVE-2025-99."),
		c.debian.Update(t, "libc6", "2.41-12+deb13u2", "Fix CVE-2026-31000, CVE-2026-4000."),
		c.debian.Update(t, "ca-certificates", "20260419", "New roots."))
	files := []string{c.read(t, build.SpecFile), c.read(t, build.LockFile)}
	c.kube.Requests()
	d := c.check(t, l)
	want := []build.PackageDiff{
		{Change: build.Updated, Name: "ca-certificates", Source: "ca-certificates", Old: "20250419", New: "20260419", Security: true},
		{Change: build.Updated, Name: "libc6", Source: "glibc", Old: "2.41-12", New: "2.41-12+deb13u2", Security: true, CVEs: []string{"CVE-2026-4000", "CVE-2026-31000"}},
	}
	for i := range d.Packages {
		p := &d.Packages[i]
		if len(p.Images) != 2 || p.Images[0].Platform != "linux/amd64" || p.Images[1].Platform != "linux/arm64" || p.Images[0].Old == 0 || p.Images[0].New <= p.Images[0].Old {
			t.Errorf("%s: got sizes %+v", p.Name, p.Images)
		}
		p.Images = nil
	}
	if diff := cmp.Diff(want, d.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if len(d.Kubernetes) != 1 || d.Kubernetes[0].New != "v1.36.4" || len(d.Suites) != 1 || d.Suites[0].Suite != "trixie-security" || len(d.Unknown) > 0 {
		t.Errorf("got %+v, %+v, %v", d.Kubernetes, d.Suites, d.Unknown)
	}
	if len(d.Images) != 2 || d.Images[0].Old == d.Images[0].New || d.Images[0].OldPackages != 10 || d.Images[0].NewPackages != 10 {
		t.Errorf("got %+v", d.Images)
	}
	if diff := cmp.Diff(files, []string{c.read(t, build.SpecFile), c.read(t, build.LockFile)}); diff != "" {
		t.Errorf("a check wrote:\n%s", diff)
	}
	for _, r := range c.kube.Requests() {
		if !strings.HasPrefix(r, "GET release/stable-") {
			t.Errorf("a check asked upstream for more than the version: %s", r)
		}
	}
	again := c.check(t, l)
	for i := range again.Packages {
		again.Packages[i].Images = nil
	}
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("a second check differs:\n%s", diff)
	}
}

// Whoever is silent has not said that nothing is newer.
func TestACheckNamesWhoCouldNotBeAsked(t *testing.T) {
	c := newCycle(t, "[v1.35.4, v1.36.2]", "v1.35.4", "v1.36.2")
	l := c.lock(t, nil)
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))
	c.kube.Status("release/stable-1.36.txt", http.StatusServiceUnavailable)
	c.kube.Missing("release/stable-1.35.txt")
	d := c.check(t, l)
	if len(d.Kubernetes) > 0 || len(d.Packages) != 1 || len(d.Unknown) != 2 ||
		!strings.HasPrefix(d.Unknown[0], "kubernetes: v1.35.4: resolve stable-1.35: ") || !strings.HasPrefix(d.Unknown[1], "kubernetes: v1.36.2: resolve stable-1.36: ") {
		t.Errorf("upstream is silent: got %+v", d)
	}
	c.security.Drop(t, "dists/trixie-security/InRelease")
	if _, err := c.locker().Check(t.Context(), c.spec(t), l); !download.NotFound(err) {
		t.Errorf("a suite that is gone: got %v, want not found", err)
	}
	c.security.Publish(t)
	for _, path := range c.security.Paths("libc6") {
		c.security.Drop(t, path)
	}
	c.cache = t.TempDir()
	d = c.check(t, l)
	if len(d.Packages) != 1 || len(d.Packages[0].CVEs) > 0 || !slices.ContainsFunc(d.Unknown, func(s string) bool { return strings.HasPrefix(s, "changelog of glibc: ") }) {
		t.Errorf("a changelog that cannot be had: got %+v", d)
	}
	k := c.locker()
	for _, a := range k.Debian {
		a.Base = "http://127.0.0.1:1"
	}
	d, err := k.Check(t.Context(), c.spec(t), l)
	if err != nil || !d.Empty() || len(d.Unknown) != 3 || !strings.HasPrefix(d.Unknown[0], "debian: ") {
		t.Errorf("nobody answers: got %+v, %v", d, err)
	}
	c.kube.Replace("release/stable-1.36.txt", []byte("<evil>"))
	if _, err := c.locker().Check(t.Context(), c.spec(t), l); err == nil {
		t.Error("an answer that is none was taken for silence")
	}
}

func TestAChangelogIsFoundThroughALinkToAnotherPackage(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	l := c.lock(t, nil)
	base := c.debian.Update(t, "libc-bin", "2.41-12+deb13u1", "Fix CVE-2026-1000.")
	linked := c.debian.Update(t, "libc6", "2.41-12+deb13u1", "")
	for i := range linked {
		linked[i].Files = []imgtest.DebFile{{Path: "usr/share/doc/libc6", Symlink: "libc-bin"}}
	}
	c.secure(t, base, linked)
	for _, p := range c.check(t, l).Packages {
		if diff := cmp.Diff([]string{"CVE-2026-1000"}, p.CVEs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
	}
}

// A package that a newer one replaced in the archive is built from a snapshot.
func TestALockIsBuiltAfterItsPackagesLeftTheArchive(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	c.secure(t, c.debian.Update(t, "libc6", "2.41-12+deb13u1", "Fix CVE-2026-1000."))
	l := c.lock(t, nil)
	c.snapshot.Take(c.debian, c.debian.Date.Add(time.Hour))
	c.snapshot.Take(c.security, c.security.Date.Add(-time.Second))
	c.snapshot.Take(c.security, c.security.Date.Add(time.Hour))
	for _, path := range slices.Concat(c.debian.Paths("iptables"), c.debian.Paths("tool-static")) {
		c.debian.Drop(t, path)
	}
	for _, path := range c.security.Paths("libc6") {
		c.security.Drop(t, path)
	}
	if err := c.fetch(t, c.archives(), l, c.target(t, l)); err != nil {
		t.Fatal(err)
	}
	if len(c.snapshot.Requests()) == 0 {
		t.Error("no snapshot was asked")
	}
	c.cache = t.TempDir()
	without := c.archives()
	for _, a := range without {
		a.Snapshot = ""
	}
	if err := c.fetch(t, without, l, c.target(t, l)); !download.NotFound(err) {
		t.Errorf("without snapshots: got %v, want not found", err)
	}
}

func TestDiffIsOfWhatTheLocksMean(t *testing.T) {
	pkg := func(name, version, sum string, size int64) build.LockedPackage {
		return build.LockedPackage{Name: name, Version: version, Source: name, SourceVersion: version, Size: size, SHA256: strings.Repeat(sum, 64)}
	}
	lock := func(variants map[string][]build.LockedPackage, upstreams ...build.LockedUpstream) *build.Lock {
		l := &build.Lock{Upstream: upstreams, Debian: build.LockedDebian{Packages: map[string]map[string][]build.LockedPackage{}}}
		for v, packages := range variants {
			l.Debian.Packages[v] = map[string][]build.LockedPackage{"linux/amd64": packages}
		}
		return l
	}
	old := lock(map[string][]build.LockedPackage{
		"slim": {pkg("aa", "1", "a", 10), pkg("bb", "2", "b", 20), pkg("cc", "3", "c", 30)},
		"full": {pkg("aa", "1", "a", 10), pkg("dd", "4", "d", 40)},
		"gone": {pkg("aa", "1", "a", 10)},
	}, build.LockedUpstream{Version: "v1.35.1"}, build.LockedUpstream{Version: "v1.36.2", Files: map[string][]upstream.Pin{"linux/amd64": {{Path: "x", SHA512: strings.Repeat("0", 128)}}}})
	old.Local = []build.LockedFile{{Name: "a", Size: 1, SHA256: "1"}, {Name: "b", Size: 2, SHA256: "2"}}
	new := lock(map[string][]build.LockedPackage{
		"slim":  {pkg("aa", "2", "e", 11), pkg("bb", "1", "f", 20), pkg("ee", "5", "5", 50)},
		"full":  {pkg("aa", "2", "e", 11), pkg("dd", "4", "9", 41)},
		"fresh": {pkg("aa", "2", "e", 11)},
	}, build.LockedUpstream{Version: "v1.37.0"}, build.LockedUpstream{Version: "v1.36.2", Files: map[string][]upstream.Pin{"linux/amd64": {{Path: "x", SHA512: strings.Repeat("1", 128)}}}})
	new.Local = []build.LockedFile{{Name: "a", Size: 3, SHA256: "3"}, {Name: "c", Size: 4, SHA256: "4"}}
	new.Debian.Suites = []build.LockedSuite{{Suite: "trixie", Date: time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC)}}
	in := func(variant string, old, new int64) build.PackageSize {
		return build.PackageSize{Variant: variant, Platform: "linux/amd64", Old: old, New: new}
	}
	want := build.LockDiff{
		Kubernetes: []build.VersionDiff{{Change: build.Added, New: "v1.37.0"}, {Change: build.Replaced, Old: "v1.36.2", New: "v1.36.2"}, {Change: build.Removed, Old: "v1.35.1"}},
		Suites:     []build.SuiteDiff{{Suite: "trixie", New: "2026-09-12T07:55:41Z"}},
		Packages: []build.PackageDiff{
			{Change: build.Updated, Name: "aa", Source: "aa", Old: "1", New: "2", Images: []build.PackageSize{in("full", 10, 11), in("slim", 10, 11)}},
			{Change: build.Downgraded, Name: "bb", Source: "bb", Old: "2", New: "1", Images: []build.PackageSize{in("slim", 20, 20)}},
			{Change: build.Removed, Name: "cc", Source: "cc", Old: "3", Images: []build.PackageSize{in("slim", 30, 0)}},
			{Change: build.Replaced, Name: "dd", Source: "dd", Old: "4", New: "4", Images: []build.PackageSize{in("full", 40, 41)}},
			{Change: build.Added, Name: "ee", Source: "ee", New: "5", Images: []build.PackageSize{in("slim", 0, 50)}},
		},
		Local: []build.FileDiff{{Change: build.Replaced, Name: "a", Old: 1, New: 3}, {Change: build.Removed, Name: "b", Old: 2}, {Change: build.Added, Name: "c", New: 4}},
		Images: []build.ImageDiff{
			{Variant: "full", Platform: "linux/amd64", OldPackages: 2, NewPackages: 2, Old: 50, New: 52},
			{Variant: "slim", Platform: "linux/amd64", OldPackages: 3, NewPackages: 3, Old: 60, New: 81},
		},
	}
	if diff := cmp.Diff(want, build.Diff(old, new)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d := build.Diff(old, old); !d.Empty() || len(d.Packages)+len(d.Suites)+len(d.Kubernetes)+len(d.Local) > 0 {
		t.Errorf("of a lock with itself: %+v", d)
	}
	same := lock(map[string][]build.LockedPackage{"slim": old.Debian.Packages["slim"]["linux/amd64"]})
	moved := lock(map[string][]build.LockedPackage{"slim": slices.Clone(old.Debian.Packages["slim"]["linux/amd64"])})
	moved.Debian.Packages["slim"]["linux/amd64"][0].Path = "pool/elsewhere.deb"
	moved.Debian.Packages["slim"]["linux/amd64"][0].Before = &build.LockedBefore{Version: "0"}
	moved.Debian.Suites = new.Debian.Suites
	if d := build.Diff(same, moved); !d.Empty() || len(d.Suites) != 1 {
		t.Errorf("the same bytes at a later date: %+v", d)
	}
}

func TestACancelledCheckSaysSo(t *testing.T) {
	c := newCycle(t, "[v1.36.2]", "v1.36.2")
	l := c.lock(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := c.locker().Check(ctx, c.spec(t), l); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v", d, err)
	}
}
