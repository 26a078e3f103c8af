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
	"github.com/imgctl/imgctl/pkg/build/inspect"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// SpecFile is the name of the file that a [Spec] is read from.
const SpecFile = "image.yaml"

// maxKeyring bounds the keyring file, in bytes. Debian's has 60 kB.
const maxKeyring = 1 << 20

// Spec says what is in an image, or in several that differ by version and
// variant. It is the file image.yaml.
type Spec struct {
	strict.Header `yaml:",inline"`

	Platforms []string `yaml:"platforms"` // "linux/amd64", "linux/arm64"
	Upstream  Upstream `yaml:"upstream"`  // may be left out
	Packages  Packages `yaml:"packages"`  // may be left out
	Local     []Local  `yaml:"local"`
	Additions `yaml:",inline"`
	Variants  []Variant `yaml:"variants"` // the first is the default

	Entrypoint  []string          `yaml:"entrypoint"`
	Cmd         []string          `yaml:"cmd"`
	Environment map[string]string `yaml:"environment"`
	User        string            `yaml:"user"` // who the entrypoint runs as: a name or number, with ":group" or not; default root
	Workdir     string            `yaml:"workdir"`
	Labels      map[string]string `yaml:"labels"`      // of the image's config
	Annotations map[string]string `yaml:"annotations"` // of manifests and index

	Compression Compression   `yaml:"compression"`
	Gates       inspect.Gates `yaml:"gates"` // what the image may have although [Build] refuses it in others

	dir     string
	sum     string // sha256 of the file
	keyring []byte
}

// Compression says how each layer is compressed: zstd at level 9 where the spec
// does not say, which podman and containerd pull faster than gzip (docs/compression.md).
type Compression struct {
	Packages layer.Compression `yaml:"packages"` // Debian's packages, with what the spec puts beside them
	Programs layer.Compression `yaml:"programs"` // upstream's and local files
}

// Additions are what the spec as a whole and each of its variants can add to
// the files of the packages.
type Additions struct {
	Groups       []rootfs.Group       `yaml:"groups"`
	Users        []rootfs.User        `yaml:"users"`
	Directories  []rootfs.Directory   `yaml:"directories"`
	Files        []rootfs.File        `yaml:"files"`
	Links        []rootfs.Link        `yaml:"links"`
	Alternatives []rootfs.Alternative `yaml:"alternatives"`
}

// with returns the lists of both, those of a first.
func (a Additions) with(b Additions) Additions {
	return Additions{
		Groups:       slices.Concat(a.Groups, b.Groups),
		Users:        slices.Concat(a.Users, b.Users),
		Directories:  slices.Concat(a.Directories, b.Directories),
		Files:        slices.Concat(a.Files, b.Files),
		Links:        slices.Concat(a.Links, b.Links),
		Alternatives: slices.Concat(a.Alternatives, b.Alternatives),
	}
}

// Variant is a flavour of the image: all that the spec says, and this.
type Variant struct {
	Name      string   `yaml:"name"`    // "full"; it ends the tag, unless the variant is the first
	Install   []string `yaml:"install"` // packages
	Additions `yaml:",inline"`
	Gates     inspect.Gates `yaml:"gates"`
}

