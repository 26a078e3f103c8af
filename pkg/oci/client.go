package oci

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DefaultUserAgent is what registries see when a [Client] names nothing else.
const DefaultUserAgent = "imgctl (+https://github.com/imgctl/imgctl)"

// defaultJobs is how many large blobs go to one destination at once.
const defaultJobs = 4

// Client reads and writes repositories. The zero value is anonymous and uses
// the network with the defaults of [NewTransport]. Its methods may be called
// concurrently; it must not be copied, nor its fields changed, after first use.
type Client struct {
	Keychain  authn.Keychain    // nil: anonymous
	Transport http.RoundTripper // the network itself; nil: NewTransport()
	Retry     Retry             // how often a request is made again
	Timeouts  Timeouts          // how long a registry may be silent
	Rate      float64           // requests per second to each host; 0: as many as it takes
	PlainHTTP []string          // hosts ("10.0.0.7:5000") that are asked without TLS; loopback is, where it has none
	UserAgent string            // "": DefaultUserAgent

	// TokenServers are hosts, by registry, that get its credentials besides the
	// registry itself and, over TLS, hosts of its own domain: a registry at
	// "registry.example" may send us to "auth.registry.example", but not to
	// "login.example", unless that is listed here.
	TokenServers map[string][]string

	Jobs     int          // large blobs at once for each destination; 0: 4
	Log      *slog.Logger // nil: silent
	Progress func(Event)  // nil: none; called concurrently, and often

	mu       sync.Mutex
	network  *wire
	backends map[string]backend // by canonical name, so that a token is fetched once
	shelf    shelf
}

// Event is progress of one object on its way to one repository.
type Event struct {
	Repository  string
	Verb        string // that of the [Step]
	Digest      v1.Hash
	Done, Total int64 // bytes
}

// Repository returns the repository that name means: a repository of a
// registry in any spelling that [ParseReference] takes, or "oci:DIR". Nothing
// is asked yet. A name with a tag or a digest is an error.
func (c *Client) Repository(name string) (*Repository, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if ref.Tag != "" || ref.Digest != (v1.Hash{}) {
		return nil, fmt.Errorf("repository %q: want no tag and no digest", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.backends[ref.Repository]
	if !ok {
		if b, err = c.open(ref.Repository); err != nil {
			return nil, err
		}
		if c.backends == nil {
			c.backends = make(map[string]backend)
		}
		c.backends[ref.Repository] = b
	}
	return &Repository{name: ref.Repository, back: b}, nil
}

// open makes the backend of a canonical name. c.mu is held.
func (c *Client) open(canonical string) (backend, error) {
	if dir, ok := strings.CutPrefix(canonical, layoutPrefix); ok {
		return newLayout(dir), nil
	}
	repo, err := name.NewRepository(canonical)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", canonical, err)
	}
	if c.network == nil {
		c.network = c.newWire()
	}
	return newRegistry(canonical, repo, c, c.network), nil
}

// Plain reports whether host, with or without a port, may be asked without TLS:
// it is in PlainHTTP, or on loopback by its form.
func (c *Client) Plain(host string) bool {
	return isLoopback(host) || slices.Contains(c.PlainHTTP, host)
}

// isLoopback reports whether host, with or without a port, is this machine by
// its form: no name is looked up.
func isLoopback(host string) bool {
	n := hostname(host)
	a, err := netip.ParseAddr(n)
	return n == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// hostname is host without port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func (c *Client) jobs() int {
	if c.Jobs > 0 {
		return c.Jobs
	}
	return defaultJobs
}

func (c *Client) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (c *Client) progress(e Event) {
	if c.Progress != nil {
		c.Progress(e)
	}
}
