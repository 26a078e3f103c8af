// Package override writes the files that move a machine to another registry.
//
// Each runtime has its own way to be told, and none of them asks whether what it
// is told was verified. [Render] therefore takes what was, by digest, and makes
// of it what systemd units, podman, containerd, static pods and Butane
// understand, with a script that puts it in place and one that takes it away. It
// is pure: the same images give the same bytes, and nobody is asked.
package override

import (
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Image is content that was verified, and where.
type Image struct {
	Name       string   // of its variable and its container: "kubelet"
	Repository string   // that the machine names now
	Digest     string   // "sha256:…"
	Sources    []string // repositories on registries where all of it was verified, the best first
	SignedAs   string   // repository in the signatures that podman reads at the first; "": it sees none
	Keys       [][]byte // PEM, of whom policy.json is to trust; none where it cannot say that
	AllKeys    bool     // all of Keys must have signed, else any
	Plain      []string // hosts that are asked without TLS
}

// File is a file to write; the path is relative.
type File struct {
	Path string
	Mode uint32
	Body []byte
}

// reference returns the image by digest at its best source.
func (im Image) reference() string { return im.Sources[0] + "@" + im.Digest }

// plain reports whether the repository's registry is asked without TLS.
func (im Image) plain(repository string) bool {
	host, _ := split(repository)
	return slices.Contains(im.Plain, host)
}

// split returns the registry and the path of a repository.
func split(repository string) (host, path string) {
	host, path, _ = strings.Cut(repository, "/")
	return host, path
}

var (
	// These are put into shell scripts, TOML and unit files, where they must mean nothing else.
	repositoryForm = regexp.MustCompile(`^(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[0-9]+)?(/[a-z0-9._-]+)+$`)
	digestForm     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	nameForm       = regexp.MustCompile(`^[a-z0-9]+([-._]+[a-z0-9]+)*$`)
)

// check refuses what could not be written safely, or was not verified anywhere.
func (im Image) check() error {
	if !nameForm.MatchString(im.Name) {
		return fmt.Errorf("name: got %q, want lower-case letters and digits", im.Name)
	}
	if !digestForm.MatchString(im.Digest) {
		return fmt.Errorf("%s: digest: got %q, want sha256 and 64 digits", im.Name, im.Digest)
	}
	if len(im.Sources) == 0 {
		return fmt.Errorf("%s: no source of it was verified", im.Name)
	}
	for _, r := range append([]string{im.Repository}, im.Sources...) {
		if !repositoryForm.MatchString(r) {
			return fmt.Errorf("%s: got %q, want a repository on a registry", im.Name, r)
		}
	}
	for _, k := range im.Keys {
		if b, rest := pem.Decode(k); b == nil || b.Type != "PUBLIC KEY" || len(rest) > 0 {
			return fmt.Errorf("%s: want keys in PEM", im.Name)
		}
	}
	return nil
}

// Render returns the files for the images, sorted by path.
func Render(images []Image) ([]File, error) {
	if len(images) == 0 {
		return nil, errors.New("override: no image")
	}
	seen := make(map[string]bool)
	for _, im := range images {
		if err := im.check(); err != nil {
			return nil, fmt.Errorf("override: %w", err)
		}
		if seen[im.Name] || seen[im.Repository] {
			return nil, fmt.Errorf("override: %s is there twice", im.Name)
		}
		seen[im.Name], seen[im.Repository] = true, true
	}
	node := append(unitFiles(images), podmanFiles(images)...)
	policy, err := policyFile(images)
	if err != nil {
		return nil, fmt.Errorf("override: %w", err)
	}
	files := append(slices.Clone(node), File{"butane.yaml", 0o644, butane(node)})
	files = append(files, policy...)
	files = append(files, containerdFiles(images)...)
	files = append(files, patches(images)...)
	files = append(files, scripts(images)...)
	files = append(files, File{"README.md", 0o644, readme(images)})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
