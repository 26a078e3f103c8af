package download_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
)

// TestMain keeps the machine's proxy out of the tests.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		os.Unsetenv(name)
	}
	if url := os.Getenv(childURL); url != "" {
		os.Exit(child(url))
	}
	os.Exit(m.Run())
}

func TestAFileIsFetchedOnceAndThenServedFromTheCache(t *testing.T) {
	o, c := serve(t), client(t)
	var last int64
	c.Progress = func(name string, done, total int64) {
		if name != "file" || done < last || total != int64(len(content)) {
			t.Errorf("progress of %s: %d of %d", name, done, total)
		}
		last = done
	}
	h := sha512.Sum512(content)
	f, err := c.Get(t.Context(), "file", []string{o.URL + "/f"}, download.Want{SHA512: hex.EncodeToString(h[:])})
	must(t, err)
	check(t, f, content)
	if f.URL != o.URL+"/f" || last != f.Size {
		t.Errorf("got URL %q, progress %d", f.URL, last)
	}
	holds(t, c, content)
	for _, w := range []download.Want{pin(content), {SHA512: f.SHA512}, {SHA256: f.SHA256, SHA512: f.SHA512, Size: f.Size}} {
		f, err := c.Get(t.Context(), "file", []string{"http://127.0.0.1:1/none"}, w)
		must(t, err)
		check(t, f, content)
		if f.URL != "" {
			t.Errorf("got URL %q, want none", f.URL)
		}
	}
	if n := len(o.ranges()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestACorruptedCachedFileIsFetchedAgain(t *testing.T) {
	o, c := serve(t), client(t)
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	must(t, os.Chmod(f.Path, 0o644))
	for name, spoil := range map[string]func() error{
		"a flipped bit": func() error { b := bytes.Clone(content); b[1000] ^= 1; return os.WriteFile(f.Path, b, 0o644) },
		"cut short":     func() error { return os.Truncate(f.Path, 10) },
		"removed":       func() error { return os.Remove(f.Path) },
		"a bad link": func() error {
			link := filepath.Join(c.Cache, "sha512", f.SHA512)
			return errors.Join(os.Remove(link), os.Symlink("../sha256/"+strings.Repeat("0", 64), link))
		},
	} {
		must(t, spoil())
		before := len(o.ranges())
		again, err := c.Get(t.Context(), "file", []string{o.URL}, download.Want{SHA512: f.SHA512})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, again, content)
		if n := len(o.ranges()) - before; n != 1 {
			t.Errorf("%s: asked %d times, want once", name, n)
		}
		must(t, os.Chmod(f.Path, 0o644))
	}
	holds(t, c, content)
}

// What lies in the cache's place but is not the cache's is neither read nor
// removed through a link.
func TestNoLinkLeadsOutOfTheCache(t *testing.T) {
	o, c := serve(t), client(t)
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	mine := filepath.Join(t.TempDir(), "mine")
	must(t, os.WriteFile(mine, content, 0o644))
	for _, entry := range []string{f.Path, filepath.Join(c.Cache, "sha512", f.SHA512)} {
		must(t, os.Remove(entry))
		must(t, os.Symlink(mine, entry))
		again, err := c.Get(t.Context(), "file", []string{o.URL}, download.Want{SHA512: f.SHA512})
		must(t, err)
		check(t, again, content)
		if fi, err := os.Lstat(again.Path); err != nil || !fi.Mode().IsRegular() {
			t.Errorf("got %v, %v; want a file of the cache", fi, err)
		}
	}
	if got, err := os.ReadFile(mine); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the other file was touched: %v", err)
	}
	holds(t, c, content)
}

// U01
func TestOtherBytesAreAMismatchWithBothDigests(t *testing.T) {
	o, c := serve(t), client(t)
	o.body = bytes.Clone(content)
	o.body[123] ^= 1
	_, err := c.Get(t.Context(), "kubelet", []string{o.URL}, pin(content))
	var m *download.Mismatch
	if !errors.As(err, &m) || m.Object != "kubelet" || m.What != "sha256" || m.Got != sha(o.body) || m.Want != sha(content) {
		t.Errorf("got %v", err)
	}
	if download.NotFound(err) || download.Unreachable(err) {
		t.Errorf("%v is of more than one kind", err)
	}
	holds(t, c)
	good := serve(t)
	f, err := c.Get(t.Context(), "kubelet", []string{o.URL, good.URL}, pin(content))
	must(t, err)
	check(t, f, content)
}

