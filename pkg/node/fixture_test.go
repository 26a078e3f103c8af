package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// kit is a bundle with the bytes of its files.
type kit struct {
	source
	bodies map[string]string
}

// pack makes a bundle whose files belong to whoever runs the test.
func pack(version string, bodies map[string]string) kit {
	k := kit{bodies: bodies}
	k.digest, k.repository, k.from = digestOf(version), "quay.example/node/bundle", "mirror.example/node/bundle"
	k.bundle = content.Bundle{APIVersion: content.APIVersion, Kind: content.Kind, Name: "typhoon", Version: version, Family: "fcos", Role: "worker"}
	for p, body := range bodies {
		mode := content.Mode(0o644)
		if strings.HasPrefix(p, "/usr/local/bin") {
			mode = 0o755
		}
		k.bundle.Files = append(k.bundle.Files, content.File{
			Path: p, Mode: mode, Owner: "root", Group: "root", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Type: "etc_t", Digest: digestOf(body), Size: int64(len(body)),
		})
	}
	slices.SortFunc(k.bundle.Files, func(a, b content.File) int { return strings.Compare(a.Path, b.Path) })
	k.open = func(_ context.Context, f content.File) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(bodies[f.Path])), nil
	}
	return k
}

// oldKit and newKit differ in every way that two bundles can: a file kept, one
// changed, one gone, one new, one new directory.
func oldKit() kit {
	return pack("v1.36.1", map[string]string{
		"/etc/kubernetes/kubelet.yaml":                        "kind: KubeletConfiguration\n",
		"/etc/systemd/system/kubelet.service":                 "[Service]\nExecStart=/usr/bin/podman run old\n",
		"/etc/systemd/system/kubelet.service.d/05-proxy.conf": "[Service]\nEnvironment=PROXY=\n",
		"/etc/systemd/system/kubelet.service.d/10-image.conf": "[Service]\nEnvironment=KUBELET_IMAGE=old\n",
		"/usr/local/bin/kubelet-delete":                       "#!/bin/sh\nexit 0\n",
	})
}

func newKit() kit {
	return pack("v1.36.2", map[string]string{
		"/etc/kubernetes/kubelet.yaml":                        "kind: KubeletConfiguration\n",
		"/etc/kubernetes/rbac/bootstrap.yaml":                 "kind: ClusterRoleBinding\n",
		"/etc/systemd/system/kubelet.service":                 "[Service]\nExecStart=/usr/bin/podman run new\n",
		"/etc/systemd/system/kubelet.service.d/10-image.conf": "[Service]\nEnvironment=KUBELET_IMAGE=new and longer\n",
	})
}

func digestOf(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// storeAt is a store with a fixed clock that does not wait for the disk.
func storeAt(root string) *Store {
	return &Store{Root: root, Now: func() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }, trap: trap{noSync: true}}
}

func mustInstall(t *testing.T, s *Store, k kit) Generation {
	t.Helper()
	g, err := s.install(t.Context(), k.source)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// sees fails unless programs on the machine see the files of one of the kits
// and of no other, whole. It returns which.
func sees(t *testing.T, root string, kits ...kit) int {
	t.Helper()
	var why []string
	for i, k := range kits {
		diff := difference(root, k, kits)
		if diff == "" {
			return i
		}
		why = append(why, diff)
	}
	t.Fatalf("the machine is in none of %d whole states:\n%s", len(kits), strings.Join(why, "\n"))
	return -1
}

// difference says what keeps the machine from being as k wants it, reading the
// real paths as any program would.
func difference(root string, k kit, others []kit) string {
	for _, o := range append([]kit{k}, others...) {
		for p := range o.bodies {
			want, wanted := k.bodies[p]
			got, err := os.ReadFile(filepath.Join(root, p))
			switch {
			case !wanted && !errors.Is(err, fs.ErrNotExist):
				return fmt.Sprintf("%s %s: got %q, %v; want none", k.bundle.Version, p, got, err)
			case wanted && (err != nil || string(got) != want):
				return fmt.Sprintf("%s %s: got %q, %v; want %q", k.bundle.Version, p, got, err, want)
			}
		}
	}
	return ""
}

// nobody is a kit of a machine without a bundle.
func nobody() kit { return kit{} }

// listing is every name below root with what it is. Directories outside the
// store are left out: they stay where a link needed them.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, p)
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, name, fi.Mode(), digestOf(string(data)))
		case fi.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, name, "->", target)
		case strings.HasPrefix(name, generationsDir):
			fmt.Fprintln(&b, name, fi.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tidy fails when something is left that no finished call leaves: a staging
// directory, a second current, a link into the store that leads nowhere.
func tidy(t *testing.T, root string) {
	t.Helper()
	for line := range strings.Lines(listing(t, root)) {
		name, target, isLink := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		if isLink {
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("dangling link %s -> %s", name, target)
			}
		}
		if strings.HasPrefix(name, newCurrent) || strings.HasPrefix(name, generationsDir+"/.") {
			t.Errorf("left behind: %s", name)
		}
	}
}

// counter counts the steps that change files.
type counter struct {
	steps  []step
	before func(n int, s step) error // n counts from 1
}

func (c *counter) trap() trap {
	return trap{noSync: true, before: func(s step) error {
		s.Data = bytes.Clone(s.Data)
		c.steps = append(c.steps, s)
		if c.before != nil {
			return c.before(len(c.steps), s)
		}
		return nil
	}}
}

// writes are the steps that change something; syncing does not.
func (c *counter) writes() (calls []string) {
	for _, s := range c.steps {
		if s.Call != "sync" && s.Call != "syncdir" {
			calls = append(calls, s.Call+" "+s.Path)
		}
	}
	return calls
}
