// Package plane renders what runs a cluster: the control plane as static pods,
// each component as a user of its own, and the manifests that a new cluster is
// given. It is pure, like package bundle, and writes no secret: pods name the
// files that "imgctl bootstrap" makes.
package plane

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"sigs.k8s.io/yaml"

	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

// Cluster is what the files are rendered from. It was checked by who read it.
type Cluster struct {
	// Images are pinned references by name: those of [owners.Components],
	// "coredns", "kube-proxy", "cilium", "cilium-operator", "flannel" and "flannel-cni".
	Images map[string]string
	// Host and Port are where everybody reaches the API server.
	Host string
	Port int32
	// ServiceCIDRs and PodCIDRs have one range of each family.
	ServiceCIDRs, PodCIDRs []string
	// Domain is the cluster's DNS domain, and DNSServiceIP where its DNS answers.
	Domain, DNSServiceIP string
	// Members of etcd, by the name of the node: its address.
	Members map[string]string
	// EtcdServers are URLs of an etcd that is run in another way. Then there are no members.
	EtcdServers []string
	// Issuer of service-account tokens; the API server's name in the cluster when empty.
	Issuer string
	// CNI is "cilium", which does without kube-proxy, "flannel" or "none": then an
	// add-on brings the network.
	CNI string
	// Audit writes an audit log on the controllers.
	Audit bool
	// KubeadmNames gives the bindings the names and groups of kubeadm's.
	KubeadmNames bool
	// Root are components that run as root. The zero value is none.
	Root []string
	// Owners has the users that the others run as.
	Owners *owners.Table
}

// Names of images that are no component.
const (
	imageCoreDNS        = "coredns"
	imageKubeProxy      = "kube-proxy"
	imageCilium         = "cilium"
	imageCiliumOperator = "cilium-operator"
	imageFlannel        = "flannel"
	imageFlannelCNI     = "flannel-cni"
)

// ImageNames returns the names of the images that the files of c run.
func (c *Cluster) ImageNames() []string {
	names := []string{owners.APIServer, owners.ControllerManager, owners.Scheduler, imageCoreDNS}
	if len(c.Members) > 0 {
		names = append(names, owners.Etcd)
	}
	switch c.CNI {
	case "cilium":
		names = append(names, imageCilium, imageCiliumOperator)
	case "flannel":
		names = append(names, imageKubeProxy, imageFlannel, imageFlannelCNI)
	default:
		names = append(names, imageKubeProxy)
	}
	return names
}

// Files are bodies by path.
type Files map[string][]byte

// Controller returns the files of a controller: its static pods and their
// configuration.
func Controller(c *Cluster) (Files, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	objects := map[string]any{
		authenticationPath:                authentication(),
		podPath(owners.APIServer):         apiServer(c),
		podPath(owners.ControllerManager): controllerManager(c),
		podPath(owners.Scheduler):         scheduler(c),
	}
	if len(c.Members) > 0 {
		objects[podPath(owners.Etcd)] = etcd(c)
	}
	if c.Audit {
		objects[auditPolicyPath] = auditPolicy()
	}
	files := make(Files)
	for path, o := range objects {
		body, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files[path] = body
	}
	return files, nil
}

func podPath(component string) string { return owners.StaticPods + "/" + component + ".yaml" }

func (c *Cluster) check() error {
	for _, name := range c.ImageNames() {
		if c.Images[name] == "" {
			return fmt.Errorf("images.%s: got nothing, want a pinned reference", name)
		}
	}
	for _, name := range c.Root {
		if !slices.Contains(owners.Components(), name) {
			return fmt.Errorf("component %q: want one of %v", name, owners.Components())
		}
	}
	switch {
	case len(c.Members) == 0 && len(c.EtcdServers) == 0:
		return fmt.Errorf("etcd: got neither members nor servers")
	case !slices.Contains([]string{"cilium", "flannel", "none"}, c.CNI):
		return fmt.Errorf("network %q: want cilium or flannel, or none and an add-on that brings one", c.CNI)
	case c.Owners == nil:
		return fmt.Errorf("owners: got none")
	}
	return nil
}

// etcdServers are the URLs that an API server asks: the member beside it, or
// all those that are elsewhere.
func (c *Cluster) etcdServers() []string {
	if len(c.Members) > 0 {
		return []string{"https://127.0.0.1:2379"}
	}
	return c.EtcdServers
}

func (c *Cluster) issuer() string {
	if c.Issuer != "" {
		return c.Issuer
	}
	return "https://kubernetes.default.svc." + c.Domain
}

func (c *Cluster) port() string { return strconv.Itoa(int(c.Port)) }

// members are all members as etcd wants to know them.
func (c *Cluster) members() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.Members)) {
		all = append(all, name+"="+url(c.Members[name], 2380))
	}
	return all
}
