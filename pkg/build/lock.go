package build

import (
	"bytes"
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
	Spec     string         `json:"spec"`
	Upstream LockedUpstream `json:"upstream"`
	Debian   LockedDebian   `json:"debian"`
}

// LockedUpstream is the release of Kubernetes.
type LockedUpstream struct {
	Version string                    `json:"version"`
	Files   map[string][]upstream.Pin `json:"files"` // by platform, sorted by path
}

// LockedDebian is the state of a Debian suite.
type LockedDebian struct {
	Suite     string                     `json:"suite"`
	Codename  string                     `json:"codename"`
	Date      time.Time                  `json:"date"`
	InRelease string                     `json:"inRelease"` // sha256
	Packages  map[string][]LockedPackage `json:"packages"`  // by platform, sorted by name
}

// LockedPackage is a Debian package.
type LockedPackage struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	Architecture  string `json:"architecture"`
	Path          string `json:"path"` // relative to the archive
	Size          int64  `json:"size"` // bytes
	SHA256        string `json:"sha256"`
	Source        string `json:"source"`
	SourceVersion string `json:"sourceVersion"`
}

// file returns what fetching the package takes.
func (p LockedPackage) file() deb.File {
	return deb.File{Filename: p.Path, Size: p.Size, SHA256: p.SHA256}
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
	if !download.IsDigest(l.Debian.InRelease, 32) {
		return fmt.Errorf("debian.inRelease: got %.80q, want a sha256", l.Debian.InRelease)
	}
	for platform, pins := range l.Upstream.Files {
		for i, p := range pins {
			if err := validatePin(p); err != nil {
				return at(err, "upstream.files[%s][%d]", platform, i)
			}
		}
	}
	for platform, packages := range l.Debian.Packages {
		for i, p := range packages {
			if err := p.validate(); err != nil {
				return at(err, "debian.packages[%s][%d]", platform, i)
			}
			if i > 0 && packages[i-1].Name >= p.Name {
				return fmt.Errorf("debian.packages[%s][%d]: %s after %s, want each once and sorted", platform, i, p.Name, packages[i-1].Name)
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

func (p LockedPackage) validate() error {
	switch {
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
	for _, platform := range s.Platforms {
		if len(l.Debian.Packages[platform]) == 0 {
			return &StaleError{Dir: s.dir, Why: "no packages for " + platform}
		}
		_, arch, _ := strings.Cut(platform, "/")
		for _, f := range s.Upstream.Files {
			if _, ok := l.pin(platform, f.source(l.Upstream.Version, arch)); !ok {
				return &StaleError{Dir: s.dir, Why: fmt.Sprintf("no %s for %s", f.source(l.Upstream.Version, arch), platform)}
			}
		}
	}
	return nil
}

// pin finds an upstream file.
func (l *Lock) pin(platform, path string) (upstream.Pin, bool) {
	i := slices.IndexFunc(l.Upstream.Files[platform], func(p upstream.Pin) bool { return p.Path == path })
	if i < 0 {
		return upstream.Pin{}, false
	}
	return l.Upstream.Files[platform][i], true
}
