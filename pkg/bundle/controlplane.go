package bundle

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/owners"
	"github.com/imgctl/imgctl/pkg/bundle/plane"
)

// ControlPlane is what a controller runs as static pods, each component as a
// user of its own, and the manifests that the cluster is given.
type ControlPlane struct {
	// Port of the API server; 6443 when it is left out.
	Port int32 `yaml:"port"`
	// Members of etcd that run beside it, by the name of their node: its address.
	// Without members, the etcd at cluster.etcdServers is asked, on port 2379.
	Members map[string]string `yaml:"members"`
	// Issuer of service-account tokens, a URL; the API server's own name when it
	// is left out.
	Issuer string `yaml:"issuer"`
	// Audit writes an audit log on each controller.
	Audit bool `yaml:"audit"`
	// KubeadmNames gives bindings the names and groups that kubeadm's have.
	KubeadmNames bool `yaml:"kubeadmNames"`
	// RunAsRoot are components that have no user of their own.
	RunAsRoot []string `yaml:"runAsRoot"`
	// IDs are other numbers for the users and groups of docs/owners.md.
	IDs map[string]uint32 `yaml:"ids"`
	// AddOns are directories of the user's own manifests, relative to bundle.yaml.
	AddOns []string `yaml:"addOns"`

	addOns map[string][]byte // what was read from there, by the path on the machine
}

// Where systemd finds the users and directories of the table.
const (
	sysusersPath = "/etc/sysusers.d/kubernetes.conf"
	tmpfilesPath = "/etc/tmpfiles.d/kubernetes.conf"
)

// defaultPort is the port of API servers.
const defaultPort = 6443

// hasPlane tells whether the node runs the control plane.
func (c *Config) hasPlane() bool { return c.Role == Controller && c.ControlPlane != nil }

// readAddOns reads the manifests that the user adds, each directory's under its name.
func (c *Config) readAddOns() error {
	p := c.ControlPlane
	if p == nil {
		return nil
	}
	p.addOns = make(map[string][]byte)
	root, err := os.OpenRoot(filepath.Dir(c.file))
	if err != nil {
		return fmt.Errorf("controlPlane.addOns: %w", err)
	}
	defer root.Close()
	for i, dir := range p.AddOns {
		if !filepath.IsLocal(dir) {
			return fmt.Errorf("controlPlane.addOns[%d]: got %q, want a directory below that of bundle.yaml", i, dir)
		}
		files, err := plane.ReadAddons(root, dir)
		if err != nil {
			return fmt.Errorf("controlPlane.addOns[%d]: %w", i, err)
		}
		for name, body := range files {
			path := manifestsPath + filepath.Base(dir) + "/" + name
			if _, ok := p.addOns[path]; ok {
				return fmt.Errorf("controlPlane.addOns[%d]: %s: another directory has the same name", i, dir)
			}
			p.addOns[path] = body
		}
	}
	return nil
}

func (c *Config) checkPlane() error {
	p := c.ControlPlane
	if p == nil {
		return nil
	}
	if c.Role != Controller {
		return fmt.Errorf("controlPlane: it runs on a controller, got role %s", c.Role)
	}
	if p.Port < 0 || p.Port > 65535 {
		return fmt.Errorf("controlPlane.port: got %d, want 1 to 65535", p.Port)
	}
	if len(c.Cluster.APIServers) == 0 || len(c.Cluster.PodCIDRs) == 0 || len(c.Cluster.ServiceCIDRs) == 0 {
		return fmt.Errorf("controlPlane: it needs cluster.apiServers, cluster.podCIDRs and cluster.serviceCIDRs")
	}
	if err := checkIssuer(p.Issuer); err != nil {
		return err
	}
	for i, name := range p.RunAsRoot {
		if !slices.Contains(owners.Components(), name) {
			return fmt.Errorf("controlPlane.runAsRoot[%d]: got %q, want one of %v", i, name, owners.Components())
		}
	}
	if _, err := owners.New(p.IDs); err != nil {
		return fmt.Errorf("controlPlane.%w", err)
	}
	return c.checkMembers()
}

// checkIssuer also keeps variables out: the kubelet would expand them in the
// flag of the API server.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if issuer == "" || err == nil && u.Scheme == "https" && domainForm.MatchString(u.Hostname()) && u.User == nil && u.RawQuery == "" && u.Fragment == "" && u.String() == issuer && !strings.ContainsAny(issuer, "$()") {
		return nil
	}
	return fmt.Errorf("controlPlane.issuer: got %q, want an https URL without a query", issuer)
}

func (c *Config) checkMembers() error {
	p := c.ControlPlane
	if c.etcdMember() && len(p.Members) > 0 {
		return fmt.Errorf("controlPlane.members: options.etcdMember runs etcd as a unit already")
	}
	if len(p.Members) == 0 && len(c.Cluster.EtcdServers) == 0 {
		return fmt.Errorf("controlPlane.members: got none, and no cluster.etcdServers either")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Members)) {
		if !domainForm.MatchString(name) {
			return fmt.Errorf("controlPlane.members: got %q, want the name of a node", name)
		}
		if a, err := netip.ParseAddr(p.Members[name]); err != nil || a.Zone() != "" || a.String() != p.Members[name] {
			return fmt.Errorf("controlPlane.members.%s: got %q, want an IP address", name, p.Members[name])
		}
	}
	for _, name := range c.plane(nil).ImageNames() {
		if len(c.Images[name]) == 0 {
			return fmt.Errorf("images.%s: got nothing, want a repository: the control plane runs it", name)
		}
	}
	return nil
}

// plane is what the control plane is rendered from. checkPlane holds.
func (c *Config) plane(images map[string]string) *plane.Cluster {
	p := c.ControlPlane
	table, _ := owners.New(p.IDs) // checkPlane has seen that it is one
	k := &plane.Cluster{
		Images: images, Host: c.Cluster.APIServers[0], Port: p.Port,
		ServiceCIDRs: c.Cluster.ServiceCIDRs, PodCIDRs: c.Cluster.PodCIDRs,
		Domain: c.Cluster.Domain, DNSServiceIP: c.Cluster.DNSServiceIPs[0],
		Members: p.Members, Issuer: p.Issuer, CNI: c.CNI,
		Audit: p.Audit, KubeadmNames: p.KubeadmNames, Root: p.RunAsRoot, Owners: table,
	}
	if k.Port == 0 {
		k.Port = defaultPort
	}
	if len(p.Members) == 0 {
		for _, host := range c.Cluster.EtcdServers {
			k.EtcdServers = append(k.EtcdServers, "https://"+net.JoinHostPort(host, "2379"))
		}
	}
	return k
}

// planeFiles returns the files of the control plane, by path: static pods and
// their configuration, manifests, and who owns what.
func (c *Config) planeFiles(images map[string]string) (map[string][]byte, error) {
	k := c.plane(images)
	pods, err := plane.Controller(k)
	if err != nil {
		return nil, err
	}
	manifests, err := plane.Manifests(k)
	if err != nil {
		return nil, err
	}
	roles := []owners.Role{owners.Controller}
	if len(k.Members) > 0 {
		roles = append(roles, owners.EtcdMember)
	}
	files := map[string][]byte{sysusersPath: k.Owners.Sysusers(), tmpfilesPath: k.Owners.Tmpfiles(roles...)}
	maps.Copy(files, pods)
	for name, body := range manifests {
		files[manifestsPath+name] = body
	}
	maps.Copy(files, c.ControlPlane.addOns)
	return files, nil
}
