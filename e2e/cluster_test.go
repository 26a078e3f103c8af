//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/kubelab"
	"github.com/imgctl/imgctl/internal/peers"
)

// applied is what kubectl says of one object.
var applied = regexp.MustCompile(`(?m)^(\S+/\S+) (created|configured|unchanged)$`)

// The script of the bundle says of every object what became of it, and can be run
// at any time.
func TestManifestsAreAppliedAgainWithoutAChange(t *testing.T) {
	c := shared.Cluster(t)
	first := applied.FindAllStringSubmatch(c.bootstrapped, -1)
	if len(first) < 20 || len(first) != strings.Count(c.bootstrapped, "\n") {
		t.Fatalf("got %d results, want one for each object:\n%s", len(first), c.bootstrapped)
	}
	second := applied.FindAllStringSubmatch(c.on(t, c.controller, "sh", "/etc/kubernetes/bootstrap.sh"), -1)
	if len(second) != len(first) {
		t.Fatalf("got %d results, then %d", len(first), len(second))
	}
	for i, result := range second {
		if result[1] != first[i][1] {
			t.Errorf("got %s, then %s", first[i][1], result[1])
		}
		// kubectl never says "unchanged" of a Secret that is written as text.
		if secret := strings.HasPrefix(result[1], "secret/"); result[2] != "unchanged" && !secret {
			t.Errorf("%s: got %s, want unchanged", result[1], result[2])
		}
	}
}

func TestMachineJoinsWithTheSealedKubeconfig(t *testing.T) {
	c := shared.Cluster(t)
	m := c.worker(t)
	c.imgctl(t, m, "bootstrap", "open", c.at("secrets/sealed/worker.age"), "--identity", c.at("worker.key"))
	c.join(t, m)
	requests := c.kubectl(t, "get", "csr", "--output=jsonpath={range .items[*]}{.spec.username} {.status.conditions[*].type}{\"\\n\"}{end}")
	if want := "system:bootstrap:" + c.token[:6] + " Approved\n"; !strings.Contains(requests, want) {
		t.Errorf("got the requests\n%swant one that is approved for the token", requests)
	}
	if labels := c.kubectl(t, "get", "node", m.Name, "--output=jsonpath={.metadata.labels}"); !strings.Contains(labels, `"node.kubernetes.io/node":""`) {
		t.Errorf("got the labels %s, want those of the bundle", labels)
	}
	current := []byte(c.on(t, m, "cat", "/var/lib/kubelet/pki/kubelet-client-current.pem"))
	pair, err := tls.X509KeyPair(current, current)
	if err != nil {
		t.Fatal(err)
	}
	if who := pair.Leaf.Subject.String(); who != "CN=system:node:"+m.Name+",O=system:nodes" {
		t.Errorf("got a certificate for %s, want one for the node", who)
	}
	if valid := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); valid != 72*time.Hour {
		t.Errorf("got a certificate for %s, want three days", valid)
	}
}

// What the API server refuses is named, and keeps nothing else from being applied.
func TestManifestThatIsRefusedIsNamed(t *testing.T) {
	c := shared.Cluster(t)
	const dir = "/etc/kubernetes/bootstrap/refused"
	for name, namespace := range map[string]string{"bad": "no-such-namespace", "good": "default"} {
		manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\n", name, namespace)
		if err := c.controller.Write(t.Context(), dir+"/"+name+".yaml", manifest); err != nil {
			t.Fatal(err)
		}
	}
	out := refused(t, c.controller.Command(t.Context(), "sh", "/etc/kubernetes/bootstrap.sh"))
	if !strings.Contains(out, "configmap/good created\n") || strings.Count(out, "bootstrap: not applied: ") != 1 || !strings.Contains(out, "bootstrap: not applied: "+dir+"/bad.yaml\n") {
		t.Errorf("got\n%s, want one object created and one file named", out)
	}
	c.kubectl(t, "create", "namespace", "no-such-namespace")
	if out := c.on(t, c.controller, "sh", "/etc/kubernetes/bootstrap.sh"); !strings.Contains(out, "configmap/bad created\n") {
		t.Errorf("got\n%s, want the other applied as well", out)
	}
	c.on(t, c.controller, "rm", "--recursive", dir)
}

