package imgtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
)

// Script is what happens to the requests of a server of the tests, and their
// log. The zero value does nothing to any.
type Script struct {
	mu     sync.Mutex
	faults []*Fault
	log    []Request
	hung   []chan struct{}
}

// Request is a request that the registry has answered, or refused to.
type Request struct {
	Method        string
	Path          string // with the query
	Authorization string
	Range         string // of what is asked for or sent
	Size          int64  // of its body; -1: not said
	Status        int    // 0: the connection was closed without an answer
}

// String is "PUT /v2/a/manifests/v1 201".
func (r Request) String() string { return fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status) }

// Fault is what happens to some requests. A fault without Status, Edit, Cut,
// Take, Drop and Hang only waits.
type Fault struct {
	Method string // "": any
	Path   string // part of the path with the query, or its end if this ends with "$"; "": any
	Skip   int    // let so many matching requests through first
	Times  int    // then happen so often; 0: for ever

	If func(Request) bool // … and this agrees; nil: always

	Wait   <-chan struct{} // answer once this is closed
	Do     func()          // is called before the request is carried out
	Drop   bool            // close the connection; the request is not carried out
	Lose   bool            // carry it out, then close the connection without an answer
	Status int             // answer with this instead of carrying it out
	Header http.Header     // … and these
	Body   string          // … and this
	Edit   func(*Answer)   // carry it out, and change the answer
	Cut    int             // send only so many bytes of the body, then close the connection
	Take   int             // carry it out with only so many bytes of its own body, then close the connection
	Hang   bool            // where Cut or Take would close the connection, or else at once: let it hang
}

// Answer is an answer that a [Fault] may change.
type Answer struct {
	Path   string // of the request, with the query
	Status int
	Header http.Header
	Body   []byte
}

// On adds a fault. Of several that match a request, the first added happens.
func (s *Script) On(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults. What hangs goes on hanging.
func (s *Script) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Down closes every connection without an answer, until [Script.Heal].
func (s *Script) Down() { s.On(Fault{Drop: true}) }

// ReadOnly answers every write as Quay did after an outage, until [Script.Heal].
func (s *Script) ReadOnly() {
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete} {
		s.On(Fault{Method: method, Status: http.StatusMethodNotAllowed, Body: `{"errors":[{"code":"UNSUPPORTED","message":"System is currently read-only. Pulls will succeed but all write operations are currently suspended."}]}`})
	}
}

// Redirect answers reads of blobs with 307 to the same path at base
// ("http://127.0.0.2:5000"), as registries do whose blobs are elsewhere.
func (s *Script) Redirect(base string) {
	s.On(Fault{Method: http.MethodGet, Path: "/blobs/sha256:", Edit: func(a *Answer) {
		a.Status, a.Body = http.StatusTemporaryRedirect, nil
		a.Header = http.Header{"Location": {base + a.Path}}
	}})
}

// NoReferrers answers the referrers API in one of the ways of registries that
// do not have it: with status 404, 400 or 405, or 200 and an empty body.
func (s *Script) NoReferrers(status int) { s.On(Fault{Path: "/referrers/", Status: status}) }

// Requests returns the log, in the order in which the answers were complete.
func (s *Script) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Forget empties the log.
func (s *Script) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

// Writes returns the requests in the log that may have changed something.
func (s *Script) Writes() []Request {
	return slices.DeleteFunc(s.Requests(), func(q Request) bool {
		return q.Method == http.MethodGet || q.Method == http.MethodHead
	})
}

// Release closes the connections that hang.
func (s *Script) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.hung {
		close(c)
	}
	s.hung = nil
}

// play serves a request as the script says, and logs it.
func (s *Script) play(w http.ResponseWriter, req *http.Request, serve http.HandlerFunc) {
	q := Request{Method: req.Method, Path: req.URL.RequestURI(), Authorization: req.Header.Get("Authorization"), Range: req.Header.Get("Range") + req.Header.Get("Content-Range"), Size: req.ContentLength}
	sw := &statusWriter{ResponseWriter: w}
	defer func() {
		q.Status = sw.status
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = append(s.log, q)
	}()
	if f := s.pick(q); f != nil {
		s.happen(f, sw, req, serve)
		return
	}
	serve(sw, req)
}

// pick returns the fault that happens to q, and counts it.
func (s *Script) pick(q Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Method != "" && f.Method != q.Method || !matches(q.Path, f.Path) || f.Times < 0 || f.If != nil && !f.If(q) {
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

// happen answers a request as its fault says.
func (s *Script) happen(f *Fault, w *statusWriter, req *http.Request, serve http.HandlerFunc) {
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
	answered := f.Status != 0 || f.Edit != nil || f.Cut > 0 || f.Take > 0 || f.Lose
	switch {
	case f.Drop, f.Hang && !answered:
		s.end(f, req)
	case !answered:
		serve(w, req)
		return
	}
	if f.Status != 0 {
		io.Copy(io.Discard, req.Body) // or a client that is still sending might not see the answer
	}
	a := &Answer{Path: req.URL.RequestURI(), Status: f.Status, Header: f.Header.Clone(), Body: []byte(f.Body)}
	if f.Status == 0 {
		if f.Take > 0 {
			req.Body = &taken{ReadCloser: req.Body, left: f.Take}
		}
		rec := httptest.NewRecorder()
		serve(rec, req)
		a.Status, a.Header, a.Body = rec.Code, rec.Header(), rec.Body.Bytes()
	}
	if f.Lose || f.Take > 0 {
		s.end(f, req)
	}
	if f.Edit != nil {
		a.Header.Del("Content-Length") // that of what is sent; Edit may set another
		f.Edit(a)
	}
	if a.send(w, f.Cut) {
		s.end(f, req)
	}
}

// end closes the connection, which is what aborting a handler does, or lets it hang first.
func (s *Script) end(f *Fault, req *http.Request) {
	if f.Hang {
		c := make(chan struct{})
		s.mu.Lock()
		s.hung = append(s.hung, c)
		s.mu.Unlock()
		select {
		case <-c:
		case <-req.Context().Done():
		}
	}
	panic(http.ErrAbortHandler)
}

// taken is a request's body that breaks off.
type taken struct {
	io.ReadCloser
	left int
}

func (t *taken) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := t.ReadCloser.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

// send writes the answer. With cut > 0 it is only that much of its body, and
// true is returned if there was more.
func (a *Answer) send(w http.ResponseWriter, cut int) (broken bool) {
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	if cut > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	if cut <= 0 || cut >= len(a.Body) {
		w.Write(a.Body) // an error here is the client's, who has gone
		return false
	}
	w.Write(a.Body[:cut])
	http.NewResponseController(w).Flush()
	return true
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
