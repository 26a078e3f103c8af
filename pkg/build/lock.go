package build

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// LockFile is the name of the file beside [SpecFile] that a [Lock] is read from.
const LockFile = "image.lock.json"

const lockKind = "ImageLock"

// Lock says which bytes a spec means. It is the file image.lock.json.
type Lock struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Created is the time of the image: when Debian made the suite that is locked.
	Created time.Time `json:"created"`
	// Spec is the digest of what the lock answers: [Spec.Question].
	Spec     string           `json:"spec"`
	Upstream []LockedUpstream `json:"upstream,omitempty"` // in the order of the spec's versions
	Debian   LockedDebian     `json:"debian,omitzero"`
	Local    []LockedFile     `json:"local,omitempty"` // sorted by name
}

// LockedUpstream is one release of Kubernetes.
type LockedUpstream struct {
	Asked   string                    `json:"asked,omitempty"` // the channel that Version was the answer to; "" when the spec names the version
	Version string                    `json:"version"`
	Files   map[string][]upstream.Pin `json:"files"` // by platform, sorted by path
}

// LockedDebian is the state of the Debian suites.
type LockedDebian struct {
	Suites []LockedSuite `json:"suites"` // in the spec's order
	// Packages are those of each variant ("default" when there are none), by platform, sorted by name.
	Packages map[string]map[string][]LockedPackage `json:"packages"`
}

// LockedSuite is the state of one suite.
type LockedSuite struct {
	Suite     string    `json:"suite"`
	Codename  string    `json:"codename"`
	Archive   string    `json:"archive,omitempty"` // "debian-security"; "" means "debian"
	Date      time.Time `json:"date"`
	InRelease string    `json:"inRelease"` // sha256
}

// LockedPackage is a Debian package.
type LockedPackage struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	Architecture  string `json:"architecture"`
	Archive       string `json:"archive,omitempty"` // as in [LockedSuite]
	Path          string `json:"path"`              // relative to the archive
	Size          int64  `json:"size"`              // bytes
	SHA256        string `json:"sha256"`
	Source        string `json:"source"`
	SourceVersion string `json:"sourceVersion"`
	// Before is what the lock had until the package last changed; nil when it never did.
	Before *LockedBefore `json:"before,omitempty"`
}

// LockedBefore is what a package was.
type LockedBefore struct {
	Version string `json:"version,omitempty"` // "": it was not there
	Size    int64  `json:"size,omitempty"`    // bytes
}

// LockedFile is a file that stands beside the spec.
type LockedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// lockKey is the name under which a lock has the packages of a variant.
func lockKey(variant string) string {
	if variant == "" {
		return defaultVariant
	}
	return variant
}

// defaultVariant is what a lock calls the only variant of a spec that has none.
const defaultVariant = "default"

// archiveName returns the name of the archive that the package is in.
func (p LockedPackage) archiveName() string { return cmp.Or(p.Archive, deb.Main) }

// file returns what fetching the package takes. Its archive had it, with all
// others, at the date of the newest of its suites.
func (l *Lock) file(p LockedPackage) deb.File {
	f := deb.File{Filename: p.Path, Size: p.Size, SHA256: p.SHA256}
	for _, s := range l.Debian.Suites {
		if s.Archive == p.Archive && s.Date.After(f.Date) {
			f.Date = s.Date
		}
	}
	return f
}

// A StaleError says that a lock answers another question than the spec asks, or that there is none.
type StaleError struct {
	Dir string // of spec and lock
	Why string
}

// Error is one line.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%s: %s", filepath.Join(e.Dir, LockFile), e.Why)
}

// Hint is what to do about it.
func (e *StaleError) Hint() string { return "imgctl lock " + e.Dir }

