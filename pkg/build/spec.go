package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// SpecFile is the name of the file that a [Spec] is read from.
const SpecFile = "image.yaml"

// maxKeyring bounds the keyring file, in bytes. Debian's has 60 kB.
const maxKeyring = 1 << 20

// Spec says what is in an image. It is the file image.yaml.
type Spec struct {
	strict.Header `yaml:",inline"`

	Platforms []string `yaml:"platforms"` // "linux/amd64", "linux/arm64"
	Upstream  Upstream `yaml:"upstream"`
	Packages  Packages `yaml:"packages"`

	Groups       []rootfs.Group       `yaml:"groups"`
	Users        []rootfs.User        `yaml:"users"`
	Directories  []rootfs.Directory   `yaml:"directories"`
	Files        []rootfs.File        `yaml:"files"`
	Links        []rootfs.Link        `yaml:"links"`
	Alternatives []rootfs.Alternative `yaml:"alternatives"`

	Entrypoint  []string          `yaml:"entrypoint"`
	Cmd         []string          `yaml:"cmd"`
	Environment map[string]string `yaml:"environment"`
	Workdir     string            `yaml:"workdir"`
	Labels      map[string]string `yaml:"labels"`      // of the image's config
	Annotations map[string]string `yaml:"annotations"` // of manifests and index

	dir     string
	sum     string // sha256 of the file
	keyring []byte
}

// Upstream says what comes from Kubernetes.
type Upstream struct {
	Version string           `yaml:"version"` // "v1.36.2", or a channel that locking resolves: "stable-1.36"
	Require []upstream.Proof `yaml:"require"` // default: pin and signature
	Bases   []string         `yaml:"bases"`   // default: upstream.DefaultBase
	Rekor   string           `yaml:"rekor"`   // default: upstream.DefaultRekor
	Files   []UpstreamFile   `yaml:"files"`
}

// UpstreamFile is one file of the image: a member of the node tarball, or a
// binary that is published on its own.
type UpstreamFile struct {
	Member string `yaml:"member" json:"member,omitempty"` // "kubernetes/node/bin/kubelet"
	Name   string `yaml:"name" json:"name,omitempty"`     // "kubelet"; exactly one of the two is given
	Path   string `yaml:"path" json:"path"`               // "/usr/local/bin/kubelet"
}

// source returns what has to be fetched for the file, relative to a base URL.
func (f UpstreamFile) source(version, arch string) string {
	if f.Member != "" {
		return upstream.NodeTarball(version, arch)
	}
	return upstream.Binary(version, arch, f.Name)
}

// Packages says what comes from Debian.
type Packages struct {
	Suite   string   `yaml:"suite"`
	Keyring string   `yaml:"keyring"` // file beside the spec with the keys that may sign the suite
	Archive string   `yaml:"archive"` // base URL; default: what the user or apt's configuration says
	Install []string `yaml:"install"`
	Exclude []string `yaml:"exclude"` // globs of paths that are left out
	Keep    []string `yaml:"keep"`    // globs of paths that stay in spite of that
}

// LoadSpec reads image.yaml in dir, and the keyring beside it. Every mistake in
// the file is a [*strict.Error].
func LoadSpec(dir string) (*Spec, error) {
	path := filepath.Join(dir, SpecFile)
	data, err := readBeside(dir, SpecFile, strict.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	s := &Spec{dir: dir, sum: hex.EncodeToString(sum[:])}
	if err := strict.Decode(path, data, "Image", s); err != nil {
		return nil, err
	}
	if len(s.Upstream.Require) == 0 {
		s.Upstream.Require = []upstream.Proof{upstream.Pinned, upstream.Signature}
	}
	slices.Sort(s.Platforms)
	if err := s.validate(); err != nil {
		return nil, &strict.Error{File: path, Msg: err.Error()}
	}
	if s.keyring, err = readBeside(dir, s.Packages.Keyring, maxKeyring); err != nil {
		return nil, &strict.Error{File: path, Msg: fmt.Sprintf("packages.keyring: %v", err)}
	}
	return s, nil
}

// readBeside reads a file of the directory, and none that a link leads to elsewhere.
func readBeside(dir, name string, max int64) ([]byte, error) {
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
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, max)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: empty", name)
	}
	return data, nil
}

// Dir returns the directory that the spec was read from.
func (s *Spec) Dir() string { return s.dir }

// Keyring returns the OpenPGP keys that may sign the Debian suite.
func (s *Spec) Keyring() []byte { return s.keyring }

// platforms returns the platforms, sorted.
func (s *Spec) platforms() []v1.Platform {
	platforms := make([]v1.Platform, len(s.Platforms))
	for i, name := range s.Platforms {
		os, arch, _ := strings.Cut(name, "/")
		platforms[i] = v1.Platform{OS: os, Architecture: arch}
	}
	return platforms
}

// question is the part of a spec that a lock answers. What is not in it, such as
// users or links, may change without locking again.
type question struct {
	Platforms []string       `json:"platforms"`
	Version   string         `json:"version"`
	Sources   []UpstreamFile `json:"sources"`
	Suite     string         `json:"suite"`
	Keyring   string         `json:"keyring"` // sha256: other keys may give other answers
	Install   []string       `json:"install"`
}

// Question returns the digest of what a lock of s must answer.
func (s *Spec) Question() string {
	keyring := sha256.Sum256(s.keyring)
	q := question{Platforms: s.Platforms, Version: s.Upstream.Version, Suite: s.Packages.Suite,
		Keyring: hex.EncodeToString(keyring[:]), Install: slices.Sorted(slices.Values(s.Packages.Install))}
	for _, f := range s.Upstream.Files {
		q.Sources = append(q.Sources, UpstreamFile{Member: f.Member, Name: f.Name})
	}
	return digestJSON(q)
}

// digestJSON returns the digest of v's JSON. v must be made of structs, slices,
// strings and maps of them, which always marshal, and always alike.
func digestJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(errors.Join(errors.New("marshal what always marshals"), err))
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// parameters is what provenance says that the user asked for.
func (s *Spec) parameters() map[string]any {
	return map[string]any{
		"platforms": s.Platforms,
		"version":   s.Upstream.Version,
		"require":   s.Upstream.Require,
		"suite":     s.Packages.Suite,
		"install":   s.Packages.Install,
		"spec":      s.Question(),
	}
}
