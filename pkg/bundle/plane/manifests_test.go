package plane

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

func manifests(t *testing.T, c *Cluster) Files {
	t.Helper()
	files, err := Manifests(c)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// object returns the document of a kind of a file.
func object[T any](t *testing.T, body []byte, kind string) T {
	t.Helper()
	var o T
	for _, text := range bytes.Split(body, []byte("---\n")) {
		if !bytes.Contains(text, []byte("\nkind: "+kind+"\n")) {
			continue
		}
		if err := yaml.UnmarshalStrict(text, &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	t.Fatalf("no %s in\n%s", kind, body)
	return o
}

// Ours are held to what is asked of add-ons.
func TestEveryManifestIsWhatKubernetesKnowsAndPinned(t *testing.T) {
	files := manifests(t, cluster(t))
	if len(files) != 8 {
		t.Errorf("got %d files, want 8", len(files))
	}
	for name, body := range files {
		if err := CheckManifest(body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, unset := range []string{": null\n", "\nstatus:", "targetPort: 0\n"} {
			if bytes.Contains(body, []byte(unset)) {
				t.Errorf("%s holds %q, which nobody set:\n%s", name, unset, body)
			}
		}
	}
}

// The taint of a controller does not keep the cluster's DNS away: at first there
// is no other machine.
func TestDNSRunsOnControllers(t *testing.T) {
	pod := object[appsv1.Deployment](t, manifests(t, cluster(t))["coredns.yaml"], "Deployment").Spec.Template.Spec
	for _, key := range []string{"node-role.kubernetes.io/controller", "node-role.kubernetes.io/control-plane"} {
		if !slices.ContainsFunc(pod.Tolerations, func(o corev1.Toleration) bool { return o.Key == key }) {
			t.Errorf("got %+v, want %s tolerated", pod.Tolerations, key)
		}
	}
}

func TestANodeMayDeleteItselfAndReadWhatDrainNeeds(t *testing.T) {
	got := object[rbacv1.ClusterRole](t, manifests(t, cluster(t))["kubelet-delete.yaml"], "ClusterRole").Rules
	want := []string{"nodes delete", "daemonsets get", "pods get"}
	var rules []string
	for _, r := range got {
		rules = append(rules, strings.Join(r.Resources, ",")+" "+strings.Join(r.Verbs, ","))
	}
	if !slices.Equal(rules, want) {
		t.Errorf("got %v, want %v", rules, want)
	}
}

func TestEverybodyReadsClusterInfoAndNothingElse(t *testing.T) {
	body := manifests(t, cluster(t))["cluster-info-reader.yaml"]
	r := object[rbacv1.Role](t, body, "Role")
	if r.Namespace != "kube-public" || len(r.Rules) != 1 || !slices.Equal(r.Rules[0].ResourceNames, []string{"cluster-info"}) || !slices.Equal(r.Rules[0].Verbs, []string{"get"}) {
		t.Errorf("got %+v", r)
	}
	if b := object[rbacv1.RoleBinding](t, body, "RoleBinding"); b.Subjects[0].Name != "system:anonymous" || b.RoleRef.Name != r.Name {
		t.Errorf("got %+v", b)
	}
}

func TestBindingsHaveKubeadmsNamesWhenAskedFor(t *testing.T) {
	c := cluster(t)
	for _, want := range []struct {
		kubeadm     bool
		name, group string
	}{{false, "bootstrap-node", "system:bootstrappers"}, {true, "kubeadm:kubelet-bootstrap", "system:bootstrappers:kubeadm:default-node-token"}} {
		c.KubeadmNames = want.kubeadm
		b := object[rbacv1.ClusterRoleBinding](t, manifests(t, c)["bootstrap-node.yaml"], "ClusterRoleBinding")
		if b.Name != want.name || b.Subjects[0].Name != want.group || b.RoleRef.Name != "system:node-bootstrapper" {
			t.Errorf("got %+v", b)
		}
	}
}

// With a level of its own, as SELinux gives pods, one pod could not replace what
// another wrote.
func TestWhatWritesCNIFilesHasTheLevelOfAll(t *testing.T) {
	pod := object[appsv1.DaemonSet](t, manifests(t, cluster(t))["flannel.yaml"], "DaemonSet").Spec.Template.Spec
	writers := 0
	for _, c := range pod.InitContainers {
		if strings.HasPrefix(c.Command[len(c.Command)-1], "/opt/cni/bin/") || strings.HasPrefix(c.Command[len(c.Command)-1], "/etc/cni/net.d/") {
			writers++
			if c.SecurityContext.SELinuxOptions.Level != "s0" {
				t.Errorf("%s: got %+v", c.Name, c.SecurityContext)
			}
		}
	}
	if writers != 2 {
		t.Errorf("got %d writers, want 2", writers)
	}
	if pod.Containers[0].SecurityContext.SELinuxOptions != nil {
		t.Error("flanneld writes no CNI file and has a level")
	}
}

func TestTheNetworkIsOneThatIsKnownOrAnAddOns(t *testing.T) {
	c := cluster(t)
	c.CNI = "none"
	if files := manifests(t, c); files["flannel.yaml"] != nil || files["kube-proxy.yaml"] == nil {
		t.Error("none: flannel is there, or kube-proxy is not")
	}
	c.CNI = "calico"
	if _, err := Manifests(c); err == nil || !strings.Contains(err.Error(), "add-on") {
		t.Errorf("got %v, want a word about add-ons", err)
	}
}

// Cilium forwards to services itself: with kube-proxy beside it, both would.
func TestCiliumTakesTheWorkOfKubeProxy(t *testing.T) {
	c := cluster(t)
	c.CNI = "cilium"
	delete(c.Images, imageKubeProxy)
	if _, err := Manifests(c); err == nil || !strings.Contains(err.Error(), "images.cilium") {
		t.Errorf("without its images: got %v", err)
	}
	c.Images[imageCilium], c.Images[imageCiliumOperator] = pinned, pinned
	files := manifests(t, c)
	if files["kube-proxy.yaml"] != nil || files["flannel.yaml"] != nil {
		t.Error("kube-proxy or flannel is there, too")
	}
	if err := CheckManifest(files["cilium.yaml"]); err != nil {
		t.Error(err)
	}
	set := object[appsv1.DaemonSet](t, files["cilium.yaml"], "DaemonSet").Spec.Template.Spec
	for _, one := range append(set.InitContainers, set.Containers...) {
		if s := one.SecurityContext.SELinuxOptions; s == nil || s.Level != "s0" {
			t.Errorf("%s writes CNI files with the level %+v", one.Name, s)
		}
	}
	if env := set.Containers[0].Env; env[0].Name != "KUBERNETES_SERVICE_HOST" || env[0].Value != c.Host {
		t.Errorf("got %+v: without kube-proxy the Service of the API server is not there yet", env[0])
	}
	for _, name := range []string{ciliumAgent, ciliumOperator} {
		for _, r := range roleOf(t, files["cilium.yaml"], name).Rules {
			if slices.Contains(r.Resources, "secrets") || slices.Contains(r.Verbs, "*") || slices.Contains(r.Resources, "*") {
				t.Errorf("%s may do more than it needs: %+v", name, r)
			}
		}
	}
}

func TestCiliumKnowsBothFamilies(t *testing.T) {
	for cidrs, want := range map[string][3]string{
		"10.2.0.0/16":             {"true", "false", "127.0.0.1:9234"},
		"10.2.0.0/16,fd00:2::/48": {"true", "true", "127.0.0.1:9234"},
		"fd00:2::/48":             {"false", "true", "[::1]:9234"},
	} {
		c := cluster(t)
		c.PodCIDRs = strings.Split(cidrs, ",")
		s := ciliumSettings(c)
		if got := [3]string{s["enable-ipv4"], s["enable-ipv6"], s["operator-api-serve-addr"]}; got != want {
			t.Errorf("%s: got %v, want %v", cidrs, got, want)
		}
		if host := ciliumProbe(c, 1, 1, 1).HTTPGet.Host; !strings.Contains(want[2], host) {
			t.Errorf("%s: the probe asks %s", cidrs, host)
		}
	}
}

// roleOf returns the ClusterRole of a name.
func roleOf(t *testing.T, body []byte, name string) rbacv1.ClusterRole {
	t.Helper()
	for _, text := range bytes.Split(body, []byte("---\n")) {
		var r rbacv1.ClusterRole
		if yaml.Unmarshal(text, &r) == nil && r.Kind == "ClusterRole" && r.Name == name {
			return r
		}
	}
	t.Fatalf("no ClusterRole %s", name)
	return rbacv1.ClusterRole{}
}

func TestFlannelKnowsBothFamilies(t *testing.T) {
	c := cluster(t)
	c.PodCIDRs = []string{"10.2.0.0/16", "fd00:2::/48"}
	if body := string(manifests(t, c)["flannel.yaml"]); !strings.Contains(body, `"Network": "10.2.0.0/16"`) || !strings.Contains(body, `"IPv6Network": "fd00:2::/48"`) {
		t.Errorf("got\n%s", body)
	}
}

const pinned = "example.com/a@sha256:0000000000000000000000000000000000000000000000000000000000000000"

const goodAddon = `# two documents
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {key: "yes"}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: b}
spec: {any: [1, 2], image: ` + pinned + `}
`

func TestAddOnsAreReadStrictly(t *testing.T) {
	if err := CheckManifest([]byte(goodAddon)); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"K03 a bool for a string":  strings.Replace(goodAddon, `"yes"`, "yes", 1),
		"K03 a number":             strings.Replace(goodAddon, `"yes"`, "1e3", 1),
		"K07 a tag":                strings.Replace(goodAddon, pinned, "example.com/a:v1", 1),
		"K12 a Secret":             strings.Replace(goodAddon, "kind: ConfigMap", "kind: Secret", 1),
		"a Secret in a list":       "apiVersion: v1\nkind: List\nmetadata: {name: a}\nitems: []\n",
		"an unknown key":           strings.Replace(goodAddon, "data:", "date:", 1),
		"a key twice":              strings.Replace(goodAddon, "data:", "kind: ConfigMap\ndata:", 1),
		"no name":                  strings.Replace(goodAddon, "{name: b}", "{}", 1),
		"nothing":                  "# nothing\n",
		"no object":                "- a\n",
		"a second one that is bad": goodAddon + "---\nkind: Pod\n",
	} {
		if err := CheckManifest([]byte(body)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestK11AddOnsAreRegularFilesOfTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	write := func(path string) {
		if err := os.WriteFile(path, []byte(goodAddon), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "a.yaml"))
	root := openRoot(t, dir)
	files, err := ReadAddons(root, ".")
	if err != nil || string(files["a.yaml"]) != goodAddon || len(files) != 1 {
		t.Fatalf("got %v, %v", files, err)
	}
	outside := filepath.Join(t.TempDir(), "b.yaml")
	write(outside)
	if err := os.Symlink(outside, filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAddons(root, "."); err == nil || !strings.Contains(err.Error(), "b.yaml") {
		t.Errorf("a link to outside: got %v", err)
	}
	if _, err := ReadAddons(openRoot(t, t.TempDir()), "."); err == nil {
		t.Error("an empty directory: got no error")
	}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func FuzzCheckManifest(f *testing.F) {
	f.Add([]byte(goodAddon))
	f.Add([]byte("---\n---\na: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if CheckManifest(body) != nil {
			return
		}
		var object struct{ APIVersion, Kind string }
		if yaml.Unmarshal(body, &object) == nil && object.APIVersion == "v1" && object.Kind == "Secret" {
			t.Errorf("a Secret went through:\n%s", body)
		}
	})
}
