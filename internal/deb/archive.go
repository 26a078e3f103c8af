package deb

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/download"
)

const (
	// component is the part of the archive that is read: what is free by
	// Debian's own guidelines, and all that a node image needs.
	component = "main"
	// maxInRelease bounds a suite's InRelease; trixie's has 140 KB.
	maxInRelease = 8 << 20
	// maxIndex bounds a Packages index, compressed and not; trixie's main has 53 MB.
	maxIndex = 512 << 20
)

// Archive is a Debian archive. Its methods may be called concurrently.
type Archive struct {
	Download *download.Client
	Name     string           // [Main] or [Security]; "" means [Main]
	Base     string           // URL that "dists" and "pool" are below; "" means Debian's own for the name
	Keyring  []byte           // OpenPGP certificates that may sign suites, binary or armored; none: nothing is accepted
	Now      func() time.Time // nil means [time.Now]

	// Snapshot is the base URL of a service with the layout of snapshot.debian.org,
	// such as [DefaultSnapshot]. It is asked for a package that the archive does not
	// have any more. "": nobody is.
	Snapshot string

	// UnsafeExpired accepts a suite whose Valid-Until has passed, as an old
	// snapshot of the archive must be.
	UnsafeExpired bool
}

// Suite is what an archive offered at one moment: the state that a lock is made of.
type Suite struct {
	Name       string    // as published: "stable"
	Codename   string    // as published: "trixie"
	Date       time.Time // when the archive made it
	ValidUntil time.Time // zero: for ever
	InRelease  string    // SHA-256 of the InRelease file, in hexadecimal
	Packages   map[string]*Index
}

// File names one file of the archive and the bytes that it must have.
type File struct {
	Filename string // relative to the archive
	Size     int64
	SHA256   string
	// Date is when a suite of the archive had the file: [Suite.Date]. Snapshots are
	// asked for by it. Zero: it is not known, and they are not asked.
	Date time.Time
}

// File returns what [Archive.Fetch] needs to know about the package.
func (p Package) File() File { return File{Filename: p.Filename, Size: p.Size, SHA256: p.SHA256} }

// Suite reads the main component of a suite, named by suite name or codename,
// for each of the architectures ("amd64", "arm64").
//
// Its InRelease must be signed by a key of the keyring, carry that name and be
// neither expired ([*ExpiredError]) nor from the future; everything else follows
// from its digests. A bad signature is a [*SignatureError], an index other than
// the signed one a [*download.Mismatch].
func (a *Archive) Suite(ctx context.Context, suite string, arches ...string) (*Suite, error) {
	s, err := a.suite(ctx, suite, arches)
	if err != nil {
		return nil, fmt.Errorf("read suite %.80s of %s: %w", suite, a.base(), err)
	}
	return s, nil
}

func (a *Archive) suite(ctx context.Context, suite string, arches []string) (*Suite, error) {
	if !isWord(suite, "+-.") {
		return nil, fmt.Errorf("not the name of a suite")
	}
	for _, arch := range arches {
		if !isArch(arch) || arch == "all" {
			return nil, fmt.Errorf("%.80q is not an architecture", arch)
		}
	}
	r, digest, err := a.release(ctx, suite, arches)
	if err != nil {
		return nil, err
	}
	indexes := make([]*Index, len(arches))
	g, ctx := errgroup.WithContext(ctx)
	for i, arch := range arches {
		g.Go(func() (err error) {
			indexes[i], err = a.index(ctx, suite, r, arch)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	s := &Suite{Name: r.Suite, Codename: r.Codename, Date: r.Date, ValidUntil: r.ValidUntil,
		InRelease: digest, Packages: make(map[string]*Index)}
	for i, arch := range arches {
		indexes[i].belongsTo(r.Codename, a.name())
		s.Packages[arch] = indexes[i]
	}
	return s, nil
}

// release fetches and checks InRelease and returns it with its digest.
func (a *Archive) release(ctx context.Context, suite string, arches []string) (*release, string, error) {
	keyring, err := readKeyring(a.Keyring)
	if err != nil {
		return nil, "", err
	}
	u, err := a.url("dists/" + suite + "/InRelease")
	if err != nil {
		return nil, "", err
	}
	data, err := a.Download.Read(ctx, u, maxInRelease)
	if err != nil {
		return nil, "", err
	}
	text, err := openInRelease(data, keyring, a.now())
	if err != nil {
		return nil, "", err
	}
	r, err := parseRelease(text)
	if err != nil {
		return nil, "", err
	}
	if err := r.check(suite, arches); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	return r, hex.EncodeToString(sum[:]), r.checkDates(a.now(), a.UnsafeExpired)
}

// index fetches the Packages index of one architecture. By its digest first,
// when the archive offers that: then a mirror in the middle of an update still
// has the one that InRelease means.
func (a *Archive) index(ctx context.Context, suite string, r *release, arch string) (*Index, error) {
	dir := component + "/binary-" + arch
	path := dir + "/Packages.xz"
	f, ok := r.Files[path]
	if !ok {
		return nil, fmt.Errorf("InRelease lists no %s", path)
	}
	if f.Size == 0 || f.Size > maxIndex {
		return nil, fmt.Errorf("InRelease lists %s with %d bytes, want 1 to %d", path, f.Size, maxIndex)
	}
	paths := []string{"dists/" + suite + "/" + path}
	if r.ByHash {
		paths = []string{"dists/" + suite + "/" + dir + "/by-hash/SHA256/" + f.SHA256, paths[0]}
	}
	urls, err := a.urls(paths...)
	if err != nil {
		return nil, err
	}
	got, err := a.Download.Get(ctx, path, urls, download.Want{Size: f.Size, SHA256: f.SHA256})
	if err != nil {
		return nil, err
	}
	ix, err := readIndex(got.Path, arch)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return ix, nil
}

// readIndex reads the compressed index at path.
func readIndex(path, arch string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, err := decompress(f, ".xz", maxIndex)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return parseIndex(plain, arch)
}

func (a *Archive) name() string { return cmp.Or(a.Name, Main) }

func (a *Archive) base() string {
	switch {
	case a.Base != "":
		return strings.TrimRight(a.Base, "/")
	case a.name() == Security:
		return DefaultSecurityBase
	}
	return DefaultBase
}

func (a *Archive) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// url returns where path, relative to the archive, is to be found.
func (a *Archive) url(path string) (string, error) {
	return join("archive", a.base(), path)
}

// join returns the URL of path below base, which what names in an error.
func join(what, base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%s %.200q: want an http or https URL", what, base)
	}
	return u.JoinPath(path).String(), nil
}

func (a *Archive) urls(paths ...string) ([]string, error) {
	urls := make([]string, len(paths))
	for i, p := range paths {
		u, err := a.url(p)
		if err != nil {
			return nil, err
		}
		urls[i] = u
	}
	return urls, nil
}
