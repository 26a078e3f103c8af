package plane

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgctl/imgctl/pkg/bundle/flags"
	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

func cluster(t *testing.T) *Cluster {
	t.Helper()
	table, err := owners.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{
		Images: map[string]string{},
		Host:   "api.example.com", Port: 6443,
		ServiceCIDRs: []string{"10.3.0.0/16"}, PodCIDRs: []string{"10.2.0.0/16"},
		Domain: "cluster.local", DNSServiceIP: "10.3.0.10",
		Members: map[string]string{"node1": "10.0.0.1", "node2": "10.0.0.2", "node3": "10.0.0.3"},
		CNI:     "flannel", Audit: true, Owners: table,
	}
	for i, name := range c.ImageNames() {
		c.Images[name] = fmt.Sprintf("registry.example.com/%s@sha256:%064x", name, i+1)
	}
	return c
}

func controller(t *testing.T, c *Cluster) Files {
	t.Helper()
	files, err := Controller(c)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func pods(t *testing.T, files Files) map[string]corev1.Pod {
	t.Helper()
	all := make(map[string]corev1.Pod)
	for name, body := range files {
		if path.Dir(name) != owners.StaticPods {
			continue
		}
		var p corev1.Pod
		if err := yaml.UnmarshalStrict(body, &p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[p.Name] = p
	}
	return all
}

func TestEachComponentRunsAsItsOwnUserOfTheTable(t *testing.T) {
	c := cluster(t)
	all := pods(t, controller(t, c))
	if len(all) != 4 {
		t.Fatalf("got %d pods, want 4", len(all))
	}
	for name, p := range all {
		u, _ := c.Owners.UserOf(name)
		s := p.Spec.SecurityContext
		if *s.RunAsUser != int64(u.ID) || *s.RunAsGroup != int64(u.ID) || !*s.RunAsNonRoot || s.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("%s: got %v, want user %d", name, s, u.ID)
		}
		if s.FSGroup != nil {
			t.Errorf("%s: fsGroup is set; the kubelet must not change owners", name)
		}
		shares := name == owners.APIServer || name == owners.ControllerManager
		readers, _ := c.Owners.GID("kubeadm-sa-key-readers")
		if got := slices.Equal(s.SupplementalGroups, []int64{int64(readers)}); got != shares || !shares && s.SupplementalGroups != nil {
			t.Errorf("%s: supplemental groups %v", name, s.SupplementalGroups)
		}
		if p.Spec.PriorityClassName != "system-node-critical" || !p.Spec.HostNetwork || p.Namespace != "kube-system" {
			t.Errorf("%s: got %+v", name, p.Spec)
		}
	}
}

// The API server's binary has a file capability: it does not run without it in
// the bounding set, or with no_new_privs. The others need nothing.
func TestOnlyTheAPIServerKeepsACapability(t *testing.T) {
	for name, p := range pods(t, controller(t, cluster(t))) {
		s := p.Spec.Containers[0].SecurityContext
		if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !*s.ReadOnlyRootFilesystem || s.Privileged != nil {
			t.Errorf("%s: got %v", name, s)
		}
		if name == owners.APIServer {
			if !slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_BIND_SERVICE"}) || s.AllowPrivilegeEscalation != nil {
				t.Errorf("%s: got %v", name, s)
			}
		} else if s.Capabilities.Add != nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			t.Errorf("%s: got %v", name, s)
		}
	}
}

func TestAComponentCanRunAsRootAndTheOthersDoNot(t *testing.T) {
	c := cluster(t)
	c.Root = []string{owners.Etcd}
	for name, p := range pods(t, controller(t, c)) {
		s, container := p.Spec.SecurityContext, p.Spec.Containers[0].SecurityContext
		if name == owners.Etcd {
			if s.RunAsUser != nil || s.RunAsNonRoot != nil || container.Capabilities != nil || s.SeccompProfile == nil {
				t.Errorf("etcd: got %v %v", s, container)
			}
		} else if s.RunAsUser == nil {
			t.Errorf("%s runs as root too", name)
		}
	}
	c.Root = []string{"kubelet"}
	if _, err := Controller(c); err == nil {
		t.Error("an unknown component: got no error")
	}
}

// What a pod mounts and names in a flag is in the table or rendered here, and its
// user can read it, by the table's modes.
func TestEveryFileOfAFlagIsMountedAndReadable(t *testing.T) {
	c := cluster(t)
	files := controller(t, c)
	for name, p := range pods(t, files) {
		for _, flag := range p.Spec.Containers[0].Command[1:] {
			_, value, _ := strings.Cut(flag, "=")
			if !strings.HasPrefix(value, "/") {
				continue
			}
			if !slices.ContainsFunc(p.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
				return value == m.MountPath || strings.HasPrefix(value, m.MountPath+"/")
			}) {
				t.Errorf("%s: %s is not mounted", name, flag)
			}
			if _, ok := files[value]; ok || value == owners.AuditLog+"/audit.log" {
				continue
			}
			row, ok := c.Owners.Find(value)
			if !ok {
				t.Errorf("%s: %s is not in the table", name, flag)
			} else if dir, _ := c.Owners.Find(path.Dir(value)); !mayUse(c, p, row, 4) || path.Dir(value) != "/var/lib" && !mayUse(c, p, dir, 1) {
				t.Errorf("%s: its user cannot read %s", name, flag)
			}
		}
	}
}

