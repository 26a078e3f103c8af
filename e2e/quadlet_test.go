//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/lint"
)

// Podman's own generator, the oldest and a new one, makes of our Quadlets units
// that start the containers of our units, and that systemd accepts.
func TestPodmanMakesTheSameUnitsOfQuadlets(t *testing.T) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"fcos", "debian"} {
		units, quadlets := etcdMember(t, family, false), etcdMember(t, family, true)
		for _, major := range []int{4, 5} {
			made := runQuadlet(t, program(t, peers.Quadlet(root, major)), quadlets)
			for _, service := range []string{"kubelet", "etcd-member"} {
				path := "/etc/systemd/system/" + service + ".service"
				if diff := cmp.Diff(containerIn(path, units[path]), containerIn(path, made[path])); diff != "" {
					t.Errorf("%s %s by podman %d: -ours +theirs:\n%s", family, service, major, diff)
				}
			}
			machine := t.TempDir()
			for name, body := range made {
				makeFile(t, filepath.Join(machine, name), string(body), 0o644)
			}
			if said := verifyUnits(t, machine, systemRoot(t, machine)...); said != "" {
				t.Errorf("%s by podman %d: systemd-analyze verify: got\n%s", family, major, said)
			}
		}
	}
}

// etcdMember renders the controller of pkg/bundle's tests, with etcd as a unit.
func etcdMember(t *testing.T, family string, quadlet bool) map[string][]byte {
	t.Helper()
	c, err := bundle.Load("../pkg/bundle/testdata/controller")
	if err != nil {
		t.Fatal(err)
	}
	c.OS.Family, c.ControlPlane.Members, c.Cluster.EtcdServers = family, nil, []string{"etcd.example.com"}
	c.Options = bundle.Options{EtcdMember: true, Quadlet: quadlet}
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

// runQuadlet returns files with the services that the generator made of them.
func runQuadlet(t *testing.T, generator string, files map[string][]byte) map[string][]byte {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	made := make(map[string][]byte)
	for name, body := range files {
		if filepath.Ext(name) == ".container" {
			makeFile(t, filepath.Join(dir, filepath.Base(name)), string(body), 0o644)
		} else {
			made[name] = body
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
