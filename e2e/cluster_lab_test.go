//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/imgctl/imgctl/internal/kubelab"
	"github.com/imgctl/imgctl/internal/peers"
)

// cluster is a cluster that was made from a rendered bundle.
type cluster struct {
	lab        *kubelab.Lab
	dir        string
	controller *kubelab.Machine

	image        string // that every machine has; it does nothing until it is ended
	token        string // with which machines join
	pin          string // of the authority
	bootstrapped string // what the first run of bootstrap.sh printed
}

// clusterOnce is the cluster that all tests share.
type clusterOnce struct {
	once  sync.Once
	value *cluster
	lab   *kubelab.Lab // also when the cluster failed: there may be something to end
}

// Cluster returns it, with its control plane up and its manifests applied.
func (w *world) Cluster(t *testing.T) *cluster {
	t.Helper()
	w.cluster.once.Do(func() { w.cluster.value = newCluster(t) })
	if w.cluster.value == nil {
		t.Fatal("the cluster could not be made, see above")
	}
	return w.cluster.value
}

// close ends its machines.
func (c *clusterOnce) close() error {
	if c.lab == nil {
		return nil
	}
	return c.lab.Close()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{dir: filepath.Join(shared.Dir, "cluster")}
	done := stage(t, "compile kubelet, control plane, kubeadm and etcd "+peers.KubeVersion)
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	program, err := shared.Peers.Program(t.Context(), peers.Cluster(root))
	if err != nil {
		t.Fatal(err)
	}
	done()
	if c.lab, err = kubelab.Open(c.dir, program, "node1", "node2", "node3", "node4", "node5"); err != nil {
		t.Fatal(err)
	}
	shared.cluster.lab = c.lab
	c.render(t)
	c.startController(t)
	done = stage(t, "bootstrap.sh")
	c.bootstrapped = c.on(t, c.controller, "sh", "/etc/kubernetes/bootstrap.sh")
	done()
	return c
}

// stage tells how long a part took.
func stage(t *testing.T, what string) (done func()) {
	start := time.Now()
	return func() { t.Logf("%5.1f s  %s", time.Since(start).Seconds(), what) }
}

// clusterSpec is what "imgctl bootstrap init" is given.
const clusterSpec = `apiVersion: imgctl.dev/v1
kind: Cluster
name: lab
controlPlaneEndpoint: ` + kubelab.APIServer + `:6443
apiServer: {certSANs: [10.77.0.1, node1]}
networking: {serviceSubnet: 10.3.0.0/16, podSubnet: 10.2.0.0/16, dnsDomain: cluster.local, dnsServiceIP: 10.3.0.10}
etcd: {servers: [10.77.0.1]}
`

// bundleSpec is what "imgctl bundle render" is given. It ends with the image of
// the kubelet and, on a controller, of the rest.
const bundleSpec = `apiVersion: imgctl.dev/v1
kind: Bundle
name: lab-%[1]s
kubernetes: ` + peers.KubeVersion + `
os: {family: debian}
role: %[1]s
cluster:
  apiServers: [` + kubelab.APIServer + `]
  podCIDRs: [10.2.0.0/16]
  serviceCIDRs: [10.3.0.0/16]
  dnsServiceIPs: [10.3.0.10]
  domain: cluster.local
images:
  kubelet: %[2]s
`

// render makes bundles and secrets as a user does.
func (c *cluster) render(t *testing.T) {
	t.Helper()
	done := stage(t, "image of all components")
	components := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
	digest, err := c.lab.Image(append(components, "kubelet")...)
	if err != nil {
		t.Fatal(err)
	}
	done()
	done = stage(t, "imgctl bundle render, imgctl bootstrap init")
	controller := fmt.Sprintf(bundleSpec, "controller", kubelab.Reference("kubelet", digest))
	for _, name := range append(components, "coredns", "kube-proxy") {
		controller += "  " + name + ": " + kubelab.Reference(name, digest) + "\n"
	}
	controller += "controlPlane: {members: {node1: 10.77.0.1}, audit: true}\n"
	for role, spec := range map[string]string{"controller": controller, "worker": fmt.Sprintf(bundleSpec, "worker", kubelab.Reference("kubelet", digest))} {
		c.write(t, role+"/bundle.yaml", spec)
		output(t, shared.Command(t.Context(), "bundle", "render", c.at(role), "-o", c.at(role+".tree")))
	}
	c.write(t, "cluster.yaml", clusterSpec)
	made := output(t, shared.Command(t.Context(), append([]string{"bootstrap", "init", c.at("cluster.yaml"), "-o", c.at("secrets")}, c.seals(t)...)...))
	done()
	c.image = kubelab.Reference("kubelet", digest)
	c.pin = only(t, pinned, made)
	kubeconfig, err := os.ReadFile(c.at("secrets/bootstrap-kubelet.conf"))
	if err != nil {
		t.Fatal(err)
	}
	c.token = only(t, tokened, string(kubeconfig))
}

