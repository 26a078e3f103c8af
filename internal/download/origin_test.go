package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/download"
)

// content is the file that the tests fetch: larger than any buffer on the way,
// and without a pattern that would hide a piece in the wrong place.
var content = noise(300_000)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func sha(data []byte) string { h := sha256.Sum256(data); return hex.EncodeToString(h[:]) }

func pin(data []byte) download.Want { return download.Want{SHA256: sha(data)} }

// origin serves content with a strong ETag, and lets each request be scripted.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	scripts  []http.HandlerFunc // one for each request, in order; then serve
	requests []*http.Request
	body     []byte
	etag     string
}

func serve(t *testing.T, scripts ...http.HandlerFunc) *origin {
	o := &origin{scripts: scripts, body: content, etag: `"v1"`}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r)
	script := o.serve
	if len(o.scripts) > 0 {
		script, o.scripts = o.scripts[0], o.scripts[1:]
	}
	o.mu.Unlock()
	script(w, r)
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	if o.etag != "" {
		w.Header().Set("ETag", o.etag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.body))
}

// ranges returns the Range header of each request so far.
func (o *origin) ranges() (out []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.requests {
		out = append(out, r.Header.Get("Range"))
	}
	return out
}

// cutAt sends the header and the first n bytes of the file and closes the connection.
func cutAt(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:n])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// client returns a client with an empty cache that never pauses.
func client(t *testing.T) *download.Client {
	return &download.Client{Cache: t.TempDir(), Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds fails unless the cache has exactly these files, and no partial one.
func holds(t *testing.T, c *download.Client, files ...[]byte) {
	t.Helper()
	var got, want []string
	for _, pattern := range []string{"sha256/*", "sha512/*", "part/*"} {
		names, err := filepath.Glob(filepath.Join(c.Cache, pattern))
		must(t, err)
		for _, n := range names {
			if filepath.Ext(n) != ".lock" {
				rel, _ := filepath.Rel(c.Cache, n)
				got = append(got, rel)
			}
		}
	}
	for _, f := range files {
		h := sha512.Sum512(f)
		want = append(want, "sha256/"+sha(f), "sha512/"+hex.EncodeToString(h[:]))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the cache holds %q, want %q", got, want)
	}
}

func check(t *testing.T, f *download.File, want []byte) {
	t.Helper()
	got, err := os.ReadFile(f.Path)
	must(t, err)
	h := sha512.Sum512(want)
	if !bytes.Equal(got, want) || f.Size != int64(len(want)) || f.SHA256 != sha(want) || f.SHA512 != hex.EncodeToString(h[:]) {
		t.Errorf("got %+v with %d bytes, want the %d of the file", f, len(got), len(want))
	}
}
