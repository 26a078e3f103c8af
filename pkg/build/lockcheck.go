package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
)

// Check says what [Locker.Update] of everything would change in l, which must
// answer s, and changes nothing. Of Kubernetes only the versions are asked for,
// nothing is fetched. Of Debian the changelogs of updated packages are read.
//
// Whoever cannot be asked is noted in Unknown, and not an error: a lock that
// nobody can compare is neither current nor outdated. Answers that are not to be
// trusted are errors, as they are for Update.
func (k *Locker) Check(ctx context.Context, s *Spec, l *Lock) (LockDiff, error) {
	if err := l.Check(s); err != nil {
		return LockDiff{}, err
	}
	if len(l.Upstream) != len(s.Upstream.Versions) {
		return LockDiff{}, &StaleError{Dir: s.dir, Why: fmt.Sprintf("has %d versions, want %d", len(l.Upstream), len(s.Upstream.Versions))}
	}
	fresh := &Lock{APIVersion: strict.APIVersion, Kind: lockKind, Local: l.Local}
	var unknown [2][]string
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		fresh.Upstream, unknown[0], err = k.newestReleases(gctx, s, l)
		return err
	})
	g.Go(func() (err error) {
		fresh.Debian, err = k.lockDebian(gctx, s, l, true)
		if download.Unreachable(err) {
			fresh.Debian, unknown[1], err = l.Debian, []string{"debian: " + err.Error()}, nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return LockDiff{}, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	d := Diff(l, fresh)
	d.Unknown = slices.Concat(unknown[:]...)
	return d, k.Explain(ctx, &d, l, fresh)
}

// newestReleases returns the releases of l in their newest versions, without
// files, and why some could not be asked about: these are as they were. So is one
// of a minor release for which there is no channel (any more).
func (k *Locker) newestReleases(ctx context.Context, s *Spec, l *Lock) (releases []LockedUpstream, unknown []string, err error) {
	for i, a := range k.newest(ctx, s) {
		u := l.Upstream[i] // in the spec's order: see Check
		switch {
		case a.err == nil:
			u.Version, u.Files = a.version, nil
		case download.Unreachable(a.err), download.NotFound(a.err):
			unknown = append(unknown, "kubernetes: "+a.err.Error())
		default:
			return nil, nil, a.err
		}
		releases = append(releases, u)
	}
	return releases, unknown, nil
}

// Explain looks up which vulnerabilities the changelogs name for the updated
// packages of d, the difference of old and new. A changelog that cannot be had is
// noted in Unknown; the only error is that of ctx.
func (k *Locker) Explain(ctx context.Context, d *LockDiff, old, new *Lock) error {
	bySource := make(map[string][]int) // places in d.Packages
	for i, p := range d.Packages {
		if p.Change == Updated {
			bySource[p.Source] = append(bySource[p.Source], i)
		}
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(deb.DefaultJobs)
	for source, places := range bySource {
		g.Go(func() error {
			changelog, err := k.changelog(ctx, d.Packages, places, new)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				d.Unknown = append(d.Unknown, fmt.Sprintf("changelog of %s: %v", source, err))
				return context.Cause(ctx)
			}
			for _, i := range places { // nobody else has these places
				d.Packages[i].CVEs = changelog.CVEs(installed(d.Packages[i], old))
			}
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(d.Unknown)
	return err
}

// maxChangelogs is how many packages of one source are looked into for its changelog.
const maxChangelogs = 3

// changelog returns the changelog of the one source that the packages are made
// from. The smallest package that has it will do, and one whose documentation is a
// link to another's leads to that.
func (k *Locker) changelog(ctx context.Context, all []PackageDiff, places []int, l *Lock) (deb.Changelog, error) {
	var candidates []LockedPackage
	for _, i := range places {
		if p, ok := l.packageOf(all[i], all[i].New); ok {
			candidates = append(candidates, p)
		}
	}
	slices.SortFunc(candidates, func(a, b LockedPackage) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), strings.Compare(a.Path, b.Path))
	})
	for tried := 0; tried < min(len(candidates), maxChangelogs); tried++ {
		p := candidates[tried]
		files, err := k.Debian.fetch(ctx, l, []LockedPackage{p})
		if err != nil {
			return deb.Changelog{}, err
		}
		c, err := deb.ReadChangelog(files[0], p.Name)
		if err != nil || len(c.Entries) > 0 {
			return c, err
		}
		for _, other := range l.named(c.At) {
			if other.Source == p.Source && !slices.ContainsFunc(candidates[:tried+1], func(o LockedPackage) bool { return o.Name == other.Name }) {
				candidates = slices.Insert(candidates, tried+1, other)
				break
			}
		}
	}
	return deb.Changelog{}, errors.New("there is none in its packages")
}

// packageOf finds the package that d is about in the first of its images.
func (l *Lock) packageOf(d PackageDiff, version string) (LockedPackage, bool) {
	p, ok := findPackage(l.Debian.Packages[lockKey(d.Images[0].Variant)][d.Images[0].Platform], d.Name)
	return p, ok && p.Version == version
}

// named returns the packages of that name, one for each image that has it.
func (l *Lock) named(name string) []LockedPackage {
	var all []LockedPackage
	for _, platforms := range l.Debian.Packages {
		for _, packages := range platforms {
			if p, ok := findPackage(packages, name); ok {
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b LockedPackage) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// rebuild is the end of the version of a package that was built again from the same source.
var rebuild = regexp.MustCompile(`\+b[0-9]+$`)

// installed returns the version of the source that the old package was made from,
// as changelogs write it: a rebuild has its number there too.
func installed(d PackageDiff, old *Lock) string {
	p, ok := old.packageOf(d, d.Old)
	if !ok || p.Source != d.Source {
		return d.Old
	}
	return p.SourceVersion + rebuild.FindString(p.Version)
}
