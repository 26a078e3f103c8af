//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/lint"
)

// nodeTree renders the controller of pkg/bundle's tests, changed.
func nodeTree(t *testing.T, change func(*bundle.Config)) map[string][]byte {
	t.Helper()
	c, err := bundle.Load("../pkg/bundle/testdata/controller")
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	tree, err := bundle.Render(c, c.Pin("quay.io/poseidon/kubelet@sha256:"+strings.Repeat("a", 64), nil))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, f := range tree.Files {
		files[f.Path] = f.Body
	}
	return files
}

func asWorker(c *bundle.Config) { c.Role, c.ControlPlane, c.CNI = bundle.Worker, nil, "none" }

// withEtcdUnit runs etcd as a unit and not as a static pod.
func withEtcdUnit(c *bundle.Config) {
	c.ControlPlane.Members, c.Cluster.EtcdServers, c.Options.EtcdMember = nil, []string{"etcd.example.com"}, true
}

// systemd itself has nothing to say about any unit, and about one that is broken it has.
func TestSystemdAcceptsEveryUnit(t *testing.T) {
	for _, family := range []string{"fcos", "flatcar", "debian"} {
		for role, change := range map[string]func(*bundle.Config){"worker": asWorker, "controller": func(*bundle.Config) {}, "etcd": withEtcdUnit} {
			files := nodeTree(t, func(c *bundle.Config) { change(c); c.OS.Family = family })
			if out, err := verifyUnits(t, files); err != nil || out != "" {
				t.Errorf("%s %s: %v\n%s", family, role, err, out)
			}
			if role != "worker" {
				continue
			}
			for name, broken := range map[string][2]string{
				"a key":     {"Restart=always", "Restrat=always"},
				"a program": {"/usr/bin/mkdir", "/usr/bin/mkdri"},
				"a quote":   {`/usr/bin/sh -c "sed`, `/usr/bin/sh -c sed`},
			} {
				changed := maps.Clone(files)
				const unit = "/etc/systemd/system/kubelet.service"
				changed[unit] = bytes.Replace(files[unit], []byte(broken[0]), []byte(broken[1]), 1)
				if out, err := verifyUnits(t, changed); err == nil && out == "" {
					t.Errorf("%s %s: nothing was said about %s", family, role, name)
				}
			}
		}
	}
}

// verifyUnits puts the files into a root that has systemd's own units, and the
// programs that ours start, by name.
func verifyUnits(t *testing.T, files map[string][]byte) (string, error) {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "usr/lib/systemd/system"), os.DirFS("/usr/lib/systemd/system")); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no", "--root=" + root}
	for _, name := range []string{"/usr/bin/docker", "/usr/bin/mkdir", "/usr/bin/podman", "/usr/bin/rm", "/usr/bin/sh", "/usr/bin/systemctl", "/usr/local/bin/imgctl", "/opt/bin/imgctl"} {
		writeUnder(t, root, name, []byte("#!/bin/sh\n"), 0o755)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := writeUnder(t, root, name, files[name], 0o644)
		if filepath.Dir(name) == "/etc/systemd/system" {
			args = append(args, path)
		}
	}
	if len(args) < 4 {
		t.Fatal("no units")
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	return string(out), err
}

func writeUnder(t *testing.T, root, name string, body []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, body, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// Podman's own generator, the oldest and a new one, makes of our Quadlets units
// that start the containers of our units, and that systemd accepts.
func TestPodmanMakesTheSameUnitsOfQuadlets(t *testing.T) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"fcos", "debian"} {
		change := func(c *bundle.Config) { withEtcdUnit(c); c.OS.Family = family }
		units := nodeTree(t, change)
		files := nodeTree(t, func(c *bundle.Config) { change(c); c.Options.Quadlet = true })
		for _, major := range []int{4, 5} {
			made := runQuadlet(t, program(t, peers.Quadlet(root, major)), files)
			for _, service := range []string{"kubelet", "etcd-member"} {
				path := "/etc/systemd/system/" + service + ".service"
				if diff := cmp.Diff(containerIn(path, units[path]), containerIn(path, made[path])); diff != "" {
					t.Errorf("%s %s by podman %d: -ours +theirs:\n%s", family, service, major, diff)
				}
			}
			if out, err := verifyUnits(t, made); err != nil || out != "" {
				t.Errorf("%s by podman %d: %v\n%s", family, major, err, out)
			}
		}
	}
}

// runQuadlet returns files with the services that the generator made of them.
func runQuadlet(t *testing.T, generator string, files map[string][]byte) map[string][]byte {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	made := maps.Clone(files)
	for name, body := range files {
		if filepath.Ext(name) == ".container" {
			writeUnder(t, dir, filepath.Base(name), body, 0o644)
			delete(made, name)
		}
	}
	cmd := exec.Command(generator, "-no-kmsg-log", out)
	cmd.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir)
	output(t, cmd)
	for _, service := range []string{"kubelet", "etcd-member"} {
		body, err := os.ReadFile(filepath.Join(out, service+".service"))
		if err != nil {
			t.Fatal(err)
		}
		made["/etc/systemd/system/"+service+".service"] = body
		if link, err := os.Readlink(filepath.Join(out, "multi-user.target.wants", service+".service")); err != nil || link != "../"+service+".service" {
			t.Errorf("%s is not wanted at boot: %q, %v", service, link, err)
		}
	}
	return made
}

// containerIn is what the container of a unit is and may do.
func containerIn(path string, body []byte) []string {
	var found []string
	for _, p := range lint.Privileges(map[string][]byte{path: body}) {
		if _, name, _ := strings.Cut(p.Of, " "); name == "kubelet" || name == "etcd" {
			found = append(found, p.Kind+" "+p.What)
		}
	}
	return found
}
