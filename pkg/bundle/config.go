package bundle

import (
	"fmt"
	"maps"
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
	// Role of the node: "controller", or "worker", which is the default.
	Role string `yaml:"role"`
	// Roles are several instead, each with a bundle of its own, and what kubelets
	// of that role are given besides Kubelet.
	Roles map[string]Kubelet `yaml:"roles"`
	// Cluster is what all nodes of a cluster share.
	Cluster Cluster `yaml:"cluster"`
	// CNI is the network of pods: "cilium", "flannel", or "none", the default,
	// when somebody else installs it.
	CNI string `yaml:"cni"`
	// Kubelet is what every node is given.
	Kubelet Kubelet `yaml:"kubelet"`
	// Images names the images that the files run: repositories or references in
	// order of preference, which hold the same bytes. The render has the first
	// pinned. "kubelet" is required.
	Images map[string]Sources `yaml:"images"`
	// ControlPlane is what a controller runs as static pods; without it, nothing.
	ControlPlane *ControlPlane `yaml:"controlPlane"`
	// Options is what not every cluster wants.
	Options Options `yaml:"options"`

	file string // blamed for mistakes
	data []byte // of file, to tell where
}

// OS is the operating system of a node.
type OS struct {
	// Family decides the container engine and the paths: "fcos" (Fedora CoreOS:
	// podman, SELinux), "flatcar" (docker) or "debian" (podman).
	Family string `yaml:"family"`
	// Families are several instead, each with a bundle of its own.
	Families []string `yaml:"families"`
}

// Kubelet is what one kind of node is given.
type Kubelet struct {
	// NodeLabels are set when the node registers. A kubelet may not label itself
	// with every key of Kubernetes' own, node-role.kubernetes.io for instance.
	NodeLabels map[string]string `yaml:"nodeLabels"`
	// Taints are set when the node registers.
	Taints []Taint `yaml:"taints"`
	// CredentialProviders are programs that the kubelet asks for registries'
	// credentials. Without it, it asks none.
	CredentialProviders *CredentialProviders `yaml:"credentialProviders"`
}

// Taint keeps pods away that do not tolerate it.
type Taint struct {
	Key    string `yaml:"key" json:"key"`
	Value  string `yaml:"value" json:"value,omitempty"`
	Effect string `yaml:"effect" json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// Options is what not every cluster wants. The zero value wants none of it.
type Options struct {
	// EtcdMember runs etcd as a unit of a controller, apart from the kubelet.
	EtcdMember bool `yaml:"etcdMember"`
	// Quadlet describes the kubelet, and etcd, to podman's Quadlet, which makes the
	// units of it. It needs podman 4.4.
	Quadlet bool `yaml:"quadlet"`
}

// Sources are the places of one image, in order of preference. One is written
// as a string, several as a list.
type Sources []string

// UnmarshalYAML reads a string or a list of them.
func (s *Sources) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*s = Sources{one}
		return nil
	}
	return unmarshal((*[]string)(s))
}

// What Config.Role may be.
const (
	Controller = "controller"
	Worker     = "worker"
)

// kubeletImage is the image that every node runs, etcdImage one of a controller.
const (
	kubeletImage = "kubelet"
	etcdImage    = "etcd"
)

// imageNames are those that Config.Images may have.
var imageNames = []string{
	kubeletImage, etcdImage, "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns",
	"cilium", "cilium-operator", "flannel", "flannel-cni",
}

// Load reads path, or bundle.yaml in the directory path. A mistake in the file
// is a [*strict.Error]; a file that cannot be read is an error of package os.
func Load(path string) (*Config, error) {
	if filepath.Ext(path) != ".yaml" {
		path = filepath.Join(path, "bundle.yaml")
	}
	data, err := strict.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Config{file: path, data: data}
	if err := strict.Decode(path, data, "Bundle", c); err != nil {
		return nil, err
	}
	if c.Role == "" && len(c.Roles) == 0 {
		c.Role = Worker
	}
	if c.CNI == "" {
		c.CNI = "none"
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := c.readAddOns(); err != nil {
		return nil, c.at(err)
	}
	return c, nil
}

// Check reports the first value that no node could use as a [*strict.Error],
// with its place in the file that was loaded.
func (c *Config) Check() error {
	if err := c.checkSeveral(); err != nil {
		return c.at(err)
	}
	for _, one := range c.Machines() {
		for _, check := range []func() error{one.checkHead, one.checkCluster, one.checkLabels, one.checkTaints, one.checkCredentialProviders, one.checkImages, one.checkVersions, one.checkOptions, one.checkPlane} {
			if err := check(); err != nil {
				return c.at(err)
			}
		}
	}
	return nil
}

// at says where in the file the value is that err is about.
func (c *Config) at(err error) error {
	key, msg, _ := strings.Cut(err.Error(), ": ") // every check names the key first
	return strict.At(c.file, c.data, key, msg)
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
	for _, f := range []struct {
		key, got string
		want     []string
	}{
		{"os.family", c.OS.Family, familyNames()},
		{"role", c.Role, roleNames()},
		{"cni", c.CNI, []string{"cilium", "flannel", "none"}},
	} {
		if !slices.Contains(f.want, f.got) {
			return fmt.Errorf("%s: got %q, want one of %s", f.key, f.got, strings.Join(f.want, ", "))
		}
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
		if !slices.Contains(imageNames, name) {
			return fmt.Errorf("images: got %q, want one of %s", name, strings.Join(imageNames, ", "))
		}
		if len(c.Images[name]) == 0 || slices.Contains(c.Images[name], "") {
			return fmt.Errorf("images.%s: got nothing, want a repository", name)
		}
		for i, ref := range c.Images[name] {
			if err := checkSource(ref); err != nil {
				return fmt.Errorf("images.%s: alternative %d: %w", name, i+1, err)
			}
		}
		if err := oneDigest(c.Images[name]); err != nil {
			return fmt.Errorf("images.%s: %w", name, err)
		}
	}
	if len(c.Images[kubeletImage]) == 0 {
		return fmt.Errorf("images.%s: got nothing, want a repository", kubeletImage)
	}
	if c.etcdMember() && len(c.Images[etcdImage]) == 0 {
		return fmt.Errorf("images.%s: got nothing, want a repository: options.etcdMember runs it", etcdImage)
	}
	return nil
}

func (c *Config) checkOptions() error {
	if f := families[c.OS.Family]; c.Options.Quadlet && f.docker() {
		return fmt.Errorf("options.quadlet: it needs podman, and %s has %s", c.OS.Family, f.engine)
	}
	return nil
}

// etcdMember tells whether the node runs etcd as a unit.
func (c *Config) etcdMember() bool { return c.Options.EtcdMember && c.Role == Controller }
