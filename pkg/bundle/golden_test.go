package bundle

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of this package")

const goldenDir = "testdata/golden"

// goldenBase is the tree that is kept in full. Of every other one there is what
// its files are, and of these the ones that are not the same.
const goldenBase = "fcos-controller"

// goldenTrees are what is kept of each family and role, and of each option.
func goldenTrees(t *testing.T) map[string]*Config {
	t.Helper()
	trees := make(map[string]*Config)
	add := func(name, family string, change func(*Config)) {
		c, err := Load(controllerBundle)
		if err != nil {
			t.Fatal(err)
		}
		c.OS.Family = family
		change(c)
		trees[name] = c
	}
	for family := range families {
		add(family+"-controller", family, func(*Config) {})
		add(family+"-worker", family, func(c *Config) { c.Role, c.ControlPlane, c.CNI = Worker, nil, "none" })
		add(family+"-etcd-member", family, func(c *Config) {
			externalEtcd(c)
		})
	}
	add("fcos-quadlet", "fcos", func(c *Config) {
		externalEtcd(c)
		c.Options.Quadlet = true
	})
	add("fcos-cilium", "fcos", func(c *Config) {
		c.CNI = "cilium"
		for _, name := range []string{"cilium", "cilium-operator"} {
			c.Images[name] = Sources{"registry.example.com/" + name + "@" + digest}
		}
	})
	return trees
}

// externalEtcd runs etcd as a unit.
func externalEtcd(c *Config) {
	c.ControlPlane.Members, c.Cluster.EtcdServers, c.Options.EtcdMember = nil, []string{"node1.example.com"}, true
}

// Whoever changes what a bundle is sees here what that does to machines. What is
// meant is written with
//
//	go test ./pkg/bundle -run Golden -update
func TestTreesAreTheGoldenOnes(t *testing.T) {
	base := make(map[string]string)
	want := make(map[string]string) // golden file → text
	for _, f := range goldenTree(t, goldenTrees(t)[goldenBase]).Files {
		base[f.Path] = string(f.Body)
	}
	for name, c := range goldenTrees(t) {
		var list strings.Builder
		for _, f := range goldenTree(t, c).Files {
			fmt.Fprintf(&list, "%04o %d:%d %x %s\n", f.Mode, f.UID, f.GID, sha256.Sum256(f.Body), f.Path)
			if name == goldenBase || base[f.Path] != string(f.Body) {
				want[filepath.Join(name, filepath.FromSlash(f.Path))] = string(f.Body)
			}
		}
		want[name+".txt"] = list.String()
	}
	if *update {
		writeGolden(t, want)
	}
	if diff := cmp.Diff(readGolden(t), want); diff != "" {
		t.Errorf("-golden +rendered, and -update writes it:\n%s", diff)
	}
}

func goldenTree(t *testing.T, c *Config) Tree {
	t.Helper()
	tree, err := Render(c, c.Pin("quay.io/poseidon/kubelet@"+digest, nil))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func readGolden(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	root := os.DirFS(goldenDir)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(root, path)
		files[filepath.FromSlash(path)] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func writeGolden(t *testing.T, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(goldenDir); err != nil {
		t.Fatal(err)
	}
	for name, body := range files {
		path := filepath.Join(goldenDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}
