package bundle

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// No image is given the digest of another.
func TestK07OnlyTheKubeletIsPinnedToWhatWasJustMade(t *testing.T) {
	c := load(t)
	other := "registry.k8s.io/etcd@sha256:" + strings.Repeat("cd", 32)
	c.Images = map[string]Sources{"kubelet": {"quay.io/poseidon/kubelet", "docker.io/psdn/kubelet"}, "etcd": {other}}
	tree, err := Render(c, c.Pin("quay.io/poseidon/kubelet@"+digest, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := body(t, tree, imagesPath), "ETCD_IMAGE="+other+"\nKUBELET_IMAGE=quay.io/poseidon/kubelet@"+digest+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := body(t, tree, imagesOtherPath+"docker.io.env"), "KUBELET_IMAGE=docker.io/psdn/kubelet@"+digest+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Images["etcd"] = Sources{"registry.k8s.io/etcd:3.6.1"}
	if _, err := Render(c, c.Pin("quay.io/poseidon/kubelet@"+digest, nil)); err == nil {
		t.Error("an image without a digest was accepted")
	}
}

func TestEveryFamilyAndRoleHasItsUnits(t *testing.T) {
	for family, want := range map[string]string{"fcos": "podman", "flatcar": "docker", "debian": "podman"} {
		for _, role := range []string{Controller, Worker} {
			c := load(t)
			c.OS.Family, c.Role = family, role
			tree := rendered(t, c)
			unit := body(t, tree, unitPath)
			if !strings.Contains(unit, "/usr/bin/"+want+" run") || strings.Contains(unit, ":ro,z") != (family == "fcos") {
				t.Errorf("%s %s: got\n%s", family, role, unit)
			}
			var bootstrap, docker bool
			for _, f := range tree.Files {
				bootstrap = bootstrap || f.Path == unitDir+"bootstrap.service"
				docker = docker || f.Path == unitDir+"docker.service.d/10-kubernetes.conf"
			}
			if bootstrap != (role == Controller) || docker != (family == "flatcar") {
				t.Errorf("%s %s: bootstrap %t, docker %t", family, role, bootstrap, docker)
			}
		}
	}
}

func TestAnEvenNumberOfEtcdMembersIsWarnedOf(t *testing.T) {
	c := load(t)
	for n, servers := range [][]string{nil, {"a"}, {"a", "b"}, {"a", "b", "c"}} {
		c.Cluster.EtcdServers = servers
		if got := len(c.Warnings()); got != map[int]int{2: 1}[n] {
			t.Errorf("%d members: got %d warnings", n, got)
		}
	}
	c.Cluster.EtcdServers = nil
	for n, members := range []map[string]string{nil, {"a": ""}, {"a": "", "b": ""}} {
		c.ControlPlane = &ControlPlane{Members: members}
		if got := len(c.Warnings()); got != map[int]int{2: 1}[n] {
			t.Errorf("%d members as static pods: got %d warnings", n, got)
		}
	}
}

// The node's own shell must understand what it is given.
func TestTheScriptsAreShell(t *testing.T) {
	for name, script := range map[string]func(*Config) ([]byte, error){"apply": applyScript, "delete": deleteNodeScript} {
		text, err := script(nil)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		for bad, body := range []string{string(text), string(text) + "if\n"} {
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("sh", "-n", path).Run(); (err != nil) != (bad == 1) {
				t.Errorf("%s, broken %d: got %v", name, bad, err)
			}
		}
	}
}
