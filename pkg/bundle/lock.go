package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
)

// LockFile is the name of the file beside bundle.yaml that a [Lock] is read from.
const LockFile = "bundle.lock.json"

const lockKind = "BundleLock"

// Lock says which bytes the images of a bundle are. It is the file
// bundle.lock.json.
type Lock struct {
	strict.Header `yaml:",inline"`
	Images        map[string]LockedImage `yaml:"images" json:"images"`

	warnings []string // of the one that was just made
}

// LockedImage is the digest that the sources of an image were asked for.
type LockedImage struct {
	Sources Sources `yaml:"sources" json:"sources"` // as bundle.yaml had them
	From    string  `yaml:"from" json:"from"`       // the one that answered
	Digest  string  `yaml:"digest" json:"digest"`
}

// lockedDigest is the only form in which a lock names bytes.
var lockedDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Registries is asked what references mean while a lock is made.
type Registries interface {
	// Ask returns the digest that ref, with a tag or a digest, stands for, and
	// whether that is of several platforms.
	Ask(ctx context.Context, ref string) (digest string, index bool, err error)
	// Outage tells whether err means that nobody could say, and not that there is
	// no such thing.
	Outage(err error) bool
}

// NewLock asks for the digest of every image: of its sources in order, and the
// first that answers is believed, or the one that has a digest already. The
// kubelet without a tag is the version of Kubernetes that the bundle is for.
//
// Each other source is asked for the same digest: one that answers that it does
// not have it is an error, since machines may be sent there (CATALOGUE K08). One
// that cannot be asked is not; see [Lock.Warnings].
func NewLock(ctx context.Context, c *Config, reg Registries) (*Lock, error) {
	l := &Lock{Header: strict.Header{APIVersion: c.APIVersion, Kind: lockKind}, Images: make(map[string]LockedImage)}
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		q := question{reg: reg, name: name, sources: c.Images[name], tag: c.defaultTag(name)}
		i, err := q.lock(ctx)
		if err != nil {
			return nil, fmt.Errorf("lock image %s: %w", name, err)
		}
		l.Images[name] = *i
		l.warnings = append(l.warnings, q.warnings...)
	}
	return l, nil
}

// Warnings says what was found that works and may not be what was meant, or
// could not be found out.
func (l *Lock) Warnings() []string { return l.warnings }

// defaultTag is the tag of an image that none was written for.
func (c *Config) defaultTag(name string) string {
	if name == kubeletImage {
		return c.Kubernetes
	}
	return ""
}

// question is about one image.
type question struct {
	reg      Registries
	name     string
	sources  Sources
	tag      string // of a source that has none
	asked    []string
	warnings []string
}

// lock answers the question: which digest, and does every source have it.
func (q *question) lock(ctx context.Context) (*LockedImage, error) {
	i, err := q.first(ctx)
	if err != nil {
		return nil, err
	}
	for _, source := range q.sources {
		if slices.Contains(q.asked, source) {
			continue
		}
		ref := repositoryOf(source) + "@" + i.Digest
		if _, err := q.ask(ctx, ref); err != nil && !q.reg.Outage(err) {
			return nil, fmt.Errorf("%s: want in every source what one of them has: %w", ref, err)
		} else if err != nil {
			q.warn("%s could not be asked: %v", ref, err)
		}
	}
	return i, nil
}

// first returns the digest that a source is written with, or else that of the
// first one whose tag is known. Sources that could not be asked are not asked again.
func (q *question) first(ctx context.Context) (*LockedImage, error) {
	for _, source := range q.sources {
		if m := sourceForm.FindStringSubmatch(source); m[3] != "" {
			return &LockedImage{q.sources, source, strings.TrimPrefix(m[3], "@")}, nil
		}
	}
	var failed []error
	for _, source := range q.sources {
		ref := source
		if repositoryOf(source) == source {
			if q.tag == "" {
				return nil, fmt.Errorf("%s: got neither tag nor digest, want one", source)
			}
			ref += ":" + q.tag
		}
		digest, err := q.ask(ctx, ref)
		if err == nil {
			q.asked = append(q.asked, source)
			return &LockedImage{q.sources, ref, digest}, nil
		}
		if q.reg.Outage(err) {
			q.asked = append(q.asked, source)
			q.warn("%s could not be asked: %v", ref, err)
		}
		failed = append(failed, fmt.Errorf("%s: %w", ref, err))
	}
	return nil, errors.Join(failed...)
}

// ask warns of an image for one kind of machine: often it is one entry of the
// index that was meant (CATALOGUE K07).
func (q *question) ask(ctx context.Context, ref string) (string, error) {
	digest, index, err := q.reg.Ask(ctx, ref)
	if err != nil {
		return "", err
	}
	if !lockedDigest.MatchString(digest) {
		return "", fmt.Errorf("got digest %.80q, want sha256: and 64 hexadecimal digits", digest)
	}
	if !index {
		q.warn("%s is an image for one platform, and other machines could not run it", ref)
	}
	return digest, nil
}

func (q *question) warn(format string, args ...any) {
	q.warnings = append(q.warnings, "images."+q.name+": "+fmt.Sprintf(format, args...))
}

// Save writes the lock beside the bundle.yaml of c, whole or not at all.
func (l *Lock) Save(c *Config) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return fmt.Errorf("save bundle lock: %w", err)
	}
	return atomicfile.WriteBytes(filepath.Join(filepath.Dir(c.file), LockFile), 0o644, b.Bytes())
}

// LoadLock reads the lock beside the bundle.yaml of c; nil where there is none.
// One that was made for other sources, or that names no digest, is a [*strict.Error].
func LoadLock(c *Config) (*Lock, error) {
	path := filepath.Join(filepath.Dir(c.file), LockFile)
	l := &Lock{}
	err := strict.DecodeFile(path, lockKind, l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		locked, ok := l.Images[name]
		if !ok || !slices.Equal(locked.Sources, c.Images[name]) {
			return nil, &strict.Error{File: path, Msg: fmt.Sprintf("images.%s: bundle.yaml asks for something else: imgctl bundle lock asks again", name)}
		}
		if !lockedDigest.MatchString(locked.Digest) {
			return nil, &strict.Error{File: path, Msg: fmt.Sprintf("images.%s.digest: got %.80q, want sha256: and 64 hexadecimal digits", name, locked.Digest)}
		}
	}
	return l, nil
}

// digestOf is what the lock says of an image, by its first source.
func (l *Lock) digestOf(source string) (digest string, ok bool) {
	if l == nil {
		return "", false
	}
	for _, i := range l.Images {
		if i.Sources[0] == source {
			return i.Digest, true
		}
	}
	return "", false
}
