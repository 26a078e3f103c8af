// Package content reads and writes the list that says what a bundle holds.
//
// The list is the config blob of a bundle artifact, and once more, for people and
// other clients, its first layer, bundle.lock: for which kind of machine it is,
// which file belongs where, with which mode, owner and SELinux type, and which
// bytes it has. [Pick] finds a machine's bundle among those of an index. A node acts on it as root,
// so [Read] accepts only what [Bundle.Marshal] could have written: one spelling
// for every list, no unknown and no duplicate key, and only paths that can be
// created one by one beneath a root. The package is apart from bundle, so that
// a node does not link what only rendering needs.
package content

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What marks a list.
const (
	ArtifactType = "application/vnd.imgctl.bundle.v1+json"         // of the manifest
	MediaType    = "application/vnd.imgctl.bundle.content.v1+json" // of the config blob
	APIVersion   = "imgctl.dev/v1"
	Kind         = "BundleContent"
)

// Limits of a list. [Read] refuses what exceeds them before it looks further.
const (
	MaxSize      = 1 << 20  // bytes of the list itself
	MaxFiles     = 1024     // files in a bundle
	MaxFileSize  = 4 << 20  // bytes of one file
	MaxTotalSize = 64 << 20 // bytes of all files together
	MaxPath      = 1024     // bytes of one path; a segment of it has at most 255
)

// Bundle is the list of what a bundle holds.
type Bundle struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Name       string            `json:"name"`             // "typhoon"
	Version    string            `json:"version"`          // of Kubernetes: "v1.36.2"
	Family     string            `json:"family"`           // of operating systems: "fcos"
	Role       string            `json:"role"`             // of machines: "worker"
	Files      []File            `json:"files"`            // at least one, ascending by path
	Images     map[string]string `json:"images,omitempty"` // name → repository@sha256:…
}

// File is one file of a bundle.
type File struct {
	Path   string `json:"path"`   // absolute and clean: "/etc/kubernetes/kubelet.yaml"
	Mode   Mode   `json:"mode"`   // permission bits only
	Owner  string `json:"owner"`  // by name
	Group  string `json:"group"`  // by name
	UID    uint32 `json:"uid"`    // the owner's number, which is what a node goes by
	GID    uint32 `json:"gid"`    // the group's
	Type   string `json:"type"`   // of SELinux, where that is on
	Digest string `json:"digest"` // "sha256:" and 64 lower-case hexadecimal digits
	Size   int64  `json:"size"`   // bytes
}

// Mode is a file's permission bits. Its text is four octal digits: "0644".
type Mode fs.FileMode

// MarshalText fails for anything but permission bits.
func (m Mode) MarshalText() ([]byte, error) {
	if m&^Mode(fs.ModePerm) != 0 {
		return nil, fmt.Errorf("mode %#o: want permission bits only, at most 0777", uint32(m))
	}
	return fmt.Appendf(nil, "%04o", uint32(m)), nil
}

// UnmarshalText accepts what MarshalText writes, and nothing else: no set-id or
// sticky bit can be expressed.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || len(text) != 4 || n > uint64(fs.ModePerm) {
		return fmt.Errorf("mode %.20q: want four octal digits, at most 0777", text)
	}
	*m = Mode(n)
	return nil
}

// Marshal returns the list as [Read] wants it. It fails for a list that Read
// would refuse.
func (b *Bundle) Marshal() ([]byte, error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	return b.encode()
}

func (b *Bundle) encode() ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(b); err != nil {
		return nil, fmt.Errorf("encode bundle content: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Read parses a list. The caller has compared the bytes with their digest.
//
// The bytes must be the very bytes that [Bundle.Marshal] makes of the result:
// that leaves no room for a duplicate key, a key in another case, a second
// value after the first or text that is not UTF-8.
func Read(config []byte) (*Bundle, error) {
	if len(config) > MaxSize {
		return nil, fmt.Errorf("bundle content: got %d bytes, want at most %d", len(config), MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(config))
	d.DisallowUnknownFields()
	var b Bundle
	if err := d.Decode(&b); err != nil {
		return nil, fmt.Errorf("decode bundle content: %w", err)
	}
	if err := b.Check(); err != nil {
		return nil, err
	}
	canonical, err := b.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, config) {
		return nil, fmt.Errorf("bundle content: not in canonical form from byte %d on", firstDifference(canonical, config))
	}
	return &b, nil
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)
	ownerForm  = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	typeForm   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}_t$`)
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	// host or [IPv6 address], port, and the path of distribution-spec 1.1.
	repositoryForm = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+$`)
)

