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

	"golang.org/x/sync/errgroup"

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

// Update says which parts of a lock are to be the newest that there is.
type Update struct {
	Kubelet  bool // the versions of Kubernetes
	Packages bool // Debian's packages

	local bool // files beside the spec, which have no newer version but what they are
}

// Lock resolves s. old is the lock that there was, or nil.
//
// Channels are asked for the version that they name now, and Debian's part is the
// state of the archives now, which is never older than that in old: see
// [*OlderSuite]. Upstream's files are fetched and proved as the spec requires,
// short of the pin, which is what comes of it. Pins that old has for the same
// version are kept: whoever wrote them may have had them from a better source. One
// without the signature's evidence is completed when the spec requires a
// signature and upstream can be asked.
//
// The same spec, old lock and answers give the same lock. The clock has no say in it.
func (k *Locker) Lock(ctx context.Context, s *Spec, old *Lock) (*Lock, error) {
	return k.lock(ctx, s, old, Update{Kubelet: true, Packages: true, local: true})
}

// Update resolves only the parts that u names. Of the others, files beside the
// spec among them, what old has stays, as far as it answers the spec.
//
// With u.Kubelet also a version that the spec names itself moves, to the newest
// patch of its minor release. The spec that is returned names the new ones, and
// the lock answers that spec. Write both in this order, [Spec.SaveVersions] and
// [Lock.Save]: in between the lock is stale, and [Locker.Lock] completes it.
func (k *Locker) Update(ctx context.Context, s *Spec, old *Lock, u Update) (*Spec, *Lock, error) {
	next := s
	if u.Kubelet {
		var versions []string
		for _, a := range k.newest(ctx, s) {
			if a.err != nil {
				return nil, nil, fmt.Errorf("lock %s: %w", s.dir, a.err)
			}
			versions = append(versions, a.asked)
		}
		next = s.withVersions(versions)
	}
	l, err := k.lock(ctx, next, old, u)
	return next, l, err
}

// lock resolves s, and what u does not name only where old has no answer.
func (k *Locker) lock(ctx context.Context, s *Spec, old *Lock, u Update) (*Lock, error) {
	if old == nil {
		old = &Lock{}
	}
	l := &Lock{APIVersion: strict.APIVersion, Kind: lockKind, Spec: s.Question()}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		l.Upstream, err = k.lockUpstream(ctx, s, old, u.Kubelet)
		return err
	})
	g.Go(func() (err error) {
		l.Debian, err = k.lockDebian(ctx, s, old, u.Packages)
		return err
	})
	g.Go(func() (err error) {
		l.Local, err = s.lockLocal(old, u.local)
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

// lockUpstream resolves the versions and pins every file of them that is needed.
// A channel is what it was in old, unless it is to move.
func (k *Locker) lockUpstream(ctx context.Context, s *Spec, old *Lock, move bool) ([]LockedUpstream, error) {
	releases := make([]LockedUpstream, len(s.Upstream.Versions))
	g, ctx := errgroup.WithContext(ctx)
	for i, asked := range s.Upstream.Versions {
		g.Go(func() (err error) {
			releases[i], err = k.lockRelease(ctx, s, old, asked, move)
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
func (k *Locker) lockRelease(ctx context.Context, s *Spec, old *Lock, asked string, move bool) (LockedUpstream, error) {
	version := old.answer(asked)
	if move || version == "" {
		var err error
		if version, err = k.Upstream.Resolve(ctx, asked); err != nil {
			return LockedUpstream{}, err
		}
	}
	l := LockedUpstream{Version: version, Files: make(map[string][]upstream.Pin)}
	if asked != version {
		l.Asked = asked
	}
	before, _ := old.release(version)
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

// answer returns the version that a channel was when l was made; "" when l does not say.
func (l *Lock) answer(channel string) string {
	for _, u := range l.Upstream {
		if u.Asked == channel {
			return u.Version
		}
	}
	return ""
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

// lockLocal hashes the files that stand beside the spec. One that old knows is
// what it was, unless it is to move.
func (s *Spec) lockLocal(old *Lock, move bool) ([]LockedFile, error) {
	var names []string
	for _, p := range s.platforms() {
		for _, f := range s.Local {
			names = append(names, f.file(p.Architecture))
		}
	}
	slices.Sort(names)
	var locked []LockedFile
	for _, name := range slices.Compact(names) {
		f, known := old.local(name)
		if move || !known {
			var err error
			if f, err = s.hashLocal(name); err != nil {
				return nil, fmt.Errorf("local: %w", err)
			}
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
