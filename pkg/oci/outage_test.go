package oci_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// unresolved is a network whose resolver knows no name.
func unresolved() http.RoundTripper {
	network := oci.NewTransport()
	network.Proxy = nil
	network.DialContext = func(_ context.Context, kind, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: kind, Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
	}
	return network
}

// M01, M02: each way in which a registry could not be asked has its own name.
func TestM01EachOutageHasAShape(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	untrusted := dialing(secure.Listener.Addr().String())
	untrusted.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	untrusted.TLSClientConfig.RootCAs = x509.NewCertPool()
	for _, tt := range []struct {
		name      string
		host      string // "": that of the registry
		transport http.RoundTripper
		connect   time.Duration
		idle      time.Duration
		fault     imgtest.Fault
		want      oci.Outage
	}{
		{name: "name", host: "registry.test", transport: unresolved(), want: oci.OutageDNS},
		{name: "nobody there", host: "127.0.0.1:1", want: oci.OutageRefused},
		{name: "no connection", host: imgtest.BlackHole(t), connect: 50 * time.Millisecond, want: oci.OutageBlackHole},
		{name: "certificate", host: "registry.test", transport: untrusted, want: oci.OutageTLS},
		{name: "silence", idle: 50 * time.Millisecond, fault: imgtest.Fault{Hang: true}, want: oci.OutageStall},
		{name: "cut", fault: imgtest.Fault{Drop: true}, want: oci.OutageCut},
		{name: "401 for everyone", fault: imgtest.Fault{Status: 401}, want: oci.OutageDenied},
		{name: "403", fault: imgtest.Fault{Status: 403}, want: oci.OutageDenied},
		{name: "429", fault: imgtest.Fault{Status: 429}, want: oci.OutageRateLimit},
		{name: "500", fault: imgtest.Fault{Status: 500}, want: oci.OutageServer},
		{name: "504", fault: imgtest.Fault{Status: 504}, want: oci.OutageServer},
		{name: "an answer", fault: imgtest.Fault{Status: 404}, want: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			if tt.fault.Status != 0 || tt.fault.Hang || tt.fault.Drop {
				reg.On(tt.fault)
			}
			if tt.host == "" {
				tt.host = reg.Host()
			}
			c := &oci.Client{Transport: tt.transport, Retry: oci.Retry{Tries: 1}, Timeouts: oci.Timeouts{Connect: tt.connect, Idle: tt.idle}}
			repo, err := c.Repository(tt.host + "/k")
			check(t, err)
			if _, err = repo.Resolve(t.Context(), "v1"); err == nil || oci.OutageOf(err) != tt.want {
				t.Errorf("got %q of %v, want %q", oci.OutageOf(err), err, tt.want)
			}
		})
	}
}

// M03: the API answers, and where it sends us for blobs nobody is.
func TestM03DeadBlobsAreAShapeOfTheirOwn(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f := newFixture(t, 100)
	repository := reg.Host() + "/k"
	_, err := newClient().Publish(t.Context(), oci.Release{Subject: f.index, Tags: []string{"v1"}}, oci.Destination{Repository: repository})
	check(t, err)
	reg.Redirect("http://127.0.0.1:1")
	c := &oci.Client{Retry: oci.Retry{Tries: 1}}
	repo, err := c.Repository(repository)
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	_, err = repo.ReadBlob(t.Context(), blobOf(t, f), 1<<20)
	if oci.OutageOf(err) != oci.OutageBlobs {
		t.Errorf("got %q of %v, want %q", oci.OutageOf(err), err, oci.OutageBlobs)
	}
	reg.Heal()
	reg.On(imgtest.Fault{Path: "/blobs/", Status: 429})
	if _, err = repo.ReadBlob(t.Context(), blobOf(t, f), 1<<20); oci.OutageOf(err) != oci.OutageRateLimit {
		t.Errorf("429: got %q of %v", oci.OutageOf(err), err)
	}
}

// blobOf is a layer of the fixture.
func blobOf(t *testing.T, f *fixture) v1.Descriptor {
	t.Helper()
	index, err := f.index.IndexManifest()
	check(t, err)
	img, err := f.index.Image(index.Manifests[0].Digest)
	check(t, err)
	m, err := img.Manifest()
	check(t, err)
	return m.Layers[0]
}

func TestDirectoryThatCannotBeReadIsNotAbsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, nil, 0o600))
	repo, err := newClient().Repository("oci:" + path)
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); oci.OutageOf(err) != oci.OutageUnread {
		t.Errorf("got %q of %v, want %q", oci.OutageOf(err), err, oci.OutageUnread)
	}
}
