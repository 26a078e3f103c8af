package oci

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// realms decides what the token server that a registry names may get.
type realms struct {
	plain  func(host string) bool
	listed map[string][]string // [Client.TokenServers]
}

// check parses a realm. An error means that it gets no byte, trusted that
// credentials may go there; neither is true for a stranger, which is asked
// anonymously.
func (r realms) check(registry, realm string) (u *url.URL, trusted bool, err error) {
	u, err = url.Parse(realm)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, false, fmt.Errorf("realm %q: want a URL", clip(sanitize(realm)))
	}
	if u.User != nil {
		return nil, false, errors.New("realm: it holds credentials")
	}
	// Without TLS only who may be asked without it, or is the same host as one who may.
	same := strings.EqualFold(u.Hostname(), hostname(registry))
	if u.Scheme != "https" && !(u.Scheme == "http" && r.plain(registry) && (same || r.plain(u.Host))) {
		return nil, false, fmt.Errorf("realm %s: got %s, want https", clip(sanitize(u.Host)), clip(sanitize(u.Scheme)))
	}
	u.Fragment = ""
	if r.isListed(registry, u.Host) {
		return u, true, nil
	}
	if err := misplaced(registry, u.Host); err != nil {
		return nil, false, fmt.Errorf("realm: %w", err)
	}
	return u, same || u.Scheme == "https" && sameDomain(hostname(registry), u.Hostname()), nil
}

// isListed reports whether the user has named the host as the registry's token server.
func (r realms) isListed(registry, host string) bool {
	for key, servers := range r.listed {
		if authKey(key) == authKey(registry) && slices.ContainsFunc(servers, func(s string) bool { return strings.EqualFold(s, host) }) {
			return true
		}
	}
	return false
}

// sameDomain reports whether two names belong to one registered domain, such
// as index.docker.io and auth.docker.io. An address has no domain.
func sameDomain(a, b string) bool {
	if isAddress(a) || isAddress(b) {
		return false
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	if err != nil {
		return false
	}
	other, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return err == nil && domain == other
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