// LoadLock reads image.lock.json in dir. Every mistake in the file is a
// [*strict.Error]; that there is none is a [*StaleError] for which
// errors.Is(err, fs.ErrNotExist) does not hold.
func LoadLock(dir string) (*Lock, error) {
	path := filepath.Join(dir, LockFile)
	data, err := readBeside(dir, LockFile, strict.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(dir); statErr != nil {
			return nil, statErr
		}
		return nil, &StaleError{Dir: dir, Why: "missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parseLock(path, data)
}

// parseLock reads a lock from the bytes of the file that name stands for.
func parseLock(name string, data []byte) (*Lock, error) {
	var l Lock
	if err := decodeJSON(name, data, &l); err != nil {
		return nil, err
	}
	for _, f := range []struct{ field, got, want string }{
		{"apiVersion", l.APIVersion, strict.APIVersion},
		{"kind", l.Kind, lockKind},
	} {
		if f.got != f.want {
			return nil, &strict.Error{File: name, Msg: fmt.Sprintf("%s: got %q, want %q", f.field, f.got, f.want)}
		}
	}
	if err := l.validate(); err != nil {
		return nil, &strict.Error{File: name, Msg: err.Error()}
	}
	return &l, nil
}

// validate checks what other code relies on: digests that are digests, sizes,
// times, and paths that stay below their base.
func (l *Lock) validate() error {
	if l.Created.IsZero() || l.Created.Unix() < 0 || l.Created.Unix() > maxEpoch || l.Created.Nanosecond() != 0 {
		return fmt.Errorf("created: got %s, want whole seconds after 1970", l.Created)
	}
	for i, u := range l.Upstream {
		if err := u.validate(); err != nil {
			return fmt.Errorf("upstream[%d].%w", i, err)
		}
	}
	if err := l.Debian.validate(); err != nil {
		return fmt.Errorf("debian.%w", err)
	}
	for i, f := range l.Local {
		if !fs.ValidPath(f.Name) || f.Size < 0 || !download.IsDigest(f.SHA256, 32) {
			return fmt.Errorf("local[%d]: got %+v, want a clean path, a size and a sha256", i, f)
		}
	}
	return nil
}

func (u LockedUpstream) validate() error {
	if !isVersion(u.Version) {
		return fmt.Errorf("version: got %q, want one such as v1.36.2", u.Version)
	}
	for platform, pins := range u.Files {
		for i, p := range pins {
			if err := validatePin(p); err != nil {
				return at(err, "files[%s][%d]", platform, i)
			}
		}
	}
	return nil
}

func (d LockedDebian) validate() error {
	archives := make(map[string]bool)
	for i, s := range d.Suites {
		if !suiteName.MatchString(s.Suite) || s.Archive != "" && !archiveName.MatchString(s.Archive) {
			return fmt.Errorf("suites[%d]: got %q of archive %q", i, s.Suite, s.Archive)
		}
		if !download.IsDigest(s.InRelease, 32) {
			return fmt.Errorf("suites[%d].inRelease: got %.80q, want a sha256", i, s.InRelease)
		}
		archives[s.Archive] = true
	}
	for variant, platforms := range d.Packages {
		for platform, packages := range platforms {
			for i, p := range packages {
				if err := p.validate(archives); err != nil {
					return at(err, "packages[%s][%s][%d]", variant, platform, i)
				}
				if i > 0 && packages[i-1].Name >= p.Name {
					return fmt.Errorf("packages[%s][%s][%d]: %s after %s, want each once and sorted", variant, platform, i, p.Name, packages[i-1].Name)
				}
			}
		}
	}
	return nil
}

func validatePin(p upstream.Pin) error {
	switch {
	case !fs.ValidPath(p.Path) || p.Path == ".":
		return fmt.Errorf("path: got %q, want a clean path relative to a base", p.Path)
	case p.Size < 0 || p.Size > upstream.MaxFile:
		return fmt.Errorf("size: got %d, want at most %d", p.Size, int64(upstream.MaxFile))
	case p.SHA256 != "" && !download.IsDigest(p.SHA256, 32):
		return fmt.Errorf("sha256: got %.80q, want 64 lower-case hexadecimal digits", p.SHA256)
	case p.SHA512 != "" && !download.IsDigest(p.SHA512, 64):
		return fmt.Errorf("sha512: got %.150q, want 128 lower-case hexadecimal digits", p.SHA512)
	case p.SHA256 == "" && p.SHA512 == "":
		return fmt.Errorf("%s: no digest", p.Path)
	}
	for member, sum := range p.Members {
		if !download.IsDigest(sum, 32) {
			return fmt.Errorf("members: %s: got %.80q, want a sha256", member, sum)
		}
	}
	return nil
}

// validate checks one package. It must come from an archive of one of the suites.
func (p LockedPackage) validate(archives map[string]bool) error {
	switch {
	case !archives[p.Archive]:
		return fmt.Errorf("archive: got %q, want that of one of the suites", p.Archive)
	case !packageName.MatchString(p.Name):
		return fmt.Errorf("name: got %q, want that of a package", p.Name)
	case p.Version == "" || strings.ContainsAny(p.Version, " \n"):
		return fmt.Errorf("version: got %q", p.Version)
	case !fs.ValidPath(p.Path) || p.Path == ".":
		return fmt.Errorf("path: got %q, want a clean path relative to the archive", p.Path)
	case p.Size <= 0:
		return fmt.Errorf("size: got %d, want more", p.Size)
	case !download.IsDigest(p.SHA256, 32):
		return fmt.Errorf("sha256: got %.80q, want 64 lower-case hexadecimal digits", p.SHA256)
	}
	return nil
}

// Bytes returns the file that the lock is written as: the same lock gives the same bytes.
func (l *Lock) Bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(l); err != nil {
		return nil, fmt.Errorf("encode lock: %w", err)
	}
	return b.Bytes(), nil
}

// Save writes image.lock.json in dir, whole or not at all.
func (l *Lock) Save(dir string) error {
	data, err := l.Bytes()
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, LockFile), 0o644, data)
}

