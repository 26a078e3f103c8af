package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
	"k8s.io/kubelet/pkg/apis"
)

const typhoon = "../../bundles/typhoon"

// load reads the repository's own bundle.
func load(t testing.TB) *Config {
	t.Helper()
	c, err := Load(typhoon)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoadReadsADirectoryOrAFile(t *testing.T) {
	c := load(t)
	if c.Name != "typhoon" || c.Kubernetes != "v1.36.2" || c.Images["kubelet"][0] != "quay.io/poseidon/kubelet" || c.Role != Worker || c.CNI != "none" {
		t.Errorf("got %+v", c)
	}
	if _, err := Load(filepath.Join(typhoon, "bundle.yaml")); err != nil {
		t.Error(err)
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// Each row changes one thing in the repository's own bundle.yaml, which is accepted (the test above).
func TestLoadRefusesWhatNoNodeCouldUse(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(typhoon, "bundle.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const labels = `{node.kubernetes.io/node: ""}`
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key (C02)":          {"domain:", "domian:", `bundle.yaml:10:3: unknown field "domian"`},
		"duplicate key":              {"name: typhoon", "name: typhoon\nname: typhoon", "bundle.yaml:6:1: "},
		"other kind":                 {"kind: Bundle", "kind: Image", `bundle.yaml:4:7: kind: got "Image"`},
		"name":                       {"name: typhoon", "name: Typhoon", `name: got "Typhoon"`},
		"channel as version":         {"kubernetes: v1.36.2", "kubernetes: stable", `kubernetes: got "stable"`},
		"version without a v":        {"kubernetes: v1.36.2", "kubernetes: 1.36.2", `kubernetes: got "1.36.2"`},
		"short version":              {"kubernetes: v1.36.2", "kubernetes: v1.36", `kubernetes: got "v1.36"`},
		"another system":             {"family: fcos", "family: bottlerocket", `bundle.yaml:7:14: os.family: got "bottlerocket", want one of debian, fcos, flatcar`},
		"another role":               {"kubelet:\n", "role: master\nkubelet:\n", `role: got "master", want one of controller, worker`},
		"another network":            {"kubelet:\n", "cni: calico\nkubelet:\n", `cni: got "calico"`},
		"overlapping networks":       {"  dnsServiceIPs: [10.3.0.10]", "  dnsServiceIPs: [10.3.0.10]\n  podCIDRs: [10.2.0.0/15]\n  serviceCIDRs: [10.3.0.0/24]", `bundle.yaml:11:18: cluster.serviceCIDRs[0]: 10.3.0.0/24 overlaps 10.2.0.0/15`},
		"DNS outside of services":    {"  dnsServiceIPs: [10.3.0.10]", "  dnsServiceIPs: [10.4.0.10]\n  serviceCIDRs: [10.3.0.0/24]", `bundle.yaml:9:19: cluster.dnsServiceIPs[0]: got 10.4.0.10, want an address within`},
		"network with host bits":     {"  dnsServiceIPs", "  podCIDRs: [10.2.0.1/16]\n  dnsServiceIPs", "want a network such as"},
		"two networks of one family": {"  dnsServiceIPs", "  podCIDRs: [10.2.0.0/16, 10.5.0.0/16]\n  dnsServiceIPs", "want the other family"},
		"server with a port":         {"  dnsServiceIPs", "  apiServers: ['a.example:6443']\n  dnsServiceIPs", "cluster.apiServers[0]"},
		"server twice":               {"  dnsServiceIPs", "  etcdServers: [a.example, a.example]\n  dnsServiceIPs", "twice"},
		"provider outside (K01)":     {"kubelet:\n", "kubelet:\n  credentialProviders: {directory: /opt/p, providers: [{name: ../sh, matchImages: ['*'], cacheDuration: 1h}]}\n", `got "../sh"`},
		"provider directory":         {"kubelet:\n", "kubelet:\n  credentialProviders: {directory: /opt, providers: []}\n", `got "/opt"`},
		"etcd without its image":     {"kubelet:\n", "role: controller\noptions: {etcdMember: true}\nkubelet:\n", "images.etcd: got nothing"},
		"Quadlet without podman":     {"os: {family: fcos}", "options: {quadlet: true}\nos: {family: flatcar}", "options.quadlet: it needs podman, and flatcar has docker"},
		"no DNS address":             {"[10.3.0.10]", "[]", "got 0 addresses"},
		"four DNS addresses":         {"[10.3.0.10]", "[10.3.0.10, 10.3.0.11, 10.3.0.12, 10.3.0.13]", "got 4 addresses"},
		"DNS name":                   {"[10.3.0.10]", "[dns.local]", `got "dns.local", want an IP address`},
		"DNS any address":            {"[10.3.0.10]", "[0.0.0.0]", `got "0.0.0.0"`},
		"DNS address with a zone":    {"[10.3.0.10]", "['fe80::1%eth0']", "want an IP address"},
		"domain with a line break":   {"cluster.local", `"a\nb"`, "cluster.domain"},
		"domain with a dot at end":   {"cluster.local", "cluster.local.", "cluster.domain"},
		"domain in capitals":         {"cluster.local", "Cluster.local", "cluster.domain"},
		"label that stops kubelet":   {labels, `{node-role.kubernetes.io/node: ""}`, "may not give itself"},
		"label of Kubernetes":        {labels, `{kubernetes.io/x: ""}`, "may not give itself"},
		"label key (K01)":            {labels, `{"a\nb": ""}`, "kubelet.nodeLabels"},
		"label key prefix":           {labels, `{"-/a": ""}`, "kubelet.nodeLabels"},
		"label value (K01)":          {labels, `{example.org/a: "x %h"}`, "value of example.org/a"},
		"label value with a comma":   {labels, `{example.org/a: "x,b=c"}`, "value of example.org/a"},
		"taint effect":               {"kubelet:\n", "kubelet:\n  taints: [{key: example.org/a, effect: Never}]\n", `got "Never"`},
		"taint key":                  {"kubelet:\n", "kubelet:\n  taints: [{key: '', effect: NoSchedule}]\n", "kubelet.taints"},
		"taint value":                {"kubelet:\n", "kubelet:\n  taints: [{key: a, value: '$(x)', effect: NoSchedule}]\n", "value of a"},
		"no image":                   {"  kubelet: quay.io/poseidon/kubelet", "  kubelet: ''", "images.kubelet: got nothing"},
		"an image that nothing runs": {"  kubelet: quay", "  hyperkube: quay", `images: got "hyperkube"`},
		"an image with a line break": {"  kubelet: quay.io/poseidon/kubelet", `  kubelet: ["quay.io/a/b", "quay.io/a\nb"]`, "images.kubelet: alternative 2"},
		"an image of no registry":    {"  kubelet: quay.io/poseidon/kubelet", "  kubelet: psdn/kubelet", "images.kubelet: alternative 1"},
		"two digests of one image":   {"  kubelet: quay.io/poseidon/kubelet", "  kubelet: [quay.io/a/b@" + digest + ", quay.io/a/c@" + otherDigest + "]", "images.kubelet: alternative 2: got " + otherDigest},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(good), tt.old, tt.new, 1)
			if changed == string(good) {
				t.Fatalf("%q is not in the file", tt.old)
			}
			path := filepath.Join(t.TempDir(), "bundle.yaml")
			if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			var se *strict.Error
			if !errors.As(err, &se) || se.File != path {
				t.Fatalf("got %v, want a *strict.Error that names %s", err, path)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
		})
	}
}

// Kubernetes' own rule is the judge of what a kubelet may call itself.
func TestLabelsThatAreAllowedAreAllowedByKubernetes(t *testing.T) {
	for key, want := range map[string]bool{
		"node.kubernetes.io/node":          true,
		"node.kubernetes.io/instance-type": true,
		"a.node.kubernetes.io/x":           true,
		"kubelet.kubernetes.io/x":          true,
		"topology.kubernetes.io/zone":      true,
		"topology.kubernetes.io/other":     false,
		"node-role.kubernetes.io/worker":   false,
		"kubernetes.io/x":                  false,
		"k8s.io/x":                         false,
		"a.k8s.io/x":                       false,
		"xnode.kubernetes.io/x":            false,
	} {
		if got := allowedLabel(key); got != want || got != apis.IsKubeletLabel(key) {
			t.Errorf("%s: got %t, Kubernetes says %t, want %t", key, got, apis.IsKubeletLabel(key), want)
		}
	}
	for _, key := range []string{"example.org/a", "a", "notkubernetes.io/a"} {
		if !allowedLabel(key) {
			t.Errorf("%s: refused, though it is none of Kubernetes' own", key)
		}
	}
}
