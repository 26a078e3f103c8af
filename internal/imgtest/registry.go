package imgtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// RegistryOptions are the choices of [NewRegistry]. The zero value is an open
// registry with the referrers API on a free port of 127.0.0.1.
type RegistryOptions struct {
	Addr           string       // host:port; "": "127.0.0.1:0". 127.0.0.2, … count as other hosts
	NoReferrers    bool         // like CNCF distribution: clients keep the fallback tag
	User, Password string       // set: basic authentication is asked for
	Tokens         *TokenServer // set: its bearer tokens are asked for
}

// Registry is olareg, an OCI registry, in this process and in memory. Its
// requests are logged, and can be scripted; without a script it is olareg
// itself. Its methods may be called while clients use it.
type Registry struct {
	Script
	options RegistryOptions
	olareg  *olareg.Server
	server  *http.Server
	host    string

	manifests sync.Mutex // held during the PUT of a manifest
}

// NewRegistry starts a registry. The caller closes it.
func NewRegistry(o RegistryOptions) (*Registry, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	yes, referrers := true, !o.NoReferrers
	r := &Registry{options: o, host: l.Addr().String(), olareg: olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem, GC: config.ConfigGC{Frequency: -1, GracePeriod: -1}},
		API:     config.ConfigAPI{DeleteEnabled: &yes, Referrer: config.ConfigAPIReferrer{Enabled: &referrers}},
	})}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go r.server.Serve(l) // ends with Close
	return r, nil
}

// StartRegistry is [NewRegistry] for a test, which closes it.
func StartRegistry(t testing.TB, o RegistryOptions) *Registry {
	t.Helper()
	r, err := NewRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// Host is the registry's address, such as "127.0.0.1:41234".
func (r *Registry) Host() string { return r.host }

// Close stops the registry. Connections are cut.
func (r *Registry) Close() error {
	r.Release()
	return errors.Join(r.server.Close(), r.olareg.Close())
}

// ServeHTTP implements [http.Handler].
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.play(w, req, r.serve) }

// serve is the registry as it is without a script.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if r.options.User != "" && (user != r.options.User || password != r.options.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	if r.options.Tokens != nil && !r.options.Tokens.admit(w, req) {
		return
	}
	if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
		// olareg 0.1.2 adds to the list of a subject's referrers by reading and
		// writing it, without a lock: of two at once it may keep only one.
		r.manifests.Lock()
		defer r.manifests.Unlock()
	}
	r.olareg.ServeHTTP(w, req)
}
