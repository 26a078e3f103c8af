package bundle

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Cluster is what all nodes of a cluster share.
type Cluster struct {
	// APIServers are the names or addresses by which nodes reach the API server.
	APIServers []string `yaml:"apiServers"`
	// EtcdServers are the names or addresses of the members of etcd, an odd number.
	EtcdServers []string `yaml:"etcdServers"`
	// PodCIDRs are the networks of pods: one, or one of IPv4 and one of IPv6.
	PodCIDRs []string `yaml:"podCIDRs"`
	// ServiceCIDRs are the networks of services, which hold DNSServiceIPs.
	ServiceCIDRs []string `yaml:"serviceCIDRs"`
	// DNSServiceIPs are the addresses of the cluster's DNS service, at most three.
	DNSServiceIPs []string `yaml:"dnsServiceIPs"`
	// Domain is the cluster's DNS domain: "cluster.local".
	Domain string `yaml:"domain"`
}

func (c *Config) checkCluster() error {
	if d := c.Cluster.Domain; !domainForm.MatchString(d) || len(d) > 253 {
		return fmt.Errorf("cluster.domain: got %q, want a DNS domain in lower case, without a dot at its end", d)
	}
	if err := checkHosts("cluster.apiServers", c.Cluster.APIServers); err != nil {
		return err
	}
	if err := checkHosts("cluster.etcdServers", c.Cluster.EtcdServers); err != nil {
		return err
	}
	return c.checkNetworks()
}

func checkHosts(key string, hosts []string) error {
	seen := make(map[string]bool)
	for i, h := range hosts {
		if a, err := netip.ParseAddr(h); (err != nil || a.Zone() != "") && (!domainForm.MatchString(h) || len(h) > 253) {
			return fmt.Errorf("%s[%d]: got %q, want a DNS name in lower case or an IP address, without a port", key, i, h)
		}
		if seen[h] {
			return fmt.Errorf("%s[%d]: got %s twice", key, i, h)
		}
		seen[h] = true
	}
	return nil
}

// checkNetworks holds the networks against each other: an address that is both
// a pod's and a service's would be reached as one of them only.
func (c *Config) checkNetworks() error {
	pods, err := parseCIDRs("cluster.podCIDRs", c.Cluster.PodCIDRs)
	if err != nil {
		return err
	}
	services, err := parseCIDRs("cluster.serviceCIDRs", c.Cluster.ServiceCIDRs)
	if err != nil {
		return err
	}
	for _, p := range pods {
		for i, s := range services {
			if p.Overlaps(s) {
				return fmt.Errorf("cluster.serviceCIDRs[%d]: %s overlaps %s of cluster.podCIDRs", i, s, p)
			}
		}
	}
	return c.checkDNS(services)
}

func (c *Config) checkDNS(services []netip.Prefix) error {
	// The resolver of libc reads three name servers and ignores the rest.
	if n := len(c.Cluster.DNSServiceIPs); n < 1 || n > 3 {
		return fmt.Errorf("cluster.dnsServiceIPs: got %d addresses, want 1 to 3", n)
	}
	for i, s := range c.Cluster.DNSServiceIPs {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.String() != s {
			return fmt.Errorf("cluster.dnsServiceIPs[%d]: got %q, want an IP address", i, s)
		}
		if len(services) > 0 && !anyContains(services, a) {
			return fmt.Errorf("cluster.dnsServiceIPs[%d]: got %s, want an address within cluster.serviceCIDRs (%s)", i, s, strings.Join(c.Cluster.ServiceCIDRs, ", "))
		}
	}
	return nil
}

func anyContains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func parseCIDRs(key string, texts []string) ([]netip.Prefix, error) {
	if len(texts) > 2 {
		return nil, fmt.Errorf("%s: got %d networks, want one of each family at most", key, len(texts))
	}
	var networks []netip.Prefix
	for i, text := range texts {
		n, err := netip.ParsePrefix(text)
		if err != nil || n != n.Masked() || n.String() != text {
			return nil, fmt.Errorf("%s[%d]: got %q, want a network such as 10.3.0.0/24", key, i, text)
		}
		if i == 1 && n.Addr().Is4() == networks[0].Addr().Is4() {
			return nil, fmt.Errorf("%s[1]: got %s, want the other family than %s has", key, text, texts[0])
		}
		networks = append(networks, n)
	}
	return networks, nil
}

// Warnings says what works and is still not what one should want.
func (c *Config) Warnings() []string {
	var w []string
	members := map[string]int{"cluster.etcdServers": len(c.Cluster.EtcdServers)}
	if c.ControlPlane != nil {
		members["controlPlane.members"] = len(c.ControlPlane.Members)
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if n := members[key]; n > 0 && n%2 == 0 {
			w = append(w, fmt.Sprintf("%s: %d members survive no more failures than %d do, and one more can fail", key, n, n-1))
		}
	}
	return w
}
