package imgtest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// snapshotTime is how snapshot.debian.org writes a moment.
const snapshotTime = "20060102T150405Z"

// DebianSnapshot remembers what archives had, in the layout of snapshot.debian.org:
// archive/<name>/<moment>/<path>. As there, a moment that is no snapshot leads to
// the last one before it by a redirect, and a moment before the first one to 404.
// Methods may be called while clients read.
type DebianSnapshot struct {
	URL string // such as "http://127.0.0.1:39017"

	mu       sync.Mutex
	states   map[string][]debianState // by archive, in order of time
	requests []string
}

// debianState is what an archive had at one moment.
type debianState struct {
	at    time.Time
	files map[string][]byte
}

// NewDebianSnapshot starts a service that remembers nothing yet. It ends with the test.
func NewDebianSnapshot(t testing.TB) *DebianSnapshot {
	t.Helper()
	s := &DebianSnapshot{states: make(map[string][]debianState)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Take remembers what the archive has now as its state at the given moment,
// which is after those that were taken before.
func (s *DebianSnapshot) Take(d *Debian, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[d.name] = append(s.states[d.name], debianState{at.UTC(), d.snapshot()})
}

// Requests returns the paths that were asked for so far, in order.
func (s *DebianSnapshot) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP answers a request and records it.
func (s *DebianSnapshot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, strings.TrimPrefix(r.URL.Path, "/"))
	s.mu.Unlock()
	words := strings.SplitN(r.URL.Path, "/", 5) // "", "archive", name, moment, path
	if len(words) != 5 || words[1] != "archive" {
		http.NotFound(w, r)
		return
	}
	moment, err := time.Parse(snapshotTime, words[3])
	state, ok := s.before(words[2], moment)
	if err != nil || !ok {
		http.NotFound(w, r)
		return
	}
	if !state.at.Equal(moment) {
		words[3] = state.at.Format(snapshotTime)
		http.Redirect(w, r, strings.Join(words, "/"), http.StatusFound)
		return
	}
	body, ok := state.files[words[4]]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", state.at, bytes.NewReader(body))
}

// before returns the last state of an archive that is not after the moment.
func (s *DebianSnapshot) before(archive string, moment time.Time) (debianState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, state := range slices.Backward(s.states[archive]) {
		if !state.at.After(moment) {
			return state, true
		}
	}
	return debianState{}, false
}
