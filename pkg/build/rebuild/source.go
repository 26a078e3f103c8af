package rebuild

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// SourceType is the artifact type of a [Source].
const SourceType = "application/vnd.imgctl.image-source.v1"

const (
	annotationTitle   = "org.opencontainers.image.title"
	annotationCreated = "org.opencontainers.image.created"
)

// Bounds of a source that is read.
const (
	maxFiles = 16
	maxFile  = 16 << 20
)

// Source is what an image was made of that nobody else publishes: image.yaml,
// image.lock.json and the keyring. Beside the image, as an artifact that refers to
// it, it makes the image's reference all that a rebuild takes.
//
// It needs no signature of its own: the image's signed provenance has the digest
// of every file.
type Source struct {
	files []file
}

type file struct {
	name string // relative to the spec's directory
	data []byte
}

// NewSource returns the source of the images that s and l mean, l as it was
// built. That a file of s has changed since it was loaded is an [*InputError].
func NewSource(s *build.Spec, l *build.Lock) (*Source, error) {
	spec, err := readFile(s.Dir(), build.SpecFile)
	if err != nil {
		return nil, err
	}
	lock, err := l.Bytes()
	if err != nil {
		return nil, err
	}
	source := &Source{[]file{{build.SpecFile, spec}, {build.LockFile, lock}}}
	if s.Keyring() != nil {
		source.files = append(source.files, file{s.Packages.Keyring, bytes.Clone(s.Keyring())})
	}
	documents, err := build.Documents(s, l)
	if err != nil {
		return nil, err
	}
	for i, d := range documents {
		if got := sum(source.files[i].data); got != d.Digests["sha256"] {
			return nil, &InputError{Name: d.Name, Got: got, Want: d.Digests["sha256"]}
		}
	}
	return source, nil
}

// Image returns the artifact that publishes the source beside subject, the index
// of the image. created is the image's own time: the same source gives the same digest.
func (s *Source) Image(subject v1.Descriptor, created time.Time) (v1.Image, error) {
	a := artifact.Artifact{ArtifactType: SourceType, Subject: &subject,
		Annotations: map[string]string{annotationCreated: created.UTC().Format(time.RFC3339)}}
	for _, f := range s.files {
		a.Layers = append(a.Layers, artifact.Content{MediaType: mediaType(f.name), Body: f.data, Annotations: map[string]string{annotationTitle: f.name}})
	}
	return a.Image()
}

func mediaType(name string) string {
	switch path.Ext(name) {
	case ".yaml":
		return "application/yaml"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}

// ReadSource reads the artifact whose manifest is m. read returns a blob that the
// manifest names; it is not called for one that is too large. Every file must be an
// input that the claim names, with that digest: else the error is an [*InputError].
func ReadSource(m *v1.Manifest, c *Claim, read func(v1.Descriptor) ([]byte, error)) (*Source, error) {
	if m.ArtifactType != SourceType {
		return nil, fmt.Errorf("source: artifact type: got %.100q, want %s", m.ArtifactType, SourceType)
	}
	if len(m.Layers) > maxFiles {
		return nil, fmt.Errorf("source: got %d files, want at most %d", len(m.Layers), maxFiles)
	}
	source := &Source{}
	for _, l := range m.Layers {
		name := l.Annotations[annotationTitle]
		switch {
		case !fs.ValidPath(name) || name == "." || !filepath.IsLocal(filepath.FromSlash(name)):
			return nil, fmt.Errorf("source: title: got %.200q, want a clean path below the spec's directory", name)
		case l.Size > maxFile:
			return nil, fmt.Errorf("source: %s: got %d bytes, want at most %d", name, l.Size, maxFile)
		}
		data, err := read(l)
		if err != nil {
			return nil, fmt.Errorf("source: %s: %w", name, err)
		}
		if err := c.check(name, sum(data)); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		source.files = append(source.files, file{name, data})
	}
	return source, nil
}

// WriteTo writes the files below dir, which exists.
func (s *Source) WriteTo(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range s.files {
		if err := root.MkdirAll(path.Dir(f.name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(f.name, f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Load reads the spec and the lock in dir. Both, and the keyring, must be those
// that the claim names; else the error is an [*InputError].
//
// The lock gets the time that the image has, which need not be the one in the
// file: SOURCE_DATE_EPOCH may have been set when it was built.
func Load(dir string, c *Claim) (*build.Spec, *build.Lock, error) {
	raw, err := readFile(dir, build.SpecFile)
	if err != nil {
		return nil, nil, err
	}
	if err := c.check(build.SpecFile, sum(raw)); err != nil { // before a mistake in another file is called one
		return nil, nil, err
	}
	spec, err := build.LoadSpec(dir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := build.LoadLock(dir)
	if err != nil {
		return nil, nil, err
	}
	lock.Created = c.Created
	documents, err := build.Documents(spec, lock)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range documents {
		if err := c.check(d.Name, d.Digests["sha256"]); err != nil {
			return nil, nil, err
		}
	}
	return spec, lock, nil
}

// readFile reads a file of dir, and none that a link leads to elsewhere.
func readFile(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("larger than 16 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return data, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
