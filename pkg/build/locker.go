package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// maxLocal bounds a file that stands beside the spec, in bytes.
const maxLocal = 1 << 30

// Locker resolves what a spec names to digests.
type Locker struct {
	Upstream *upstream.Client
	Debian   Archives
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
	g.Go(func() (err error) {
		l.Local, err = s.lockLocal()
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	l.Created = l.created()
	return l, l.validate()
}

// created is the time of the newest suite: what is locked was whole then. What
// has nothing from Debian is from 1970, as other tools have it that build without a base.
func (l *Lock) created() time.Time {
	newest := time.Unix(0, 0).UTC()
	for _, s := range l.Debian.Suites {
		if s.Date.After(newest) {
			newest = s.Date
		}
	}
	return newest
}

// lockDebian resolves the packages of every variant and platform against one state of the archives.
func (k *Locker) lockDebian(ctx context.Context, s *Spec) (LockedDebian, error) {
	if len(s.Packages.Suites) == 0 {
		return LockedDebian{}, nil
	}
	suites, err := k.suites(ctx, s)
	if err != nil {
		return LockedDebian{}, err
	}
	l := LockedDebian{Packages: make(map[string]map[string][]LockedPackage)}
	for i, suite := range suites {
		l.Suites = append(l.Suites, LockedSuite{Suite: s.Packages.Suites[i], Codename: suite.Codename, Archive: lockedArchive(s.Packages.Suites[i]),
			Date: suite.Date.UTC(), InRelease: suite.InRelease})
	}
	for _, variant := range s.variants() {
		l.Packages[lockKey(variant)], err = closures(s.variant(variant), suites)
		if err != nil {
			return LockedDebian{}, fmt.Errorf("%s: %w", lockKey(variant), err)
		}
	}
	return l, nil
}

// suites reads the suites of the spec, in its order.
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

// lockedArchive is how a lock names the archive of a suite.
func lockedArchive(suite string) string {
	if name := deb.ArchiveOf(suite); name != deb.Main {
		return name
	}
	return ""
}

// closures resolves the packages of one variant for every platform.
func closures(s *Spec, suites []*deb.Suite) (map[string][]LockedPackage, error) {
	byPlatform := make(map[string][]LockedPackage)
	for _, p := range s.platforms() {
		packages, err := closure(s, suites, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		byPlatform[p.String()] = packages
	}
	return byPlatform, nil
}

// closure resolves the packages of one variant for one platform.
func closure(s *Spec, suites []*deb.Suite, p v1.Platform) ([]LockedPackage, error) {
	packages, err := suites[0].Packages[p.Architecture].Closure(s.Packages.Install)
	if err != nil {
		return nil, err
	}
	var locked []LockedPackage
	for _, pkg := range packages {
		locked = append(locked, LockedPackage{Name: pkg.Name, Version: pkg.Version, Architecture: pkg.Arch,
			Archive: lockedArchive(s.Packages.Suites[0]), Path: pkg.Filename, Size: pkg.Size, SHA256: pkg.SHA256,
			Source: pkg.Source, SourceVersion: pkg.SourceVersion})
	}
	return locked, nil
}

// lockUpstream resolves the versions and pins every file of them that is needed.
func (k *Locker) lockUpstream(ctx context.Context, s *Spec, old *Lock) ([]LockedUpstream, error) {
	releases := make([]LockedUpstream, len(s.Upstream.Versions))
	g, ctx := errgroup.WithContext(ctx)
	for i, asked := range s.Upstream.Versions {
		g.Go(func() (err error) {
			releases[i], err = k.lockRelease(ctx, s, old, asked)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, r := range releases {
		if slices.ContainsFunc(releases[:i], func(o LockedUpstream) bool { return o.Version == r.Version }) {
			return nil, fmt.Errorf("%s: is %s, which is there already", s.Upstream.Versions[i], r.Version)
		}
	}
	return releases, nil
}

// lockRelease resolves one version.
func (k *Locker) lockRelease(ctx context.Context, s *Spec, old *Lock, asked string) (LockedUpstream, error) {
	version, err := k.Upstream.Resolve(ctx, asked)
	if err != nil {
		return LockedUpstream{}, err
	}
	l := LockedUpstream{Version: version, Files: make(map[string][]upstream.Pin)}
	if asked != version {
		l.Asked = asked
	}
	var before LockedUpstream
	if old != nil {
		before, _ = old.release(version)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.platforms() {
		paths := s.sources(version, p.Architecture)
		pins := make([]upstream.Pin, len(paths))
		l.Files[p.String()] = pins
		for i, path := range paths {
			g.Go(func() (err error) {
				pins[i], err = k.pin(ctx, s, before, p.String(), path)
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
func (k *Locker) pin(ctx context.Context, s *Spec, before LockedUpstream, platform, path string) (upstream.Pin, error) {
	require := slices.DeleteFunc(slices.Clone(s.Upstream.Require), func(p upstream.Proof) bool { return p == upstream.Pinned })
	pin, known := before.pin(platform, path)
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

// lockLocal hashes the files that stand beside the spec.
func (s *Spec) lockLocal() ([]LockedFile, error) {
	var names []string
	for _, p := range s.platforms() {
		for _, f := range s.Local {
			names = append(names, f.file(p.Architecture))
		}
	}
	slices.Sort(names)
	var locked []LockedFile
	for _, name := range slices.Compact(names) {
		f, err := s.hashLocal(name)
		if err != nil {
			return nil, fmt.Errorf("local: %w", err)
		}
		locked = append(locked, f)
	}
	return locked, nil
}

// hashLocal reads one file beside the spec.
func (s *Spec) hashLocal(name string) (LockedFile, error) {
	f, err := s.openLocal(name)
	if err != nil {
		return LockedFile{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxLocal+1))
	if err != nil {
		return LockedFile{}, fmt.Errorf("hash %s: %w", name, err)
	}
	if n > maxLocal {
		return LockedFile{}, fmt.Errorf("%s: larger than %d bytes", name, int64(maxLocal))
	}
	return LockedFile{Name: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// openLocal opens a regular file beside the spec, and none that a link leads to elsewhere.
func (s *Spec) openLocal(name string) (*os.File, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fi, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() { // opening a FIFO would wait for somebody to write
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	return root.Open(name)
}
