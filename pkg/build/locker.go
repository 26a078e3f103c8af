package build

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// Locker resolves what a spec names to digests.
type Locker struct {
	Upstream *upstream.Client
	Debian   *deb.Archive
}

// Lock resolves s. old is the lock that there was, or nil.
//
// Debian's part is always the state of the archive now. Upstream's files are
// fetched and proved as the spec requires, short of the pin, which is what comes
// of it. Pins that old has for the same version are kept: whoever wrote them
// may have had them from a better source. One without the signature's evidence is
// completed when the spec requires a signature and upstream can be asked.
//
// The same spec, old lock and answers give the same lock. The clock has no say in it.
func (k *Locker) Lock(ctx context.Context, s *Spec, old *Lock) (*Lock, error) {
	l := &Lock{APIVersion: strict.APIVersion, Kind: lockKind, Spec: s.Question()}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		l.Upstream, err = k.lockUpstream(ctx, s, old)
		return err
	})
	g.Go(func() (err error) {
		l.Debian, err = k.lockDebian(ctx, s)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	l.Created = l.Debian.Date
	return l, l.validate()
}

// lockDebian resolves the packages of every platform against one state of the archive.
func (k *Locker) lockDebian(ctx context.Context, s *Spec) (LockedDebian, error) {
	var arches []string
	for _, p := range s.platforms() {
		arches = append(arches, p.Architecture)
	}
	suite, err := k.Debian.Suite(ctx, s.Packages.Suite, arches...)
	if err != nil {
		return LockedDebian{}, err
	}
	l := LockedDebian{Suite: s.Packages.Suite, Codename: suite.Codename, Date: suite.Date.UTC(), InRelease: suite.InRelease,
		Packages: make(map[string][]LockedPackage)}
	for _, p := range s.platforms() {
		packages, err := suite.Packages[p.Architecture].Closure(s.Packages.Install)
		if err != nil {
			return LockedDebian{}, fmt.Errorf("%s: %w", p, err)
		}
		for _, pkg := range packages {
			l.Packages[p.String()] = append(l.Packages[p.String()], LockedPackage{Name: pkg.Name, Version: pkg.Version,
				Architecture: pkg.Arch, Path: pkg.Filename, Size: pkg.Size, SHA256: pkg.SHA256,
				Source: pkg.Source, SourceVersion: pkg.SourceVersion})
		}
	}
	return l, nil
}

// lockUpstream resolves the version and pins every file of it that is needed.
func (k *Locker) lockUpstream(ctx context.Context, s *Spec, old *Lock) (LockedUpstream, error) {
	version, err := k.Upstream.Resolve(ctx, s.Upstream.Version)
	if err != nil {
		return LockedUpstream{}, err
	}
	l := LockedUpstream{Version: version, Files: make(map[string][]upstream.Pin)}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.platforms() {
		paths := s.sources(version, p.Architecture)
		pins := make([]upstream.Pin, len(paths))
		l.Files[p.String()] = pins
		for i, path := range paths {
			g.Go(func() (err error) {
				pins[i], err = k.pin(ctx, s, old, version, p.String(), path)
				return err
			})
		}
	}
	return l, g.Wait()
}

// sources returns what has to be fetched for one architecture, each once and sorted.
func (s *Spec) sources(version, arch string) []string {
	var paths []string
	for _, f := range s.Upstream.Files {
		paths = append(paths, f.source(version, arch))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// pin returns the pin of one file: the one that there was, or a new one.
func (k *Locker) pin(ctx context.Context, s *Spec, old *Lock, version, platform, path string) (upstream.Pin, error) {
	require := slices.DeleteFunc(slices.Clone(s.Upstream.Require), func(p upstream.Proof) bool { return p == upstream.Pinned })
	if old == nil || old.Upstream.Version != version {
		old = &Lock{}
	}
	pin, known := old.pin(platform, path)
	if known && (pin.Evidence != nil || !slices.Contains(require, upstream.Signature)) {
		return pin, nil
	}
	if !known {
		pin = upstream.Pin{Path: path}
	}
	if len(require) == 0 { // a first pin without any proof would be whatever arrived
		require = []upstream.Proof{upstream.Checksum}
	}
	blob, err := k.Upstream.Fetch(ctx, pin, require)
	if known && download.Unreachable(err) {
		return pin, nil // it says which bytes; the evidence can still be looked up when they are fetched
	}
	if err != nil {
		return upstream.Pin{}, fmt.Errorf("%s: %w", strings.TrimPrefix(path, "release/"), err)
	}
	return blob.Pin, nil
}
