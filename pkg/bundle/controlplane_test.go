package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

const controllerBundle = "testdata/controller"

// A controller is given its static pods, what owns their files, and the manifests
// of a cluster with those that the user adds; a worker none of it.
func TestAControllerHasItsControlPlane(t *testing.T) {
	wanted := []string{
		"/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/manifests/kube-apiserver.yaml",
		"/etc/kubernetes/manifests/kube-controller-manager.yaml", "/etc/kubernetes/manifests/kube-scheduler.yaml",
		sysusersPath, tmpfilesPath, manifestsPath + "coredns.yaml", manifestsPath + "kube-proxy.yaml", manifestsPath + "flannel.yaml",
		manifestsPath + "kubelet-delete.yaml", manifestsPath + "limits/quota.yaml",
	}
	for family := range families {
		c, err := Load(controllerBundle)
		if err != nil {
			t.Fatal(err)
		}
		c.OS.Family = family
		tree, err := Render(c, c.Pin("quay.io/poseidon/kubelet@"+digest, nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range wanted {
			body(t, tree, path)
		}
	}
	for _, f := range rendered(t, load(t)).Files {
		if strings.HasPrefix(f.Path, "/etc/kubernetes/manifests/") || f.Path == sysusersPath {
			t.Errorf("a worker has %s", f.Path)
		}
	}
}

// Each row changes one thing in the bundle that is accepted above.
func TestAControlPlaneThatCouldNotRunIsRefused(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(controllerBundle, "bundle.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, want string }{
		"on a worker":        {"role: controller", "role: worker", "bundle.yaml:19:10: controlPlane: it runs on a controller"},
		"unknown key":        {"  audit: true", "  audits: true", `unknown field "audits"`},
		"no API server":      {"  apiServers: [api.example.com]\n", "", "it needs cluster.apiServers"},
		"no image":           {"  coredns: ", "  cilium: ", "images.coredns: got nothing"},
		"no etcd":            {"  members: {node1: 10.0.0.1, node2: 10.0.0.2, node3: 10.0.0.3}\n", "", "controlPlane.members: got none"},
		"etcd twice":         {"images:\n", "options: {etcdMember: true}\nimages:\n", "runs etcd as a unit already"},
		"a member's name":    {"node1: 10.0.0.1", `"a\nb": 10.0.0.1`, "want the name of a node"},
		"a member's address": {"node1: 10.0.0.1", "node1: node1.example.com", "controlPlane.members.node1"},
		"port":               {"  audit: true", "  port: 65536", "controlPlane.port: got 65536"},
		"an id of others":    {"  audit: true", "  ids: {kubeadm-etcd: 0}", "controlPlane.ids.kubeadm-etcd: got 0"},
		"ids twice":          {"  audit: true", "  ids: {kubeadm-etcd: 562}", "562 is of"},
		"add-ons elsewhere":  {"addons/limits", "../limits", "want a directory below"},
		"add-ons not there":  {"addons/limits", "addons/other", "read add-on"},
		"root for an add-on": {"  audit: true", "  runAsRoot: [coredns]", "controlPlane.runAsRoot"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(good), tt.old, tt.new, 1)
			if changed == string(good) {
				t.Fatalf("%q is not in the file", tt.old)
			}
			dir := t.TempDir()
			if err := errors.Join(os.CopyFS(dir, os.DirFS(controllerBundle)), os.WriteFile(filepath.Join(dir, "bundle.yaml"), []byte(changed), 0o644)); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			var se *strict.Error
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a *strict.Error on one line with %q", err, tt.want)
			}
		})
	}
}
