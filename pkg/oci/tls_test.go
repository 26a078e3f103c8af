package oci_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
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

// Most registries on loopback do without TLS, but not all.
func TestRegistryWithTLSOnLoopbackIsAskedWithIt(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{User: "robot", Password: password})
	secure := httptest.NewTLSServer(reg)
	t.Cleanup(secure.Close)
	host := secure.Listener.Addr().String()
	reg.On(imgtest.Fault{Method: "POST", Edit: func(a *imgtest.Answer) { // as registries say it that give a whole URL
		a.Header.Set("Location", "https://"+host+a.Header.Get("Location"))
	}})
	f := newFixture(t, 100)
	for name, transport := range map[string]http.RoundTripper{"proven": secure.Client().Transport, "self-signed": nil} {
		reg.Forget()
		c := robot(t, host)
		c.Transport = transport
		_, err := c.Publish(t.Context(), oci.Release{Subject: f.index, Tags: []string{"v1"}}, oci.Destination{Repository: host + "/k"})
		switch {
		case name == "proven" && err != nil:
			t.Errorf("%s: %v", name, err)
		case name != "proven" && (!oci.Unreachable(err) || !strings.Contains(err.Error(), "certificate") || len(reg.Requests()) > 0):
			t.Errorf("%s: got %v and %v, want its certificate to be refused", name, err, reg.Requests())
		}
	}
}

// A 400 alone does not make a registry one with TLS.
func TestRegistryWithoutTLSMayAnswer400(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(imgtest.Fault{Times: 2, Status: http.StatusBadRequest})
	repo, err := newClient().Repository(reg.Host() + "/k")
	check(t, err)
	for _, want := range []string{"400 Bad Request", "400 Bad Request", "404 Not Found"} {
		if _, err := repo.Resolve(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if log := reg.Requests(); len(log) != 3 {
		t.Errorf("got %v, want three requests", log)
	}
}

// A password for a token server with TLS is not sent without it.
func TestTokenServerWithTLSOnLoopbackIsAskedWithIt(t *testing.T) {
	ca := imgtest.NewAuthority(t, t.TempDir())
	cert, _, _ := ca.Issue(t, "tokens", "127.0.0.1")
	tokens := imgtest.StartTokenServerTLS(t, "127.0.0.1:0", cert)
	tokens.Users["robot"] = password
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Tokens: tokens})
	pem, err := os.ReadFile(ca.File)
	check(t, err)
	network := oci.NewTransport()
	network.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	for _, trusted := range []bool{false, true} {
		if trusted {
			network = network.Clone()
			network.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem)
		}
		c := robot(t, reg.Host())
		c.Transport = network
		repo, err := c.Repository(reg.Host() + "/k")
		check(t, err)
		if _, err = repo.Resolve(t.Context(), "v1"); oci.NotFound(err) != trusted {
			t.Errorf("trusted %v: got %v", trusted, err)
		}
		if asked := len(tokens.Requests()) > 0; asked != trusted {
			t.Errorf("trusted %v: its log: %v", trusted, tokens.Requests())
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