// Check reports the first rule of the format that the list breaks.
func (b *Bundle) Check() error {
	if b.APIVersion != APIVersion || b.Kind != Kind {
		return fmt.Errorf("bundle content: got %.40q %.40q, want %q %q", b.APIVersion, b.Kind, APIVersion, Kind)
	}
	if !nameForm.MatchString(b.Name) {
		return fmt.Errorf("bundle content: name %.80q: want lower-case letters, digits, dots and dashes", b.Name)
	}
	if !nameForm.MatchString(b.Version) {
		return fmt.Errorf("bundle content: version %.80q: want a version such as v1.36.2", b.Version)
	}
	if !nameForm.MatchString(b.Family) || !nameForm.MatchString(b.Role) {
		return fmt.Errorf("bundle content: family %.80q and role %.80q: want a kind of machine such as fcos and worker", b.Family, b.Role)
	}
	if err := checkFiles(b.Files); err != nil {
		return fmt.Errorf("bundle content: %w", err)
	}
	for n, ref := range b.Images {
		if !nameForm.MatchString(n) {
			return fmt.Errorf("bundle content: image name %.80q: want lower-case letters, digits, dots and dashes", n)
		}
		if err := CheckPinned(ref); err != nil {
			return fmt.Errorf("bundle content: image %s: %w", n, err)
		}
	}
	return nil
}

func checkFiles(files []File) error {
	if len(files) == 0 || len(files) > MaxFiles {
		return fmt.Errorf("got %d files, want 1 to %d", len(files), MaxFiles)
	}
	var total int64
	taken := make(Paths)
	for _, f := range files {
		if err := f.check(); err != nil {
			return err
		}
		if err := taken.Add(f.Path); err != nil {
			return err
		}
		if total += f.Size; total > MaxTotalSize {
			return fmt.Errorf("files have more than %d bytes together", MaxTotalSize)
		}
	}
	if !slices.IsSortedFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) }) {
		return fmt.Errorf("files are not in ascending order of their paths")
	}
	return nil
}

// noID is what chown(2) takes for "leave it as it is", never an owner.
const noID = 1<<32 - 1

func (f File) check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if f.Path == "/"+LockTitle {
		return fmt.Errorf("%s: the list itself has this name", f.Path)
	}
	if _, err := f.Mode.MarshalText(); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if !ownerForm.MatchString(f.Owner) || !ownerForm.MatchString(f.Group) {
		return fmt.Errorf("%s: owner %.40q and group %.40q: want names", f.Path, f.Owner, f.Group)
	}
	if !typeForm.MatchString(f.Type) {
		return fmt.Errorf("%s: type %.80q: want one of SELinux, such as etc_t", f.Path, f.Type)
	}
	if f.UID == noID || f.GID == noID {
		return fmt.Errorf("%s: owner %d:%d: %d is no owner", f.Path, f.UID, f.GID, uint32(noID))
	}
	if !digestForm.MatchString(f.Digest) {
		return fmt.Errorf("%s: digest %.80q: want sha256: and 64 hexadecimal digits", f.Path, f.Digest)
	}
	if f.Size < 0 || f.Size > MaxFileSize {
		return fmt.Errorf("%s: size %d: want 0 to %d bytes", f.Path, f.Size, MaxFileSize)
	}
	return nil
}

// CheckPinned reports why ref is not a full repository name pinned by a sha256
// digest. A tag beside the digest is refused too: it would say something that
// nobody checks (CATALOGUE K07).
func CheckPinned(ref string) error {
	repository, digest, ok := strings.Cut(ref, "@")
	if !ok || !digestForm.MatchString(digest) {
		return fmt.Errorf("%.300q is not pinned: want repository@sha256:…", ref)
	}
	if registry, _, _ := strings.Cut(repository, "/"); len(repository) > 255 || !repositoryForm.MatchString(repository) ||
		!strings.ContainsAny(registry, ".:") && registry != "localhost" {
		return fmt.Errorf("%.300q: want the registry and the repository in full, in lower case and without a tag", ref)
	}
	return nil
}
