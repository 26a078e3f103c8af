package bootstrap

import (
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Groups that certificates carry, which have rights by the bindings of access.go.
const (
	adminGroup = "kubeadm:cluster-admins"
	// kubeletAPIGroup is of the API server as a client of kubelets: it may use
	// their API and nothing else.
	kubeletAPIGroup = "imgctl:kubelet-api-clients"
	// mastersGroup is allowed everything by the API server's code, and no binding
	// takes that away.
	mastersGroup = "system:masters"
)

// authorityProfile is one certificate authority. Its files are pki/NAME.crt and
// .key; the names are those of kubeadm.
type authorityProfile struct{ name, commonName string }

// The certificate authorities. Each vouches for one kind of thing, so that a
// client certificate of etcd is nothing to the API server.
const (
	kubernetesCA = "ca"
	etcdCA       = "etcd/ca"
	frontProxyCA = "front-proxy-ca"
)

func authorities() []authorityProfile {
	return []authorityProfile{
		{kubernetesCA, "kubernetes-ca"},
		{etcdCA, "etcd-ca"},
		{frontProxyCA, "front-proxy-ca"},
	}
}

// profile is one certificate: who vouches for it, who it is, and what it may be used for.
type profile struct {
	name         string // its files are pki/NAME.crt and .key, or NAME.conf for a kubeconfig
	ca           string
	commonName   string
	organization string // the group of a client
	usages       []x509.ExtKeyUsage
	names        []string // DNS names and addresses of a server
	lifetime     time.Duration
}

// certificates returns the certificates that are files of their own.
func (c *Cluster) certificates() []profile {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	// Members of etcd are clients of one another, and a member's gateway is a
	// client of itself with the server's certificate.
	both := slices.Concat(server, client)
	profiles := []profile{
		{name: "apiserver", ca: kubernetesCA, commonName: "kube-apiserver", usages: server, names: c.apiServerNames()},
		{name: "apiserver-kubelet-client", ca: kubernetesCA, commonName: "kube-apiserver-kubelet-client", organization: kubeletAPIGroup, usages: client},
		{name: "apiserver-etcd-client", ca: etcdCA, commonName: "kube-apiserver-etcd-client", usages: client},
		{name: "etcd/server", ca: etcdCA, commonName: "kube-etcd-server", usages: both, names: c.etcdNames()},
		{name: "etcd/peer", ca: etcdCA, commonName: "kube-etcd-peer", usages: both, names: c.etcdNames()},
		{name: "etcd/healthcheck-client", ca: etcdCA, commonName: "kube-etcd-healthcheck-client", usages: client},
		{name: "front-proxy-client", ca: frontProxyCA, commonName: "front-proxy-client", usages: client},
	}
	for i := range profiles {
		profiles[i].lifetime = c.Lifetimes.Certificate
	}
	return profiles
}

// kubeconfigs returns the client certificates that are within a kubeconfig.
func (c *Cluster) kubeconfigs() []profile {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return []profile{
		{name: "admin", ca: kubernetesCA, commonName: "kubernetes-admin", organization: adminGroup, usages: client, lifetime: c.Lifetimes.Certificate},
		{name: "super-admin", ca: kubernetesCA, commonName: "kubernetes-super-admin", organization: mastersGroup, usages: client, lifetime: c.Lifetimes.SuperAdmin},
		{name: "controller-manager", ca: kubernetesCA, commonName: "system:kube-controller-manager", usages: client, lifetime: c.Lifetimes.Certificate},
		{name: "scheduler", ca: kubernetesCA, commonName: "system:kube-scheduler", usages: client, lifetime: c.Lifetimes.Certificate},
	}
}

// Renewable returns the names of what [Init] makes anew when it is asked to:
// every certificate and kubeconfig. An authority is not: all that it vouched for would go with it.
func Renewable() []string {
	var names []string
	for _, p := range slices.Concat(new(Cluster).certificates(), new(Cluster).kubeconfigs()) {
		names = append(names, p.name)
	}
	return names
}

// apiServerNames are all names that the API server is called by: within the
// cluster, at the endpoint, and those of the cluster file.
func (c *Cluster) apiServerNames() []string {
	endpoint, _, _ := net.SplitHostPort(c.ControlPlaneEndpoint)
	const service = "kubernetes.default.svc"
	names := []string{"kubernetes", "kubernetes.default", service, service + "." + c.Networking.DNSDomain, endpoint}
	for _, subnet := range c.serviceSubnets() {
		names = append(names, nth(subnet, 1).String())
	}
	return unique(append(names, c.APIServer.CertSANs...))
}

// etcdNames are the members, and the loopback of each.
func (c *Cluster) etcdNames() []string {
	return unique(append(slices.Clone(c.Etcd.Servers), "localhost", "127.0.0.1", "::1"))
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// splitNames divides names into DNS names and addresses, in their order.
func splitNames(names []string) (dns []string, ips []net.IP) {
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			ips = append(ips, a.AsSlice())
		} else {
			dns = append(dns, n)
		}
	}
	return dns, ips
}
