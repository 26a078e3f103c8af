package bootstrap

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
)

// mistake is a value of a cluster file that cannot be used, named by its keys.
type mistake struct{ value, msg string }

func wrong(value, format string, args ...any) *mistake {
	return &mistake{value, fmt.Sprintf(format, args...)}
}

// check returns the first mistake.
func (c *Cluster) check() *mistake {
	for _, check := range []func() *mistake{
		c.checkName, c.checkEndpoint, c.checkNetworking, c.checkEtcd, c.checkAlgorithm, c.checkLifetimes, c.checkToken, c.checkRoles,
	} {
		if m := check(); m != nil {
			return m
		}
	}
	return nil
}

var (
	nameForm   = regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	domainForm = regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\z`)
)

func (c *Cluster) checkName() *mistake {
	if !nameForm.MatchString(c.Name) {
		return wrong("name", "got %q, want lower-case letters, digits and dashes", c.Name)
	}
	return nil
}

// checkHost reports whether s is a DNS name or an IP address as it is printed.
func checkHost(s string) error {
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() || ip.Is4In6() || ip.String() != s {
			return fmt.Errorf("got %q, want an address of a machine", s)
		}
		return nil
	}
	if !domainForm.MatchString(s) || len(s) > 253 || digits(s[strings.LastIndex(s, ".")+1:]) {
		return fmt.Errorf("got %q, want a DNS name in lower case or an IP address", s)
	}
	return nil
}

// digits tells whether a label is a number: 10.0.0.300 is no DNS name.
func digits(label string) bool { return strings.Trim(label, "0123456789") == "" }

// CheckEndpoint reports whether endpoint is HOST:PORT of an API server.
func CheckEndpoint(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return fmt.Errorf("got %q, want HOST:PORT", endpoint)
	}
	if err := checkHost(host); err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port: got %q, want a number from 1 to 65535", port)
	}
	return nil
}

func (c *Cluster) checkEndpoint() *mistake {
	if err := CheckEndpoint(c.ControlPlaneEndpoint); err != nil {
		return wrong("controlPlaneEndpoint", "%v", err)
	}
	for i, san := range c.APIServer.CertSANs {
		if err := checkHost(san); err != nil {
			return wrong(fmt.Sprintf("apiServer.certSANs[%d]", i), "%v", err)
		}
	}
	return nil
}

func (c *Cluster) checkNetworking() *mistake {
	n := c.Networking
	services, err := parseSubnets(n.ServiceSubnet)
	if err != nil {
		return wrong("networking.serviceSubnet", "%v", err)
	}
	for _, s := range services {
		// The API server's limit, and room for the addresses that have a place by custom.
		if size := s.Addr().BitLen() - s.Bits(); size < 4 || size > 20 {
			return wrong("networking.serviceSubnet", "got %s, want 4 to 20 bits for services", s)
		}
	}
	pods, err := parseSubnets(n.PodSubnet)
	if err != nil {
		return wrong("networking.podSubnet", "%v", err)
	}
	for _, p := range pods {
		for _, s := range services {
			if p.Overlaps(s) {
				return wrong("networking.podSubnet", "%s overlaps the service subnet %s", p, s)
			}
		}
	}
	if m := c.checkMachines(append(services, pods...)); m != nil {
		return m
	}
	if !domainForm.MatchString(n.DNSDomain) || len(n.DNSDomain) > 253 {
		return wrong("networking.dnsDomain", "got %q, want a DNS domain in lower case, without a dot at its end", n.DNSDomain)
	}
	return checkDNS(n.DNSServiceIP, services)
}

// checkMachines refuses a machine whose address is one of pods or services.
func (c *Cluster) checkMachines(ranges []netip.Prefix) *mistake {
	host, _, _ := net.SplitHostPort(c.ControlPlaneEndpoint)
	machines := map[string]string{"controlPlaneEndpoint": host}
	for i, s := range c.Etcd.Servers {
		machines[fmt.Sprintf("etcd.servers[%d]", i)] = s
	}
	for _, value := range slices.Sorted(maps.Keys(machines)) {
		ip, err := netip.ParseAddr(machines[value])
		if err != nil {
			continue // a name
		}
		for _, r := range ranges {
			if r.Contains(ip) {
				return wrong(value, "%s is in the range %s of services or pods", ip, r)
			}
		}
	}
	return nil
}

func checkDNS(address string, services []netip.Prefix) *mistake {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return wrong("networking.dnsServiceIP", "got %q, want an IP address", address)
	}
	for _, s := range services {
		if nth(s, 1) == ip {
			return wrong("networking.dnsServiceIP", "%s is the address of the API server's own service", ip)
		}
		if s.Contains(ip) && s.Addr() != ip {
			return nil
		}
	}
	return wrong("networking.dnsServiceIP", "got %s, want an address in the service subnet %v", ip, services)
}

func (c *Cluster) checkEtcd() *mistake {
	if len(c.Etcd.Servers) == 0 {
		return wrong("etcd.servers", "got none, want the names or addresses of the members")
	}
	for i, s := range c.Etcd.Servers {
		value := fmt.Sprintf("etcd.servers[%d]", i)
		if err := checkHost(s); err != nil {
			return wrong(value, "%v", err)
		}
		if slices.Contains(c.Etcd.Servers[:i], s) {
			return wrong(value, "%s is there twice", s)
		}
	}
	return nil
}

func (c *Cluster) checkAlgorithm() *mistake {
	if _, ok := algorithms[c.EncryptionAlgorithm]; !ok {
		return wrong("encryptionAlgorithm", "got %q, want one of %s", c.EncryptionAlgorithm, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
	}
	return nil
}

func (c *Cluster) checkLifetimes() *mistake {
	l := c.Lifetimes
	const century = 100 * 365 * 24 * time.Hour
	for _, f := range []struct {
		value  string
		got    time.Duration
		most   time.Duration
		reason string
	}{
		{"lifetimes.ca", l.CA, century, "a century"},
		{"lifetimes.certificate", l.Certificate, l.CA, "the CA's lifetime"},
		{"lifetimes.superAdmin", l.SuperAdmin, l.Certificate, "a certificate's lifetime"},
		{"lifetimes.token", l.Token, l.CA, "the CA's lifetime"},
	} {
		if f.got < 10*time.Minute || f.got > f.most {
			return wrong(f.value, "got %s, want 10m or more and at most %s (%s)", f.got, f.reason, f.most)
		}
	}
	return nil
}

func (c *Cluster) checkToken() *mistake {
	for i, g := range c.BootstrapToken.Groups {
		if err := checkGroup(g); err != nil {
			return wrong(fmt.Sprintf("bootstrapToken.groups[%d]", i), "%v", err)
		}
	}
	if err := checkDescription(c.BootstrapToken.Description); err != nil {
		return wrong("bootstrapToken.description", "%v", err)
	}
	return nil
}

func checkDescription(text string) error {
	if len(text) > 256 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("want one line of at most 256 bytes")
	}
	return nil
}

func (c *Cluster) checkRoles() *mistake {
	for _, name := range slices.Sorted(maps.Keys(c.Roles)) {
		if !slices.Contains(Roles(), Role(name)) {
			return wrong("roles", "got %q, want one of %v", name, Roles())
		}
		for i, r := range c.Roles[name].Recipients {
			if _, err := seal.ParseRecipient(r); err != nil {
				return wrong(fmt.Sprintf("roles.%s.recipients[%d]", name, i), "%v", err)
			}
		}
	}
	return nil
}

// parseSubnets reads one CIDR, or one of each family with a comma between them.
func parseSubnets(s string) ([]netip.Prefix, error) {
	var subnets []netip.Prefix
	for text := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("got %q, want a CIDR such as 10.3.0.0/16", text)
		}
		if p.Masked() != p {
			return nil, fmt.Errorf("got %s, want the range's first address: %s", p, p.Masked())
		}
		subnets = append(subnets, p)
	}
	if len(subnets) > 2 || len(subnets) == 2 && subnets[0].Addr().Is4() == subnets[1].Addr().Is4() {
		return nil, fmt.Errorf("got %q, want one CIDR of each family", s)
	}
	return subnets, nil
}

// nth returns the nth address of p.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return a
}
