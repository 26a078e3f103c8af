package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
)

// A registry names other places to us: the realm of its tokens, where a blob
// is or goes. None of them may be this machine or the network's own metadata
// service, unless the registry is there itself. What a name stands for is
// known only when it is dialed, so it is checked twice.

// misplaced says why a registry must not send us to another host; nil: it may.
func misplaced(registry, host string) error {
	name := strings.ToLower(hostname(host))
	if name == hostname(registry) {
		return nil
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		if endsInNumber(name) {
			return fmt.Errorf("%s is not a host", clip(sanitize(name)))
		}
		if (isLoopback(name) || strings.HasSuffix(strings.TrimSuffix(name, "."), "localhost")) && !isLoopback(registry) {
			return fmt.Errorf("%s is not a place for a registry to point at", clip(sanitize(name)))
		}
		return nil
	}
	if isOwnMachine(ip) && !(isLoopback(registry) && ip.Unmap().IsLoopback()) {
		return fmt.Errorf("%s is not a place for a registry to point at", ip)
	}
	return nil
}

// isOwnMachine reports whether ip is loopback, link-local (where clouds keep
// their metadata service), unspecified or multicast.
func isOwnMachine(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()
}

// endsInNumber reports whether a resolver might take name for an IPv4 address
// in one of its odd forms: 2130706433, 0x7f.1, 127.1 (as the URL standard has it).
func endsInNumber(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && (strings.Trim(last, "0123456789") == "" || strings.HasPrefix(strings.ToLower(last), "0x"))
}

// foreign is in the context of a request that goes where a registry points.
type foreign struct {
	address  string // host:port, as it is dialed
	loopback bool   // the registry is on loopback itself
}

type foreignKey struct{}

// sentBy returns the context of a request to a host that a registry has named.
func sentBy(ctx context.Context, registry, host, scheme string) context.Context {
	name := hostname(host)
	if strings.EqualFold(hostname(registry), name) {
		return ctx
	}
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return context.WithValue(ctx, foreignKey{}, foreign{address: net.JoinHostPort(name, port), loopback: isLoopback(registry)})
}

// dialer dials, and refuses at the last moment what a foreign name turned out
// to stand for. Where a proxy is dialed, it is the proxy who resolves names.
func dialer(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		f, _ := ctx.Value(foreignKey{}).(foreign)
		if !strings.EqualFold(f.address, address) {
			return d.DialContext(ctx, network, address)
		}
		guarded := *d
		guarded.Control = func(_, resolved string, _ syscall.RawConn) error { return f.check(resolved) }
		return guarded.DialContext(ctx, network, address)
	}
}

// check refuses the address that a foreign name was resolved to.
func (f foreign) check(resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("dial %s: %w", f.address, err)
	}
	if ip := at.Addr().Unmap(); isOwnMachine(ip) && !(f.loopback && ip.IsLoopback()) {
		err := fmt.Errorf("it stands for %s, which is not a place for a registry to point at", ip)
		return &fault{kind: malformed, op: "dial", object: f.address, err: err}
	}
	return nil
}

// redirectRule returns what an [http.Client] for the registry at host follows:
// few redirects, of reads only, never from another place into this machine.
// Credentials do not travel with them: they are added only for the registry's
// own host and port.
func redirectRule(host string) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		err := misplaced(host, req.URL.Host)
		switch first := via[0]; {
		case first.Method != http.MethodGet && first.Method != http.MethodHead:
			err = fmt.Errorf("a %s is not sent elsewhere", first.Method)
		case len(via) >= 5:
			err = errors.New("more than 5")
		case req.URL.User != nil:
			err = errors.New("it holds credentials")
		}
		if err != nil {
			return &fault{kind: malformed, op: "follow redirect of", object: host, err: err}
		}
		return nil
	}
}
