package bundle

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/imgctl/imgctl/internal/strict"
)

// Config is a bundle.yaml.
type Config struct {
	strict.Header `yaml:",inline"`
	// Name of the bundle: lower-case letters, digits, dots and dashes.
	Name string `yaml:"name"`
	// Kubernetes is the version that the files are written for: "v1.36.2".
	Kubernetes string `yaml:"kubernetes"`
	// OS is the operating system of the node.
	OS OS `yaml:"os"`
	// Cluster is what all nodes of a cluster share.
	Cluster Cluster `yaml:"cluster"`
	// Kubelet is what this kind of node is given.
	Kubelet Kubelet `yaml:"kubelet"`
	// Images names the images that the files run: a repository or a reference,
	// which the render has pinned. "kubelet" is required, others are refused.
	Images map[string]string `yaml:"images"`

	file string // blamed for mistakes
}

// OS is the operating system of a node.
type OS struct {
	// Family decides the container engine and the paths. Only "fcos" (Fedora
	// CoreOS: podman, SELinux) is known.
	Family string `yaml:"family"`
}

// Cluster is what all nodes of a cluster share.
type Cluster struct {
	// DNSServiceIPs are the addresses of the cluster's DNS service, at most three.
	DNSServiceIPs []string `yaml:"dnsServiceIPs"`
	// Domain is the cluster's DNS domain: "cluster.local".
	Domain string `yaml:"domain"`
}

// Kubelet is what one kind of node is given.
type Kubelet struct {
	// NodeLabels are set when the node registers. A kubelet may not label itself
	// with every key of Kubernetes' own, node-role.kubernetes.io for instance.
	NodeLabels map[string]string `yaml:"nodeLabels"`
	// Taints are set when the node registers.
	Taints []Taint `yaml:"taints"`
}

// Taint keeps pods away that do not tolerate it.
type Taint struct {
	Key    string `yaml:"key" json:"key"`
	Value  string `yaml:"value" json:"value,omitempty"`
	Effect string `yaml:"effect" json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// kubeletImage is the name of the one image that a bundle runs.
const kubeletImage = "kubelet"

// Load reads path, or bundle.yaml in the directory path. A mistake in the file
// is a [*strict.Error]; a file that cannot be read is an error of package os.
func Load(path string) (*Config, error) {
	if filepath.Ext(path) != ".yaml" {
		path = filepath.Join(path, "bundle.yaml")
	}
	c := &Config{file: path}
	if err := strict.DecodeFile(path, "Bundle", c); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}

// Check reports the first value that no node could use as a [*strict.Error].
func (c *Config) Check() error {
	for _, check := range []func() error{c.checkHead, c.checkCluster, c.checkLabels, c.checkTaints, c.checkImages} {
		if err := check(); err != nil {
			return &strict.Error{File: c.file, Msg: err.Error()}
		}
	}
	return nil
}

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)
	domainForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	// Label values and the names in label and taint keys (Kubernetes, "Labels and Selectors").
	labelForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

func (c *Config) checkHead() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name: got %q, want lower-case letters, digits, dots and dashes", c.Name)
	}
	if v := c.Kubernetes; !semver.IsValid(v) || semver.Canonical(v) != v {
		return fmt.Errorf("kubernetes: got %q, want a version such as v1.36.2", v)
	}
	if c.OS.Family != "fcos" {
		return fmt.Errorf("os.family: got %q, want fcos", c.OS.Family)
	}
	return nil
}

func (c *Config) checkCluster() error {
	// The resolver of libc reads three name servers and ignores the rest.
	if n := len(c.Cluster.DNSServiceIPs); n < 1 || n > 3 {
		return fmt.Errorf("cluster.dnsServiceIPs: got %d addresses, want 1 to 3", n)
	}
	for _, s := range c.Cluster.DNSServiceIPs {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.String() != s {
			return fmt.Errorf("cluster.dnsServiceIPs: got %q, want an IP address", s)
		}
	}
	if d := c.Cluster.Domain; !domainForm.MatchString(d) || len(d) > 253 {
		return fmt.Errorf("cluster.domain: got %q, want a DNS domain in lower case, without a dot at its end", d)
	}
	return nil
}

func (c *Config) checkLabels() error {
	for _, key := range slices.Sorted(maps.Keys(c.Kubelet.NodeLabels)) {
		if err := checkKey(key); err != nil {
			return fmt.Errorf("kubelet.nodeLabels: %w", err)
		}
		if !allowedLabel(key) {
			return fmt.Errorf("kubelet.nodeLabels: %q: a kubelet may not give itself this label and would not start", key)
		}
		if v := c.Kubelet.NodeLabels[key]; v != "" && !labelForm.MatchString(v) {
			return fmt.Errorf("kubelet.nodeLabels: value of %s: got %q, want letters, digits, dots, dashes and underscores", key, v)
		}
	}
	return nil
}

func checkKey(key string) error {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok {
		prefix, name = "", key
	} else if !domainForm.MatchString(prefix) || len(prefix) > 253 {
		return fmt.Errorf("key %q: want a DNS domain before the slash", key)
	}
	if !labelForm.MatchString(name) {
		return fmt.Errorf("key %q: want letters, digits, dots, dashes and underscores in its name", key)
	}
	return nil
}

// allowedLabel tells whether a kubelet may set the label on its own node
// (flag --node-labels; the rule is k8s.io/kubelet/pkg/apis.IsKubeletLabel, of
// which the well-known keys that a kubelet sets by itself are left out here).
func allowedLabel(key string) bool {
	if key == "topology.kubernetes.io/zone" || key == "topology.kubernetes.io/region" {
		return true
	}
	prefix, _, _ := strings.Cut(key, "/")
	if !within(prefix, "kubernetes.io") && !within(prefix, "k8s.io") {
		return true
	}
	return within(prefix, "kubelet.kubernetes.io") || within(prefix, "node.kubernetes.io")
}

func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}

func (c *Config) checkTaints() error {
	for _, t := range c.Kubelet.Taints {
		if err := checkKey(t.Key); err != nil {
			return fmt.Errorf("kubelet.taints: %w", err)
		}
		if t.Value != "" && !labelForm.MatchString(t.Value) {
			return fmt.Errorf("kubelet.taints: value of %s: got %q, want letters, digits, dots, dashes and underscores", t.Key, t.Value)
		}
		if effects := []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}; !slices.Contains(effects, t.Effect) {
			return fmt.Errorf("kubelet.taints: effect of %s: got %q, want one of %s", t.Key, t.Effect, strings.Join(effects, ", "))
		}
	}
	return nil
}

func (c *Config) checkImages() error {
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		if name != kubeletImage {
			return fmt.Errorf("images: got %q, want %s only", name, kubeletImage)
		}
	}
	if c.Images[kubeletImage] == "" {
		return fmt.Errorf("images.%s: got nothing, want a repository", kubeletImage)
	}
	return nil
}