func TestAnEmptyFileIsAFile(t *testing.T) {
	o, c := serve(t), client(t)
	o.body = nil
	f, err := c.Get(t.Context(), "empty", []string{o.URL}, pin(nil))
	must(t, err)
	check(t, f, nil)
}

// U06
func TestAPageIsNotAFile(t *testing.T) {
	for name, page := range map[string]string{
		"HTML":           "<!DOCTYPE html>\n<html><body>sign in</body></html>",
		"small html":     "\r\n <html>",
		"object store":   "<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code></Error>",
		"XML error":      "<Error><Code>AccessDenied</Code></Error>",
		"with a mark":    "\xef\xbb\xbf<html>",
		"with a comment": "<!-- proxy --><html>",
	} {
		o, c := serve(t), client(t)
		o.body = []byte(page)
		for _, w := range []download.Want{pin(content), {}} {
			_, err := c.Get(t.Context(), "kubelet", []string{o.URL}, w)
			if !download.Unreachable(err) || !strings.Contains(err.Error(), "page instead of kubelet") {
				t.Errorf("%s: got %v", name, err)
			}
			holds(t, c)
		}
		if _, err := c.Read(t.Context(), o.URL, 1<<20); !download.Unreachable(err) || !strings.Contains(err.Error(), "page") {
			t.Errorf("%s: read: got %v", name, err)
		}
	}
	o := serve(t)
	o.body = []byte("a < b, and <html> in the middle")
	if _, err := client(t).Read(t.Context(), o.URL, 1<<20); err != nil {
		t.Error(err)
	}
}

// Four answers: an error says no more than the servers did.
func TestKindsOfErrors(t *testing.T) {
	absent := func(t *testing.T) string { return serve(t, slices.Repeat([]http.HandlerFunc{status(404)}, 9)...).URL }
	gone := func(t *testing.T) string { return serve(t, slices.Repeat([]http.HandlerFunc{status(410)}, 9)...).URL }
	broken := func(t *testing.T) string { return serve(t, slices.Repeat([]http.HandlerFunc{status(500)}, 9)...).URL }
	denied := func(t *testing.T) string { return serve(t, slices.Repeat([]http.HandlerFunc{status(403)}, 9)...).URL }
	dead := func(t *testing.T) string { o := serve(t); o.Close(); return o.URL }
	other := func(t *testing.T) string { o := serve(t); o.body = []byte("other"); return o.URL }
	for name, tt := range map[string]struct {
		servers                         []func(*testing.T) string
		notFound, unreachable, mismatch bool
	}{
		"absent":            {servers: []func(*testing.T) string{absent}, notFound: true},
		"gone":              {servers: []func(*testing.T) string{gone}, notFound: true},
		"both absent":       {servers: []func(*testing.T) string{absent, gone}, notFound: true},
		"broken":            {servers: []func(*testing.T) string{broken}, unreachable: true},
		"dead":              {servers: []func(*testing.T) string{dead}, unreachable: true},
		"denied":            {servers: []func(*testing.T) string{denied}, unreachable: true},
		"absent and dead":   {servers: []func(*testing.T) string{absent, dead}, unreachable: true},
		"broken and absent": {servers: []func(*testing.T) string{broken, absent}, unreachable: true},
		"other bytes":       {servers: []func(*testing.T) string{other}, mismatch: true},
		"absent and other":  {servers: []func(*testing.T) string{absent, other}, mismatch: true},
		"other and dead":    {servers: []func(*testing.T) string{other, dead}, mismatch: true, unreachable: true},
	} {
		t.Run(name, func(t *testing.T) {
			var urls []string
			for _, s := range tt.servers {
				urls = append(urls, s(t))
			}
			c := client(t)
			_, err := c.Get(t.Context(), "file", urls, pin(content))
			err = fmt.Errorf("wrapped: %w", err)
			var m *download.Mismatch
			if download.NotFound(err) != tt.notFound || download.Unreachable(err) != tt.unreachable || errors.As(err, &m) != tt.mismatch {
				t.Errorf("got %v: not found %v, unreachable %v, mismatch %v", err, download.NotFound(err), download.Unreachable(err), errors.As(err, &m))
			}
			holds(t, c)
		})
	}
	if download.NotFound(nil) || download.Unreachable(nil) || download.NotFound(errors.New("x")) || download.Unreachable(context.Canceled) {
		t.Error("an error of another kind is called one of ours")
	}
}