// What a user reads in what "imgctl bootstrap init" prints and writes.
var (
	pinned  = regexp.MustCompile(`(?m) pki/ca\.crt .*(sha256:[0-9a-f]{64})$`)
	tokened = regexp.MustCompile(`(?m) token: ([a-z0-9]{6}\.[a-z0-9]{16})$`)
)

// only returns what the group of a pattern matches in a text.
func only(t *testing.T, pattern *regexp.Regexp, text string) string {
	t.Helper()
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("got %s, want %s in it", text, pattern)
	}
	return m[1]
}

// seals makes a key for each kind of machine.
func (c *cluster) seals(t *testing.T) (flags []string) {
	t.Helper()
	for _, role := range []string{"controller", "etcd", "worker"} {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.at(role+".key"), []byte(identity.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--seal", role+"="+identity.Recipient().String())
	}
	return flags
}

func (c *cluster) at(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(c.at(name)), 0o755), os.WriteFile(c.at(name), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// startController brings the control plane up: from nothing to an API server that
// says that it is ready.
func (c *cluster) startController(t *testing.T) {
	t.Helper()
	done := stage(t, "machine node1 with containerd")
	var err error
	if c.controller, err = c.lab.Machine(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
	done = stage(t, "install bundle and secrets, audit")
	if err := c.controller.Install(t.Context(), c.at("controller.tree")); err != nil {
		t.Fatal(err)
	}
	c.on(t, c.controller, "systemd-sysusers", "/etc/sysusers.d/kubernetes.conf")
	for _, role := range []string{"controller", "etcd"} {
		c.imgctl(t, c.controller, "bootstrap", "open", c.at("secrets/sealed/"+role+".age"), "--identity", c.at(role+".key"))
	}
	c.on(t, c.controller, "systemd-tmpfiles", "--create", "/etc/tmpfiles.d/kubernetes.conf")
	if found := c.imgctl(t, c.controller, "bundle", "audit", "--role", "controller", "--role", "etcd"); found != "" {
		t.Errorf("audit: got %s, want nothing", found)
	}
	done()
	done = stage(t, "kubelet starts the control plane")
	if err := c.controller.StartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wait(t, c.controller, c.controller, "kubectl", "--kubeconfig=/etc/kubernetes/bootstrap-secrets/super-admin.conf", "get", "--raw=/readyz")
	done()
}

// on runs a program on a machine and returns what it printed.
func (c *cluster) on(t *testing.T, m *kubelab.Machine, program string, args ...string) string {
	t.Helper()
	return output(t, m.Command(t.Context(), program, args...))
}

// imgctl runs imgctl on a machine.
func (c *cluster) imgctl(t *testing.T, m *kubelab.Machine, args ...string) string {
	t.Helper()
	return c.on(t, m, filepath.Join(shared.Bin, "imgctl"), args...)
}

// wait runs a program on a machine until it succeeds, as long as a kubelet runs.
func (c *cluster) wait(t *testing.T, kubelet, m *kubelab.Machine, program string, args ...string) {
	t.Helper()
	var text []byte
	err := kubelab.Wait(t.Context(), kubelet.Running, func(ctx context.Context) (err error) {
		text, err = m.Command(ctx, program, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, text)
	}
}

// kubectl runs on the controller, with the operator's kubeconfig.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return c.on(t, c.controller, "kubectl", append([]string{"--kubeconfig=/etc/kubernetes/admin.conf"}, args...)...)
}

// worker starts a machine that has the worker's bundle and belongs to no cluster.
func (c *cluster) worker(t *testing.T) *kubelab.Machine {
	t.Helper()
	done := stage(t, "another machine with containerd")
	defer done()
	m, err := c.lab.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), c.at("worker.tree")); err != nil {
		t.Fatal(err)
	}
	return m
}

// join starts the kubelet of a machine that has a bootstrap kubeconfig.
func (c *cluster) join(t *testing.T, m *kubelab.Machine) {
	t.Helper()
	done := stage(t, m.Name+" joins")
	defer done()
	if err := m.StartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.ready(t, m)
}

// ready waits until the cluster knows the machine as a node that is ready. For
// the controller that is a minute: its kubelet waits longer and longer for an API
// server that knows its token.
func (c *cluster) ready(t *testing.T, m *kubelab.Machine) {
	t.Helper()
	c.wait(t, m, c.controller, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "wait", "--for=condition=Ready", "node/"+m.Name, "--timeout=10s")
}

// status is /proc/PID/status of a component.
func (c *cluster) status(t *testing.T, component string) map[string]string {
	t.Helper()
	p, err := c.controller.Process(component)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}