// Check compares the lock with the spec that it should answer. A difference is a [*StaleError].
func (l *Lock) Check(s *Spec) error {
	if got := s.Question(); l.Spec != got {
		return &StaleError{Dir: s.dir, Why: fmt.Sprintf("made for another %s (got %.19s…, want %.19s…)", SpecFile, l.Spec, got)}
	}
	for _, t := range s.Targets(l) {
		for _, p := range s.platforms() {
			if why := newInput(s, l, t, p).missing(); why != "" {
				return &StaleError{Dir: s.dir, Why: "no " + why}
			}
		}
	}
	return nil
}

// missing names what the image needs and the lock does not have; "" when it has all.
func (in Input) missing() string {
	if len(in.Spec.Packages.Suites) > 0 && len(in.Packages()) == 0 {
		return "packages for " + in.name()
	}
	for _, path := range in.sources() {
		if _, ok := in.pin(path); !ok {
			return fmt.Sprintf("%s for %s", path, in.Platform)
		}
	}
	for _, f := range in.Spec.Local {
		name := f.file(in.Platform.Architecture)
		if _, ok := in.Lock.local(name); !ok {
			return name
		}
	}
	return ""
}

// release returns what the lock has of one version of Kubernetes.
func (l *Lock) release(version string) (LockedUpstream, bool) {
	i := slices.IndexFunc(l.Upstream, func(u LockedUpstream) bool { return u.Version == version })
	if i < 0 {
		return LockedUpstream{}, false
	}
	return l.Upstream[i], true
}

// pin finds an upstream file of the image's version.
func (in Input) pin(path string) (upstream.Pin, bool) {
	u, _ := in.Lock.release(in.Target.Version)
	return u.pin(in.Platform.String(), path)
}

func (u LockedUpstream) pin(platform, path string) (upstream.Pin, bool) {
	i := slices.IndexFunc(u.Files[platform], func(p upstream.Pin) bool { return p.Path == path })
	if i < 0 {
		return upstream.Pin{}, false
	}
	return u.Files[platform][i], true
}

// local finds a file that stands beside the spec.
func (l *Lock) local(name string) (LockedFile, bool) {
	i := slices.IndexFunc(l.Local, func(f LockedFile) bool { return f.Name == name })
	if i < 0 {
		return LockedFile{}, false
	}
	return l.Local[i], true
}

// Pins returns what the targets need from upstream, each file once, sorted by path.
func (l *Lock) Pins(targets []Target) []upstream.Pin {
	var pins []upstream.Pin
	for _, t := range targets {
		u, _ := l.release(t.Version)
		for _, files := range u.Files {
			pins = append(pins, files...)
		}
	}
	slices.SortFunc(pins, func(a, b upstream.Pin) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(pins, func(a, b upstream.Pin) bool { return a.Path == b.Path })
}

// Packages returns what the targets need from Debian, by the name of the archive,
// each package once (one for all architectures is in the lock of every platform), sorted by path.
func (l *Lock) Packages(targets []Target) map[string][]LockedPackage {
	byArchive := make(map[string][]LockedPackage)
	for _, t := range targets {
		for _, packages := range l.Debian.Packages[lockKey(t.Variant)] {
			for _, p := range packages {
				byArchive[p.archiveName()] = append(byArchive[p.archiveName()], p)
			}
		}
	}
	for name, packages := range byArchive {
		slices.SortFunc(packages, func(a, b LockedPackage) int { return strings.Compare(a.Path, b.Path) })
		byArchive[name] = slices.CompactFunc(packages, func(a, b LockedPackage) bool { return a.Path == b.Path })
	}
	return byArchive
}
