package bootstrap

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/imgctl/imgctl/internal/strict"
)

// Cluster is a cluster file. Its keys are named as in kubeadm's
// ClusterConfiguration where that has them.
type Cluster struct {
	strict.Header `yaml:",inline"`
	// Name of the cluster: lower-case letters, digits and dashes.
	Name string `yaml:"name"`
	// ControlPlaneEndpoint is where every machine reaches the API server: "api.example.com:6443".
	ControlPlaneEndpoint string `yaml:"controlPlaneEndpoint"`
	// APIServer is what the API server is known by besides.
	APIServer APIServer `yaml:"apiServer"`
	// Networking has the ranges of addresses.
	Networking Networking `yaml:"networking"`
	// Etcd is the cluster's store.
	Etcd Etcd `yaml:"etcd"`
	// EncryptionAlgorithm of every key: "ECDSA-P256", the default, "RSA-2048", "RSA-3072" or "RSA-4096".
	EncryptionAlgorithm string `yaml:"encryptionAlgorithm"`
	// Lifetimes say how long what is made here is valid.
	Lifetimes Lifetimes `yaml:"lifetimes"`
	// BootstrapToken is how joining machines are let in.
	BootstrapToken BootstrapToken `yaml:"bootstrapToken"`
	// Roles are the kinds of machines: "controller", "worker" and "etcd". Those
	// that have recipients have their secrets sealed for them.
	Roles map[string]RoleSpec `yaml:"roles"`
}

// APIServer is what the API server is known by.
type APIServer struct {
	// CertSANs are more names and addresses in its certificate: those of each controller.
	CertSANs []string `yaml:"certSANs"`
}

// Networking has the ranges of addresses. A range is one CIDR or, for both
// families, two with a comma between them.
type Networking struct {
	ServiceSubnet string `yaml:"serviceSubnet"`
	PodSubnet     string `yaml:"podSubnet"`
	// DNSDomain is the cluster's domain; "cluster.local" when it is not given.
	DNSDomain string `yaml:"dnsDomain"`
	// DNSServiceIP is the address of the cluster's DNS; the tenth of the service subnet when it is not given.
	DNSServiceIP string `yaml:"dnsServiceIP"`
}

// Etcd is the cluster's store.
type Etcd struct {
	// Servers are the names or addresses of its members.
	Servers []string `yaml:"servers"`
}

// Lifetimes say how long what is made here is valid.
type Lifetimes struct {
	CA          time.Duration `yaml:"ca"`          // 87600h
	Certificate time.Duration `yaml:"certificate"` // 8760h
	// SuperAdmin is of the one credential in the group system:masters, which
	// gives all others their rights and is not needed afterwards: 72h.
	SuperAdmin time.Duration `yaml:"superAdmin"`
	Token      time.Duration `yaml:"token"` // 24h
}

// BootstrapToken is how joining machines are let in.
type BootstrapToken struct {
	// Groups that a machine with the token is in, besides system:bootstrappers.
	// The default is that of kubeadm.
	Groups      []string `yaml:"groups"`
	Description string   `yaml:"description"`
}

// RoleSpec is one kind of machine.
type RoleSpec struct {
	// Recipients are the public keys of its machines: age1… or ssh-ed25519 ….
	Recipients []string `yaml:"recipients"`
}

// Defaults of a cluster file.
const (
	defaultDomain    = "cluster.local"
	defaultAlgorithm = "ECDSA-P256"
	// DefaultGroup is the group that kubeadm gives bootstrap tokens.
	DefaultGroup = "system:bootstrappers:kubeadm:default-node-token"

	dnsIndex = 10 // of the DNS service's address in the service subnet, by custom
)

// Load reads the cluster file at path and fills in its defaults. A mistake in it
// is a [*strict.Error]; warnings are about what works and is seldom meant.
func Load(path string) (c *Cluster, warnings []string, err error) {
	data, err := strict.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	return Parse(path, data)
}

// Parse is [Load] of a file that was read already. It blames mistakes on name.
func Parse(name string, data []byte) (c *Cluster, warnings []string, err error) {
	c = new(Cluster)
	if err := strict.Decode(name, data, "Cluster", c); err != nil {
		return nil, nil, err
	}
	c.fillIn()
	if m := c.check(); m != nil {
		return nil, nil, strict.At(name, data, m.value, m.msg)
	}
	if n := len(c.Etcd.Servers); n%2 == 0 {
		w := strict.At(name, data, "etcd.servers", fmt.Sprintf("%d members tolerate no more failures than %d", n, n-1))
		warnings = append(warnings, w.Error())
	}
	return c, warnings, nil
}

// fillIn sets what was not given. What cannot be computed because another value
// is wrong stays empty: that value is refused.
func (c *Cluster) fillIn() {
	setDefault(&c.Networking.DNSDomain, defaultDomain)
	setDefault(&c.EncryptionAlgorithm, defaultAlgorithm)
	setDefault(&c.Lifetimes.CA, 10*365*24*time.Hour)
	setDefault(&c.Lifetimes.Certificate, 365*24*time.Hour)
	setDefault(&c.Lifetimes.SuperAdmin, 72*time.Hour)
	setDefault(&c.Lifetimes.Token, 24*time.Hour)
	if c.BootstrapToken.Groups == nil {
		c.BootstrapToken.Groups = []string{DefaultGroup}
	}
	if subnets, err := parseSubnets(c.Networking.ServiceSubnet); err == nil {
		setDefault(&c.Networking.DNSServiceIP, nth(subnets[0], dnsIndex).String())
	}
}

func setDefault[T comparable](field *T, value T) {
	var none T
	if *field == none {
		*field = value
	}
}

// Server is the URL of the API server.
func (c *Cluster) Server() string { return "https://" + c.ControlPlaneEndpoint }

// serviceSubnets are the ranges of a cluster that was checked.
func (c *Cluster) serviceSubnets() []netip.Prefix {
	subnets, _ := parseSubnets(c.Networking.ServiceSubnet)
	return subnets
}
