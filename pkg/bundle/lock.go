package bundle

import (
	"bytes"
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
}

// LockedImage is the digest that the sources of an image were asked for.
type LockedImage struct {
	Sources Sources `yaml:"sources" json:"sources"` // as bundle.yaml had them
	From    string  `yaml:"from" json:"from"`       // the one that answered
	Digest  string  `yaml:"digest" json:"digest"`
}

// lockedDigest is the only form in which a lock names bytes.
var lockedDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// NewLock asks for the digest of every image: of its sources in order, by
// resolve, and the first that answers is believed. A source with a digest is not
// asked. The kubelet without a tag is the version of Kubernetes that the bundle is for.
func NewLock(c *Config, resolve func(ref string) (digest string, err error)) (*Lock, error) {
	l := &Lock{Header: strict.Header{APIVersion: c.APIVersion, Kind: lockKind}, Images: make(map[string]LockedImage)}
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		i, err := lockImage(c.Images[name], c.defaultTag(name), resolve)
		if err != nil {
			return nil, fmt.Errorf("lock image %s: %w", name, err)
		}
		l.Images[name] = *i
	}
	return l, nil
}

// defaultTag is the tag of an image that none was written for.
func (c *Config) defaultTag(name string) string {
	if name == kubeletImage {
		return c.Kubernetes
	}
	return ""
}

func lockImage(sources Sources, tag string, resolve func(ref string) (string, error)) (*LockedImage, error) {
	var failed []error
	for _, source := range sources {
		ref := source
		m := sourceForm.FindStringSubmatch(source)
		if m[3] != "" {
			return &LockedImage{sources, source, strings.TrimPrefix(m[3], "@")}, nil
		}
		if m[2] == "" {
			if tag == "" {
				return nil, fmt.Errorf("%s: got neither tag nor digest, want one", source)
			}
			ref += ":" + tag
		}
		digest, err := resolve(ref)
		if err == nil && !lockedDigest.MatchString(digest) {
			err = fmt.Errorf("got digest %.80q, want sha256: and 64 hexadecimal digits", digest)
		}
		if err == nil {
			return &LockedImage{sources, ref, digest}, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", ref, err))
	}
	return nil, errors.Join(failed...)
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