// A machine that has a token and a pin and nothing else finds its cluster, and no
// other one.
func TestMachineFindsItsClusterByTokenAndPin(t *testing.T) {
	c := shared.Cluster(t)
	m := c.worker(t)
	discover := func(pin string) []string {
		return []string{"bootstrap", "discover", kubelab.APIServer + ":6443", "--token-file", c.at("secrets/tokens/" + c.token[:6] + ".yaml"),
			"--discovery-token-ca-cert-hash", pin, "-o", "/etc/kubernetes/kubeconfig"}
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	out := refused(t, m.Command(t.Context(), filepath.Join(shared.Bin, "imgctl"), discover(wrong)...))
	if !strings.Contains(out, c.pin) || !strings.Contains(out, wrong) {
		t.Errorf("got %s, want both pins", out)
	}
	c.imgctl(t, m, discover(c.pin)...)
	c.join(t, m)
}

// web is what runs on one node, to be evicted.
const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: %s}
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: %q}]
`

// A machine that goes takes its node with it, by its own credentials: those do
// not reach any other node.
func TestNodeDeletesItselfAndNoOther(t *testing.T) {
	c := shared.Cluster(t)
	m := c.worker(t)
	c.imgctl(t, m, "bootstrap", "open", c.at("secrets/sealed/worker.age"), "--identity", c.at("worker.key"))
	c.join(t, m)
	if err := c.controller.Write(t.Context(), "/run/web.yaml", fmt.Sprintf(web, m.Name, c.image)); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "apply", "--filename=/run/web.yaml")
	c.kubectl(t, "rollout", "status", "deployment/web", "--timeout=2m")

	c.ready(t, c.controller)
	const own = "--kubeconfig=/var/lib/kubelet/kubeconfig"
	for _, other := range [][]string{
		{"delete", "node", c.controller.Name},
		{"delete", "pod", "--namespace=kube-system", "kube-scheduler-" + c.controller.Name},
		{"cordon", c.controller.Name},
	} {
		if out := refused(t, m.Command(t.Context(), "kubectl", append([]string{own}, other...)...)); !strings.Contains(out, "forbidden") {
			t.Errorf("%v: got %s, want it forbidden", other, out)
		}
	}
	c.on(t, m, "sh", "-ec", `mkdir /run/delete-node; cp "$(command -v kubectl)" /run/delete-node/`) // as the unit does when the machine starts
	out := c.on(t, m, "sh", "/etc/kubernetes/delete-node.sh")
	if strings.Count(out, " evicted\n") != 2 || !strings.Contains(out, fmt.Sprintf("node %q deleted", m.Name)) {
		t.Errorf("got\n%s, want two pods evicted and the node deleted", out)
	}
	if nodes := c.kubectl(t, "get", "nodes", "--output=name"); strings.Contains(nodes, m.Name) || !strings.Contains(nodes, c.controller.Name) {
		t.Errorf("got the nodes %s, want %s and not %s", nodes, c.controller.Name, m.Name)
	}
}

// kubeadmSpec is what kubeadm of a joining machine is given.
const kubeadmSpec = `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {bootstrapToken: {token: %s, apiServerEndpoint: "` + kubelab.APIServer + `:6443", caCertHashes: [%q]}}
nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock"}
`

// kubeadmCluster is what a cluster of kubeadm's own has beside ours: its
// configuration, for machines to come, and their right to look for their node.
const kubeadmCluster = `kubeadm init phase upload-config all --config /run/kubeadm.yaml --kubeconfig /etc/kubernetes/admin.conf
kubectl create clusterrole kubeadm:get-nodes --verb=get --resource=nodes
kubectl create clusterrolebinding kubeadm:get-nodes --clusterrole=kubeadm:get-nodes --group=system:bootstrappers:kubeadm:default-node-token
`

const kubeadmConfig = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.77.0.1}
nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: ` + peers.KubeVersion + `
controlPlaneEndpoint: ` + kubelab.APIServer + `:6443
networking: {serviceSubnet: 10.3.0.0/16, podSubnet: 10.2.0.0/16}
`

// kubeadm takes our cluster-info, its signature, our token and our pin, and joins
// a machine to the cluster.
func TestKubeadmJoins(t *testing.T) {
	c := shared.Cluster(t)
	done := stage(t, "another machine with containerd")
	m, err := c.lab.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done()
	join := func(pin string) *exec.Cmd {
		if err := m.Write(t.Context(), "/run/join.yaml", fmt.Sprintf(kubeadmSpec, c.token, pin)); err != nil {
			t.Fatal(err)
		}
		return m.Command(t.Context(), "kubeadm", "join", "--config=/run/join.yaml", "--skip-phases=preflight,kubelet-wait-bootstrap")
	}
	if out := refused(t, join("sha256:"+strings.Repeat("0", 64))); !strings.Contains(out, c.pin) || !strings.Contains(out, "are pinned") {
		t.Errorf("another pin: got %s, want %s refused", out, c.pin)
	}
	// Whoever is asked for the configuration of kubeadm knows the token already.
	if out := refused(t, join(c.pin)); !strings.Contains(out, `User "system:bootstrap:`+c.token[:6]+`" cannot get resource "configmaps"`) {
		t.Errorf("a cluster without kubeadm's configuration: got %s", out)
	}
	if err := c.controller.Write(t.Context(), "/run/kubeadm.yaml", kubeadmConfig); err != nil {
		t.Fatal(err)
	}
	c.on(t, c.controller, "env", "KUBECONFIG=/etc/kubernetes/admin.conf", "sh", "-ec", kubeadmCluster)
	done = stage(t, m.Name+" joins by kubeadm")
	output(t, join(c.pin))
	flags := c.on(t, m, "sh", "-ec", ". /var/lib/kubelet/kubeadm-flags.env; echo $KUBELET_KUBEADM_ARGS") // as kubeadm's own unit has it
	if err := m.RunKubelet(t.Context(), append(strings.Fields(flags), "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
		"--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml")...); err != nil {
		t.Fatal(err)
	}
	c.ready(t, m)
	done()
}