func TestOfflineServesTheCacheAndAsksNobody(t *testing.T) {
	o, c := serve(t), client(t)
	_, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	off := &download.Client{Cache: c.Cache, Offline: true}
	f, err := off.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	_, get := off.Get(t.Context(), "other", []string{o.URL}, pin([]byte("other")))
	_, read := off.Read(t.Context(), o.URL, 10)
	for _, err := range []error{get, read, off.Exists(t.Context(), o.URL)} {
		if !download.Unreachable(err) || !strings.Contains(err.Error(), "offline") {
			t.Errorf("got %v", err)
		}
	}
	if n := len(o.ranges()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestTwoClientsAtOnceFetchOnce(t *testing.T) {
	o := serve(t)
	dir := t.TempDir()
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			c := &download.Client{Cache: dir}
			f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
			if err != nil {
				t.Error(err)
				return
			}
			check(t, f, content)
		})
	}
	g.Wait()
	if n := len(o.ranges()); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	holds(t, &download.Client{Cache: dir}, content)
}

func TestReadIsBounded(t *testing.T) {
	o, c := serve(t), client(t)
	o.body = []byte("12345")
	got, err := c.Read(t.Context(), o.URL, 5)
	if err != nil || string(got) != "12345" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := c.Read(t.Context(), o.URL, 4); err == nil || download.Unreachable(err) || download.NotFound(err) {
		t.Errorf("got %q, %v; want it refused for its size", got, err)
	}
}

func TestPostSendsTheBodyEachTime(t *testing.T) {
	var bodies []string
	echo := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var b bytes.Buffer
			b.ReadFrom(r.Body)
			bodies = append(bodies, r.Method+" "+r.Header.Get("Content-Type")+" "+b.String())
			w.WriteHeader(code)
			w.Write([]byte("answer"))
		}
	}
	o := serve(t, echo(503), echo(200))
	got, err := client(t).Post(t.Context(), o.URL, "application/json", []byte("{}"), 100)
	if err != nil || string(got) != "answer" || !slices.Equal(bodies, []string{"POST application/json {}", "POST application/json {}"}) {
		t.Errorf("got %q, %v after %q", got, err, bodies)
	}
}

func TestExists(t *testing.T) {
	o := serve(t, status(200), status(404))
	c := client(t)
	if err := c.Exists(t.Context(), o.URL); err != nil || o.requests[0].Method != http.MethodHead {
		t.Errorf("got %v by %s", err, o.requests[0].Method)
	}
	if err := c.Exists(t.Context(), o.URL); !download.NotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestABadWantIsTheCallersError(t *testing.T) {
	o, c := serve(t), client(t)
	for _, w := range []download.Want{{SHA256: "../../etc/passwd"}, {SHA256: strings.Repeat("A", 64)}, {SHA512: sha(nil)}, {Size: -1}} {
		if _, err := c.Get(t.Context(), "file", []string{o.URL}, w); err == nil || download.Unreachable(err) || download.NotFound(err) {
			t.Errorf("%+v: got %v", w, err)
		}
	}
	for _, u := range []string{"", "file:///etc/passwd", "ftp://example.com/f", "/f", "http://", "http://user:secret@%zz"} {
		_, err := c.Get(t.Context(), "file", []string{u}, download.Want{})
		if err == nil || download.Unreachable(err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", u, err)
		}
	}
	if _, err := c.Get(t.Context(), "file", nil, download.Want{}); err == nil {
		t.Error("no URL is no error")
	}
	if n := len(o.ranges()); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

func TestDir(t *testing.T) {
	for _, name := range []string{"IMGCTL_CACHE", "XDG_CACHE_HOME", "HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/home/u")
	for _, step := range []struct{ name, value, want string }{
		{"HOME", "/home/u", "/home/u/.cache/imgctl"},
		{"XDG_CACHE_HOME", "relative", "/home/u/.cache/imgctl"},
		{"XDG_CACHE_HOME", "/xdg", "/xdg/imgctl"},
		{"IMGCTL_CACHE", "/mine", "/mine"},
	} {
		t.Setenv(step.name, step.value)
		if got := download.Dir(); got != step.want {
			t.Errorf("%s=%s: got %s, want %s", step.name, step.value, got, step.want)
		}
	}
}
