package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// specs are the files and directories of the repository that a release reads.
var specs = []string{"release.yaml", "images/kubelet", "bundles/typhoon", "policies"}

// lock is what the lab makes anew: the repository's own pins what dl.k8s.io
// serves, and not what the lab compiled.
const lock = "images/kubelet/image.lock.json"

// copySpecs copies the repository's specs into the working directory, with the
// public registries' names replaced by those of the lab's.
func (l *Lab) copySpecs(_ context.Context, o Options) error {
	onLoopback := strings.NewReplacer("quay.io/", l.Registries[0].Addr+"/", "docker.io/", l.Registries[1].Addr+"/")
	for _, name := range specs {
		if err := copyTree(o.Root, l.Dir, name, onLoopback); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	if err := os.Remove(filepath.Join(l.Dir, lock)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.checkRelease()
}

// CopyTo copies the specs, keys and locks of the working directory to dir, where
// the image is called "kubelet" below prefix instead: a release from there is
// one of the same content to repositories that do not exist yet.
func (l *Lab) CopyTo(dir, prefix string) error {
	rename := strings.NewReplacer("/poseidon/", "/"+prefix+"/", "/psdn/", "/"+prefix+"/")
	for _, name := range append([]string{"release.key", "release.pub"}, specs...) {
		if err := copyTree(l.Dir, dir, name, rename); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// copyTree copies a file or directory, with names replaced in its YAML files. It
// leaves out source code, and keeps only the mode bits of the owner.
func copyTree(from, to, name string, names *strings.Replacer) error {
	return filepath.WalkDir(filepath.Join(from, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".go" {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".yaml" {
			data = []byte(names.Replace(string(data)))
		}
		dst := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		return atomicfile.WriteBytes(dst, 0o600, data)
	})
}

// checkRelease makes sure that nothing in the lab can reach a public registry.
func (l *Lab) checkRelease() error {
	data, err := os.ReadFile(filepath.Join(l.Dir, "release.yaml"))
	if err != nil {
		return err
	}
	for i := range l.Registries {
		if !strings.Contains(string(data), l.Image(i)) {
			return fmt.Errorf("release.yaml: no destination %s: the lab expects those of this repository", l.Image(i))
		}
	}
	return nil
}

// InstallKey makes the public key that imgctl wrote in the working directory the
// one that the policy names.
func (l *Lab) InstallKey(public string) error {
	data, err := os.ReadFile(filepath.Join(l.Dir, public))
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(l.Dir, "policies", "kubelet.pub"), 0o644, data)
}