// Upstream says what comes from Kubernetes.
type Upstream struct {
	Versions []string         `yaml:"versions"` // "v1.36.2", or a channel that locking resolves: "stable-1.36"
	Require  []upstream.Proof `yaml:"require"`  // default: pin and signature
	Bases    []string         `yaml:"bases"`    // default: upstream.DefaultBase
	Rekor    string           `yaml:"rekor"`    // default: upstream.DefaultRekor
	Files    []UpstreamFile   `yaml:"files"`
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

// Local is a file of the image that stands beside the spec: the program of a
// project of one's own.
type Local struct {
	Source string `yaml:"source" json:"source"`       // relative to the spec; {arch} is the architecture: "bin/imgctl-{arch}"
	Path   string `yaml:"path" json:"path"`           // "/usr/bin/imgctl"
	Mode   string `yaml:"mode" json:"mode,omitempty"` // octal; "": 0755
}

// file returns the name of the file for one architecture.
func (f Local) file(arch string) string { return strings.ReplaceAll(f.Source, "{arch}", arch) }

// Packages says what comes from Debian.
type Packages struct {
	// Suites are read together: of one package the highest version is taken. A
	// suite whose name ends in "-security" is looked for in the archive "debian-security".
	Suites  []string `yaml:"suites"`
	Keyring string   `yaml:"keyring"` // file beside the spec with the keys that may sign the suites
	// Archives are base URLs by name; default: what the user or apt's configuration says.
	Archives map[string]string `yaml:"archives"`
	Install  []string          `yaml:"install"`
	// Dependencies, when false, leaves out all that Install does not name: the
	// packages that it depends on and those that every Debian system has.
	Dependencies *bool    `yaml:"dependencies"`
	Exclude      []string `yaml:"exclude"` // globs of paths that are left out
	Keep         []string `yaml:"keep"`    // globs of paths that stay in spite of that
}

// alone reports whether only the packages that are named are installed.
func (p Packages) alone() bool { return p.Dependencies != nil && !*p.Dependencies }

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
	for _, c := range []*layer.Compression{&s.Compression.Packages, &s.Compression.Programs} {
		if *c == (layer.Compression{}) {
			*c = layer.Compression{Algorithm: layer.Zstd, Level: 9}
		}
	}
	slices.Sort(s.Platforms)
	if err := s.validate(); err != nil {
		return nil, &strict.Error{File: path, Msg: err.Error()}
	}
	if s.Packages.Keyring == "" {
		return s, nil
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

// Keyring returns the OpenPGP keys that may sign the Debian suites; nil when
// nothing comes from Debian.
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

// variants returns the names of the variants; one without a name when the spec has none.
func (s *Spec) variants() []string {
	if len(s.Variants) == 0 {
		return []string{""}
	}
	names := make([]string, len(s.Variants))
	for i, v := range s.Variants {
		names[i] = v.Name
	}
	return names
}

// variant returns the spec of one variant: what it adds stands with the rest.
func (s *Spec) variant(name string) *Spec {
	one := *s
	one.Variants = nil
	for _, v := range s.Variants {
		if v.Name == name {
			one.Additions = s.Additions.with(v.Additions)
			one.Packages.Install = slices.Concat(s.Packages.Install, v.Install)
			one.Gates = s.Gates.Merge(v.Gates)
		}
	}
	return &one
}

// question is the part of a spec that a lock answers. What is not in it, such as
// users or links, may change without locking again.
type question struct {
	Platforms []string            `json:"platforms"`
	Versions  []string            `json:"versions"`
	Sources   []UpstreamFile      `json:"sources"`
	Local     []string            `json:"local,omitempty"`
	Suites    []string            `json:"suites"`
	Keyring   string              `json:"keyring"` // sha256: other keys may give other answers
	Alone     bool                `json:"alone,omitempty"`
	Install   map[string][]string `json:"install"` // by variant, sorted
}

// Question returns the digest of what a lock of s must answer.
func (s *Spec) Question() string {
	keyring := sha256.Sum256(s.keyring)
	q := question{Platforms: s.Platforms, Versions: s.Upstream.Versions, Suites: s.Packages.Suites,
		Keyring: hex.EncodeToString(keyring[:]), Alone: s.Packages.alone(), Install: make(map[string][]string)}
	for _, f := range s.Upstream.Files {
		q.Sources = append(q.Sources, UpstreamFile{Member: f.Member, Name: f.Name})
	}
	for _, f := range s.Local {
		q.Local = append(q.Local, f.Source)
	}
	for _, name := range s.variants() {
		q.Install[name] = slices.Sorted(slices.Values(s.variant(name).Packages.Install))
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
