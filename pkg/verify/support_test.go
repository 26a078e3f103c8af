package verify

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// newRegistry serves an empty registry on loopback and returns the name of a
// repository in it.
func newRegistry(t *testing.T) string {
	t.Helper()
	return registryWith(t, true)
}

func registryWith(t *testing.T, referrersAPI bool) string {
	t.Helper()
	o := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		API:     config.ConfigAPI{Referrer: config.ConfigAPIReferrer{Enabled: &referrersAPI}},
	})
	s := httptest.NewServer(o)
	t.Cleanup(func() { s.Close(); _ = o.Close() })
	return strings.TrimPrefix(s.URL, "http://") + "/kubelet"
}

// network is the transport of the tests: real HTTP, except where a fault says otherwise.
type network struct {
	mu     sync.Mutex
	faults []func(*http.Request) (*http.Response, error) // the first that returns something wins
	log    []string
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	n.mu.Lock()
	faults := n.faults
	n.log = append(n.log, req.Method+" "+req.URL.Host+req.URL.Path)
	n.mu.Unlock()
	for _, f := range faults {
		if resp, err := f(req); resp != nil || err != nil {
			return resp, err
		}
	}
	return http.DefaultTransport.RoundTrip(req)
}

func (n *network) add(f func(*http.Request) (*http.Response, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, f)
}

// asked counts the requests whose line contains all the words.
func (n *network) asked(words ...string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, line := range n.log {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			count++
		}
	}
	return count
}

// kill makes every request to the repository's registry fail to connect.
func (n *network) kill(repository string) {
	host, _, _ := strings.Cut(repository, "/")
	n.add(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == host {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		return nil, nil
	})
}

// swallow takes requests to the repository, or only those below a path of it,
// and never answers.
func (n *network) swallow(path string) {
	host, rest, _ := strings.Cut(path, "/")
	_, part, _ := strings.Cut(rest, "/")
	n.add(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host != host || !strings.Contains(req.URL.Path, part) {
			return nil, nil
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
}

// answer makes requests to the repository whose path contains part end with the status.
func (n *network) answer(repository, part string, status int, body string) {
	host, _, _ := strings.Cut(repository, "/")
	n.add(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == host && strings.Contains(req.URL.Path, part) {
			return &http.Response{
				StatusCode: status, Request: req, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
				Header: http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}},
			}, nil
		}
		return nil, nil
	})
}

// spoil flips a byte of every body whose request path contains part.
func (n *network) spoil(repository, part string) {
	host, _, _ := strings.Cut(repository, "/")
	n.add(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host != host || !strings.Contains(req.URL.Path, part) {
			return nil, nil
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) == 0 {
			return resp, err
		}
		body[len(body)/2] ^= 1
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	})
}

var noon = time.Date(2026, 7, 2, 12, 0, 0, 0, time.UTC)

// world is a verifier with its network.
type world struct {
	*Verifier
	net *network
}

// newWorld makes a verifier under the policy, which never waits between tries.
func newWorld(t *testing.T, p *Policy) *world {
	t.Helper()
	n := &network{}
	return &world{net: n, Verifier: &Verifier{
		Policy:   p,
		Registry: &oci.Client{Transport: n, Retry: oci.Retry{Tries: 1}},
		Now:      func() time.Time { return noon },
	}}
}

// trusting is a policy that trusts the keys for the repositories, which are its sources.
func trusting(t *testing.T, repositories []string, keys ...*sign.Key) *Policy {
	t.Helper()
	p, err := LoadPolicy(imgtest.PolicyFile(t, t.TempDir(), repositories, keys...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// policyOf loads a policy whose rules are the text, with k.pub and l.pub beside it.
func policyOf(t *testing.T, k, l *sign.Key, rules string) (*Policy, error) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "k.pub"), k.PublicPEM())
	write(t, filepath.Join(dir, "l.pub"), l.PublicPEM())
	write(t, filepath.Join(dir, "n.pub"), imgtest.SigningKey(t).PublicPEM())
	path := filepath.Join(dir, "policy.yaml")
	write(t, path, []byte("apiVersion: imgctl.dev/v1\nkind: Policy\n"+rules))
	p, err := LoadPolicy(path)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	return p, err
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err is a refusal for the reason.
func refused(t *testing.T, err error, want Reason, words ...string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal (%s)", err, want)
	}
	if r.Reason != want {
		t.Errorf("reason: got %s, want %s: %v", r.Reason, want, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

// bundleOf signs any text as a statement.
func bundleOf(t testing.TB, by sign.Signer, statement []byte) []byte {
	t.Helper()
	signed, err := by.Sign(t.Context(), sign.Statement(statement))
	if err != nil {
		t.Fatal(err)
	}
	return signed.Bundle
}

// attachment is the artifact with a signed statement about d.
func attachment(t testing.TB, by sign.Signer, d v1.Descriptor, predicateType, predicate string) v1.Image {
	t.Helper()
	a, err := sign.Attest(t.Context(), by, d, "test", predicateType, []byte(predicate), noon)
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.Image()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func hash(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(c, 64)} }

// respond makes a good answer with the body.
func respond(req *http.Request, contentType string, body []byte) *http.Response {
	if req.Method == http.MethodHead {
		return &http.Response{StatusCode: 200, Request: req, Body: http.NoBody, ContentLength: int64(len(body)), Header: http.Header{
			"Content-Type": {contentType}, "Docker-Content-Digest": {digestOf(string(body)).String()},
		}}
	}
	return &http.Response{
		StatusCode: 200, Request: req, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {contentType}},
	}
}

// serve answers requests to the repository whose path contains part with the body.
func serve(repository, part, contentType, body string) func(*http.Request) (*http.Response, error) {
	host, _, _ := strings.Cut(repository, "/")
	return func(req *http.Request) (*http.Response, error) {
		if req.URL.Host != host || !strings.Contains(req.URL.Path, part) {
			return nil, nil
		}
		return respond(req, contentType, []byte(body)), nil
	}
}
