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

// changed loads the controller's bundle with a text in it replaced.
func changed(t *testing.T, old, replacement string) (*Config, error) {
	t.Helper()
	good, err := os.ReadFile(filepath.Join(controllerBundle, "bundle.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(good), old, replacement, 1)
	if text == string(good) && old != replacement {
		t.Fatalf("%q is not in the file", old)
	}
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(dir, os.DirFS(controllerBundle)), os.WriteFile(filepath.Join(dir, "bundle.yaml"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}

// refused checks that err is a mistake in the file, on one line, with want.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	var se *strict.Error
	if !errors.As(err, &se) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want a *strict.Error on one line with %q", err, want)
	}
}

// Each row changes one thing in the bundle that is accepted above.
func TestAControlPlaneThatCouldNotRunIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"on a worker":              {"role: controller", "role: worker", "bundle.yaml:19:10: controlPlane: it runs on a controller"},
		"unknown key":              {"  audit: true", "  audits: true", `unknown field "audits"`},
		"no API server":            {"  apiServers: [api.example.com]\n", "", "it needs cluster.apiServers"},
		"no image":                 {"  coredns: ", "  cilium: ", "images.coredns: got nothing"},
		"no etcd":                  {"  members: {node1: 10.0.0.1, node2: 10.0.0.2, node3: 10.0.0.3}\n", "", "controlPlane.members: got none"},
		"etcd twice":               {"images:\n", "options: {etcdMember: true}\nimages:\n", "runs etcd as a unit already"},
		"a member's name":          {"node1: 10.0.0.1", `"a\nb": 10.0.0.1`, "want the name of a node"},
		"a member's address":       {"node1: 10.0.0.1", "node1: node1.example.com", "controlPlane.members.node1"},
		"port":                     {"  audit: true", "  port: 65536", "controlPlane.port: got 65536"},
		"an id of others":          {"  audit: true", "  ids: {kubeadm-etcd: 0}", "controlPlane.ids.kubeadm-etcd: got 0"},
		"ids twice":                {"  audit: true", "  ids: {kubeadm-etcd: 562}", "562 is of"},
		"add-ons elsewhere":        {"addons/limits", "../limits", "want a directory below"},
		"add-ons not there":        {"addons/limits", "addons/other", "read add-on"},
		"issuer, a variable (K01)": {"  audit: true", `  issuer: "https://a.example.com/$(NODE_ADDRESS)"`, "controlPlane.issuer: got"},
		"issuer, a line (K01)":     {"  audit: true", `  issuer: "https://a.example.com\n"`, "controlPlane.issuer: got"},
		"issuer without TLS":       {"  audit: true", "  issuer: http://a.example.com", "controlPlane.issuer: got"},
		"root for an add-on":       {"  audit: true", "  runAsRoot: [coredns]", "controlPlane.runAsRoot"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := changed(t, tt.old, tt.new)
			refused(t, err, tt.want)
		})
	}
}

func TestTheIssuerMayBeSomebodyElsesURL(t *testing.T) {
	c, err := changed(t, "  audit: true", "  issuer: https://oidc.example.com:8443/clusters/a")
	if err != nil || c.ControlPlane.Issuer == "" {
		t.Errorf("got %v", err)
	}
}

// Kubernetes' own images fit together by their tags, at both edges of the policy.
func TestK14VersionsThatDoNotWorkTogetherAreRefused(t *testing.T) {
	for _, tt := range []struct{ image, tag, want string }{
		{"kube-apiserver", "v1.36.9", ""},
		{"kube-apiserver", "v1.37.0", ""},
		{"kube-apiserver", "v1.35.9", "images.kubelet: kubelet v1.36.2: 1 minor newer than kube-apiserver v1.35.9"},
		{"kube-scheduler", "v1.35.0", ""},
		{"kube-scheduler", "v1.34.0", "images.kube-scheduler: kube-scheduler v1.34.0: 2 minors older"},
		{"kube-controller-manager", "v1.37.0", "images.kube-controller-manager: kube-controller-manager v1.37.0: 1 minor newer"},
		{"kube-proxy", "v1.33.0", ""},
		{"kube-proxy", "v1.32.0", "images.kube-proxy: kube-proxy v1.32.0: 4 minors older"},
	} {
		source := "registry.example.com/" + tt.image
		c, err := changed(t, source+"@", source+":"+tt.tag+"@")
		if tt.want != "" {
			refused(t, err, tt.want)
		} else if err != nil || c.Images[tt.image][0][len(source)+1:][:len(tt.tag)] != tt.tag {
			t.Errorf("%s %s: got %v", tt.image, tt.tag, err)
		}
	}
}

// An add-on's directory is the user's own, and nobody else's by way of a link
// (the class of CVE-2025-53547).
func TestK11AnAddOnMayNotLeadOutsideOfTheBundle(t *testing.T) {
	outside := t.TempDir()
	if err := os.CopyFS(outside, os.DirFS(filepath.Join(controllerBundle, "addons/limits"))); err != nil {
		t.Fatal(err)
	}
	for target, accepted := range map[string]bool{"limits": true, outside: false} {
		dir := t.TempDir()
		if err := errors.Join(os.CopyFS(dir, os.DirFS(controllerBundle)), os.Symlink(target, filepath.Join(dir, "addons/link"))); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "bundle.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), "addons/limits", "addons/link", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); accepted {
			if err != nil {
				t.Errorf("a link within the bundle: %v", err)
			}
		} else {
			refused(t, err, "bundle.yaml:21:12: controlPlane.addOns[0]: read add-on")
		}
	}
}
