package imgtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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
	Addr           string // host:port; "": "127.0.0.1:0". 127.0.0.2, … count as other hosts
	NoReferrers    bool   // like CNCF distribution: clients keep the fallback tag
	User, Password string // set: basic authentication is asked for
}

// Registry is olareg, an OCI registry, in this process and in memory. Requests
// are logged, and can be scripted with [Registry.On]; without a script it is
// olareg itself. Its methods may be called while clients use it.
type Registry struct {
	options RegistryOptions
	olareg  *olareg.Server
	server  *http.Server
	host    string

	manifests sync.Mutex // held during the PUT of a manifest

	mu     sync.Mutex
	faults []*Fault
	log    []Request
}

// Request is a request that the registry has answered, or refused to.
type Request struct {
	Method        string
	Path          string // with the query
	Authorization string
	Status        int // 0: the connection was closed without an answer
}

// String is "PUT /v2/a/manifests/v1 201".
func (r Request) String() string { return fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status) }

// Fault is what happens to some requests. A fault without Status, Edit, Cut
// and Drop only waits.
type Fault struct {
	Method string // "": any
	Path   string // part of the path with the query, or its end if this ends with "$"; "": any
	Skip   int    // let so many matching requests through first
	Times  int    // then happen so often; 0: for ever

	Wait   <-chan struct{} // answer once this is closed
	Do     func()          // is called before the request is carried out
	Drop   bool            // close the connection; the request is not carried out
	Lose   bool            // carry it out, then close the connection without an answer
	Status int             // answer with this instead of carrying it out
	Header http.Header     // … and these
	Body   string          // … and this
	Edit   func(*Answer)   // carry it out, and change the answer
	Cut    int             // send only so many bytes of the body, then close the connection
}

// Answer is an answer that a [Fault] may change.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
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
	return errors.Join(r.server.Close(), r.olareg.Close())
}

// On adds a fault. Of several that match a request, the first added happens.
func (r *Registry) On(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// Requests returns the log, in the order in which the answers were complete.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Forget empties the log.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Writes returns the requests in the log that may have changed something.
func (r *Registry) Writes() []Request {
	return slices.DeleteFunc(r.Requests(), func(q Request) bool {
		return q.Method == http.MethodGet || q.Method == http.MethodHead
	})
}

// ServeHTTP implements [http.Handler].
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := Request{Method: req.Method, Path: req.URL.RequestURI(), Authorization: req.Header.Get("Authorization")}
	s := &statusWriter{ResponseWriter: w}
	defer func() {
		q.Status = s.status
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log = append(r.log, q)
	}()
	if f := r.pick(q); f != nil {
		r.happen(f, s, req)
		return
	}
	r.serve(s, req)
}

// serve is the registry as it is without a script.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if r.options.User != "" && (user != r.options.User || password != r.options.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
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

// pick returns the fault that happens to q, and counts it.
func (r *Registry) pick(q Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Method != "" && f.Method != q.Method || !matches(q.Path, f.Path) || f.Times < 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				f.Times = -1 // used up
			}
		}
		return f
	}
	return nil
}

func matches(path, want string) bool {
	if end, ok := strings.CutSuffix(want, "$"); ok {
		return strings.HasSuffix(path, end)
	}
	return strings.Contains(path, want)
}

// happen answers a request as its fault says. Aborting a handler closes the connection.
func (r *Registry) happen(f *Fault, w *statusWriter, req *http.Request) {
	if f.Do != nil {
		f.Do()
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-req.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	a := &Answer{Status: f.Status, Header: f.Header.Clone(), Body: []byte(f.Body)}
	if f.Status == 0 {
		if f.Edit == nil && f.Cut == 0 && !f.Lose {
			r.serve(w, req)
			return
		}
		rec := httptest.NewRecorder()
		r.serve(rec, req)
		a = &Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}
	}
	if f.Lose {
		panic(http.ErrAbortHandler)
	}
	if f.Edit != nil {
		a.Header.Del("Content-Length") // that of what is sent; Edit may set another
		f.Edit(a)
	}
	a.send(w, f.Cut)
}

// send writes the answer, or with cut > 0 only that much of its body.
func (a *Answer) send(w http.ResponseWriter, cut int) {
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	if cut > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	if cut <= 0 || cut >= len(a.Body) {
		w.Write(a.Body) // an error here is the client's, who has gone
		return
	}
	w.Write(a.Body[:cut])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Down makes the registry close every connection without an answer, until
// [Registry.Heal].
func (r *Registry) Down() { r.On(Fault{Drop: true}) }
