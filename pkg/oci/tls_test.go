package oci_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgctl/imgctl/pkg/oci"
)

// dialing is the network as it is, except that every name is at address.
func dialing(address string) *http.Transport {
	network := oci.NewTransport()
	network.Proxy = nil
	network.DialContext = func(ctx context.Context, kind, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, kind, address)
	}
	return network
}

// R41: a registry that cannot prove who it is is not asked, and never without TLS instead.
func TestR41OnlyAProvenRegistryIsAsked(t *testing.T) {
	var asked atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); w.WriteHeader(http.StatusNotFound) })
	secure, plain := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	later := func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }
	for name, tt := range map[string]struct {
		host, address string
		roots         *x509.CertPool
		now           func() time.Time
		want          string
	}{
		"proven":      {"example.com", secure.Listener.Addr().String(), roots, nil, ""},
		"self-signed": {"example.com", secure.Listener.Addr().String(), x509.NewCertPool(), nil, "certificate"},
		"other name":  {"registry.test", secure.Listener.Addr().String(), roots, nil, "registry.test"},
		"expired":     {"example.com", secure.Listener.Addr().String(), roots, later, "expired"},
		"without TLS": {"example.com", plain.Listener.Addr().String(), roots, nil, "HTTP response to HTTPS"},
	} {
		asked.Store(0)
		network := dialing(tt.address)
		network.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		network.TLSClientConfig.RootCAs, network.TLSClientConfig.Time = tt.roots, tt.now
		c := newClient()
		c.Transport = network
		repo, err := c.Repository(tt.host + "/k")
		check(t, err)
		_, err = repo.Resolve(t.Context(), "v1")
		if tt.want == "" {
			if !oci.NotFound(err) || asked.Load() != 1 {
				t.Errorf("%s: got %v after %d requests, want the clear answer", name, err, asked.Load())
			}
		} else if !oci.Unreachable(err) || !strings.Contains(err.Error(), tt.want) || asked.Load() != 0 {
			t.Errorf("%s: got %v after %d requests, want %q and none", name, err, asked.Load(), tt.want)
		}
	}
}

// C04: what the proxy of the environment answers is not taken for the registry's word.
func TestC04ProxyIsNamed(t *testing.T) {
	for status, want := range map[int]string{407: "407 Proxy Authentication Required", 502: "502 Bad Gateway"} {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(proxy.Close)
		at, err := url.Parse(proxy.URL)
		check(t, err)
		c := newClient()
		network := oci.NewTransport()
		network.Proxy = http.ProxyURL(at)
		c.Transport = network
		repo, err := c.Repository("quay.io/k/k")
		check(t, err)
		if _, err := repo.Resolve(t.Context(), "v1"); !oci.Unreachable(err) || !strings.Contains(err.Error(), "proxy "+at.Host+": "+want) {
			t.Errorf("got %v, want it to be the proxy's %d", err, status)
		}
	}
}