// And it reads no other's secrets.
func TestNoComponentCanReadAnothersSecrets(t *testing.T) {
	c := cluster(t)
	all := pods(t, controller(t, c))
	for _, row := range c.Owners.Paths() {
		if !row.Secret() || row.Mode.IsDir() {
			continue
		}
		var readers []string
		for name, p := range all {
			if mayUse(c, p, row, 4) {
				readers = append(readers, name)
			}
		}
		want := 1
		switch {
		case row.Group == "kubeadm-sa-key-readers":
			want = 2
		case row.Owner == "root":
			want = 0
		}
		if len(readers) != want {
			t.Errorf("%s: read by %v, want %d components", row.Path, readers, want)
		}
	}
}

// mayUse is what the kernel decides: the first class that fits counts.
func mayUse(c *Cluster, p corev1.Pod, row owners.Path, bit uint32) bool {
	uid, _ := c.Owners.UID(row.Owner)
	gid, _ := c.Owners.GID(row.Group)
	s, mode := p.Spec.SecurityContext, uint32(row.Mode.Perm())
	switch {
	case *s.RunAsUser == int64(uid):
		return mode>>6&bit != 0
	case *s.RunAsGroup == int64(gid), slices.Contains(s.SupplementalGroups, int64(gid)):
		return mode>>3&bit != 0
	}
	return mode&bit != 0
}

// K14: in every version, and none is deprecated.
func TestEveryFlagIsOneOfKubernetes(t *testing.T) {
	for name, p := range pods(t, controller(t, cluster(t))) {
		if name == owners.Etcd {
			continue
		}
		given := p.Spec.Containers[0].Command[1:]
		for _, minor := range flags.Minors() {
			for _, f := range flags.Check(name, minor+".0", given) {
				t.Errorf("%s %s: %+v", name, minor, f)
			}
			if len(flags.Check(name, minor+".0", append(slices.Clone(given), "--address=0.0.0.0"))) == 0 {
				t.Errorf("%s %s: --address, which is gone, was not found", name, minor)
			}
		}
	}
}

func TestAnonymousRequestsAreForHealthAndClusterInfoOnly(t *testing.T) {
	var got authenticationConfiguration
	if err := yaml.UnmarshalStrict(controller(t, cluster(t))[authenticationPath], &got); err != nil {
		t.Fatal(err)
	}
	want := []pathCondition{{"/livez"}, {"/readyz"}, {"/healthz"}, {"/api/v1/namespaces/kube-public/configmaps/cluster-info"}}
	if !slices.Equal(got.Anonymous.Conditions, want) || !got.Anonymous.Enabled {
		t.Errorf("got %+v", got)
	}
}

func TestTheAuditLogIsAnOption(t *testing.T) {
	c := cluster(t)
	with := controller(t, c)
	c.Audit = false
	without := controller(t, c)
	pod := podPath(owners.APIServer)
	if !bytes.Contains(with[pod], []byte("--audit-policy-file")) || with[auditPolicyPath] == nil {
		t.Error("asked for: there is none")
	}
	if bytes.Contains(without[pod], []byte("audit")) || without[auditPolicyPath] != nil {
		t.Error("not asked for: there is one")
	}
}

func TestEtcdIsHereOrElsewhere(t *testing.T) {
	c := cluster(t)
	here := controller(t, c)
	if p := string(here[podPath(owners.Etcd)]); !strings.Contains(p, "--initial-cluster=node1=https://10.0.0.1:2380,node2=https://10.0.0.2:2380,node3=https://10.0.0.3:2380") {
		t.Errorf("got\n%s", p)
	}
	c.Members, c.EtcdServers = nil, []string{"https://etcd.example.com:2379"}
	there := controller(t, c)
	if there[podPath(owners.Etcd)] != nil || !strings.Contains(string(there[podPath(owners.APIServer)]), "--etcd-servers=https://etcd.example.com:2379") {
		t.Error("etcd elsewhere: it is run here, or not asked")
	}
	c.EtcdServers = nil
	if _, err := Controller(c); err == nil {
		t.Error("no etcd at all: got no error")
	}
	c.Members = map[string]string{"node1": "fd00::1"}
	if p := string(controller(t, c)[podPath(owners.Etcd)]); !strings.Contains(p, "https://[$(NODE_ADDRESS)]:2379") || !strings.Contains(p, "node1=https://[fd00::1]:2380") {
		t.Errorf("IPv6: got\n%s", p)
	}
}

// K09.
func TestK09ThousandRendersAreTheSame(t *testing.T) {
	want := controller(t, cluster(t))
	for range 1000 {
		for name, body := range controller(t, cluster(t)) {
			if !bytes.Equal(body, want[name]) {
				t.Fatalf("%s differs", name)
			}
		}
	}
}

func TestAnImageThatIsMissingIsNamed(t *testing.T) {
	c := cluster(t)
	delete(c.Images, owners.Scheduler)
	if _, err := Controller(c); err == nil || !strings.Contains(err.Error(), "images.kube-scheduler") {
		t.Errorf("got %v", err)
	}
}
