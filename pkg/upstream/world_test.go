package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/pkg/verify"
)

const version = "v1.36.2"

var (
	tarball = upstream.NodeTarball(version, "amd64")
	kubelet = upstream.Binary(version, "amd64", "kubelet")
)

// world is a release on loopback and a client that trusts its Sigstore.
type world struct {
	*imgtest.KubeServer
	client   *upstream.Client
	sigstore *imgtest.Sigstore
	dir      string // what is served
}

// publish serves a signed release of small programs for two architectures.
func publish(t *testing.T, how imgtest.Signing) *world {
	t.Helper()
	s, err := imgtest.NewSigstore(nil)
	must(t, err)
	binaries, err := imgtest.WritePrograms(t.TempDir(), version, 40_000, "amd64", "arm64")
	must(t, err)
	dir := t.TempDir()
	must(t, imgtest.Kube{Version: version, Binaries: binaries, Signer: s, Signing: how}.Write(dir))
	server, err := imgtest.ServeKube(dir, "", s.Rekor())
	must(t, err)
	t.Cleanup(func() { server.Close() })
	w := &world{KubeServer: server, sigstore: s, dir: dir}
	w.client = w.newClient(t)
	return w
}

// newClient returns a client with an empty cache.
func (w *world) newClient(t *testing.T) *upstream.Client {
	t.Helper()
	root, err := w.sigstore.TrustedRoot()
	must(t, err)
	path := filepath.Join(t.TempDir(), "trusted_root.json")
	must(t, os.WriteFile(path, root, 0o644))
	trust, err := verify.LoadTrust(path)
	must(t, err)
	return &upstream.Client{
		Download: &download.Client{Cache: t.TempDir(), Wait: noWait},
		Bases:    []string{w.URL},
		Rekor:    w.URL,
		Verifier: &verify.BlobVerifier{Trust: trust, Identity: upstream.Identity, Issuer: upstream.Issuer},
	}
}

func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// offline returns a client on the same cache whose every request fails the test.
func (w *world) offline(t *testing.T) *upstream.Client {
	c := *w.client
	c.Download = &download.Client{Cache: w.client.Download.Cache, Wait: noWait, HTTP: &http.Client{Transport: noNetwork{t}}}
	return &c
}

type noNetwork struct{ t *testing.T }

func (n noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("asked the network: %s %s", r.Method, r.URL)
	return nil, errors.New("no network")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func both() []upstream.Proof { return []upstream.Proof{upstream.Pinned, upstream.Signature} }

// cached lists the files that the cache would serve.
func cached(t *testing.T, c *upstream.Client) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.Download.Cache, "sha*", "*"))
	must(t, err)
	return names
}
