package build

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
)

// OlderSuite says that an archive offers an older state of a suite than is
// locked: a mirror is stale, or somebody wants packages with known holes installed.
// Not every suite has an end of its own that would tell.
type OlderSuite struct {
	Suite       string
	Got, Locked time.Time
}

// Error is one line.
func (e *OlderSuite) Error() string {
	return fmt.Sprintf("suite %s: got that of %s, older than that of %s in the lock (to use it, remove the lock)",
		e.Suite, e.Got.UTC().Format(time.RFC3339), e.Locked.UTC().Format(time.RFC3339))
}

// lockDebian resolves the packages of every variant and platform against one
// state of the archives. It is that in old, unless it is to move or the spec asks
// something else.
func (k *Locker) lockDebian(ctx context.Context, s *Spec, old *Lock, move bool) (LockedDebian, error) {
	if len(s.Packages.Suites) == 0 {
		return LockedDebian{}, nil
	}
	if !move && old.Spec == s.withVersions(old.asked()).Question() {
		return old.Debian, nil
	}
	suites, err := k.suites(ctx, s)
	if err != nil {
		return LockedDebian{}, err
	}
	l := LockedDebian{Packages: make(map[string]map[string][]LockedPackage)}
	for i, suite := range suites {
		name := s.Packages.Suites[i]
		l.Suites = append(l.Suites, LockedSuite{Suite: name, Codename: suite.Codename, Archive: lockedArchive(deb.ArchiveOf(name)),
			Date: suite.Date.UTC(), InRelease: suite.InRelease})
	}
	if err := l.notOlder(old.Debian); err != nil {
		return LockedDebian{}, err
	}
	for _, variant := range s.variants() {
		key := lockKey(variant)
		l.Packages[key], err = closures(s.variant(variant), suites, old.Debian.Packages[key])
		if err != nil && variant != "" {
			err = fmt.Errorf("variant %s: %w", variant, err)
		}
		if err != nil {
			return LockedDebian{}, err
		}
	}
	return l, nil
}

// asked returns the versions and channels that the spec named when l was made.
func (l *Lock) asked() []string {
	var asked []string
	for _, u := range l.Upstream {
		if u.Asked != "" {
			asked = append(asked, u.Asked)
		} else {
			asked = append(asked, u.Version)
		}
	}
	return asked
}

// notOlder compares the dates of suites that both have.
func (d LockedDebian) notOlder(old LockedDebian) error {
	for _, s := range d.Suites {
		i := slices.IndexFunc(old.Suites, func(o LockedSuite) bool { return o.Suite == s.Suite && o.Codename == s.Codename })
		if i >= 0 && s.Date.Before(old.Suites[i].Date) {
			return &OlderSuite{Suite: s.Suite, Got: s.Date, Locked: old.Suites[i].Date}
		}
	}
	return nil
}

// suites reads the suites of the spec, in its order, each from its own archive.
func (k *Locker) suites(ctx context.Context, s *Spec) ([]*deb.Suite, error) {
	var arches []string
	for _, p := range s.platforms() {
		arches = append(arches, p.Architecture)
	}
	suites := make([]*deb.Suite, len(s.Packages.Suites))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range s.Packages.Suites {
		g.Go(func() error {
			from, err := k.Debian.named(deb.ArchiveOf(name))
			if err != nil {
				return err
			}
			suites[i], err = from.Suite(ctx, name, arches...)
			return err
		})
	}
	return suites, g.Wait()
}

// lockedArchive is how a lock names an archive.
func lockedArchive(name string) string {
	if name == deb.Main {
		return ""
	}
	return name
}

// closures resolves the packages of one variant for every platform. old is what
// the lock had for it.
func closures(s *Spec, suites []*deb.Suite, old map[string][]LockedPackage) (map[string][]LockedPackage, error) {
	byPlatform := make(map[string][]LockedPackage)
	for _, p := range s.platforms() {
		packages, err := closure(s, suites, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		remember(packages, old[p.String()])
		byPlatform[p.String()] = packages
	}
	return byPlatform, nil
}

// closure resolves the packages of one variant for one platform.
func closure(s *Spec, suites []*deb.Suite, p v1.Platform) ([]LockedPackage, error) {
	indexes := make([]*deb.Index, len(suites))
	for i, suite := range suites {
		indexes[i] = suite.Packages[p.Architecture]
	}
	index := deb.Merge(indexes...)
	resolve := index.Closure
	if s.Packages.alone() {
		resolve = index.Only
	}
	packages, err := resolve(s.Packages.Install)
	if err != nil {
		return nil, err
	}
	locked := make([]LockedPackage, len(packages))
	for i, pkg := range packages {
		locked[i] = LockedPackage{Name: pkg.Name, Version: pkg.Version, Architecture: pkg.Arch, Archive: lockedArchive(pkg.Archive),
			Path: pkg.Filename, Size: pkg.Size, SHA256: pkg.SHA256, Source: pkg.Source, SourceVersion: pkg.SourceVersion}
	}
	return locked, nil
}

// remember notes what each package was before it last changed. A first lock
// remembers nothing.
func remember(packages, old []LockedPackage) {
	if len(old) == 0 {
		return
	}
	for i := range packages {
		p := &packages[i]
		was, there := findPackage(old, p.Name)
		switch {
		case there && was.SHA256 == p.SHA256:
			p.Before = was.Before
		case there:
			p.Before = &LockedBefore{Version: was.Version, Size: was.Size}
		default:
			p.Before = &LockedBefore{}
		}
	}
}

// findPackage finds a package in a list that is sorted by name.
func findPackage(packages []LockedPackage, name string) (LockedPackage, bool) {
	i, found := slices.BinarySearchFunc(packages, name, func(p LockedPackage, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return LockedPackage{}, false
	}
	return packages[i], true
}
