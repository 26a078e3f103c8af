package download_test

import (
	"context"
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

// U14: a connection that is cut goes on where it stopped.
func TestACutTransferIsResumed(t *testing.T) {
	o, c := serve(t, cutAt(100_000)), client(t)
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	r := o.ranges()
	if len(r) != 2 || !strings.HasPrefix(r[1], "bytes=") || r[1] == "bytes=0-" {
		t.Errorf("got ranges %q, want one request and one for the rest", r)
	}
	if got := o.requests[1].Header.Get("If-Range"); got != `"v1"` {
		t.Errorf("got If-Range %q", got)
	}
	holds(t, c, content)
}

// A transfer survives the end of the process, also on another mirror when the
// bytes are pinned.
func TestATransferIsResumedByTheNextProcess(t *testing.T) {
	for name, w := range map[string]download.Want{"pinned": pin(content), "not pinned": {}} {
		t.Run(name, func(t *testing.T) {
			cut := slices.Repeat([]http.HandlerFunc{cutAt(100_000), status(503), status(503), status(503), status(503), status(503)}, 1)
			o, c := serve(t, cut...), client(t)
			if _, err := c.Get(t.Context(), "file", []string{o.URL}, w); !download.Unreachable(err) {
				t.Fatalf("got %v, want it unreachable", err)
			}
			o.scripts = nil
			before := len(o.ranges())
			next := &download.Client{Cache: c.Cache, Wait: c.Wait}
			f, err := next.Get(t.Context(), "file", []string{o.URL}, w)
			must(t, err)
			check(t, f, content)
			if r := o.ranges()[before:]; len(r) != 1 || r[0] == "" {
				t.Errorf("got ranges %q, want one for the rest", r)
			}
			holds(t, c, content)
		})
	}
}

// U12: whatever a server makes of a Range, the result is the file.
func TestEveryAnswerToARangeEndsWithTheRightBytes(t *testing.T) {
	partial := func(first int, contentRange string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[first:])
		}
	}
	all := len(content)
	for name, answer := range map[string]http.HandlerFunc{
		"200, all of it":         func(w http.ResponseWriter, _ *http.Request) { w.Write(content) },
		"206 from the start":     partial(0, fmt.Sprintf("bytes 0-%d/%d", all-1, all)),
		"206 from elsewhere":     partial(200_000, fmt.Sprintf("bytes 200000-%d/%d", all-1, all)),
		"206 without a range":    partial(0, ""),
		"206 with nonsense":      partial(0, "bytes x-y/z"),
		"206 of another total":   partial(100_000, fmt.Sprintf("bytes 100000-%d/%d", all-1, all+5)),
		"206 that lies":          partial(99_999, fmt.Sprintf("bytes 100000-%d/%d", all-1, all)),
		"416 of another length":  status(416, "Content-Range", "bytes */5"),
		"416 without a range":    status(416),
		"200 with If-Range miss": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"v2"`); w.Write(content) },
	} {
		t.Run(name, func(t *testing.T) {
			o, c := serve(t, cutAt(100_000), answer), client(t)
			f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
			must(t, err)
			check(t, f, content)
			holds(t, c, content)
		})
	}
	// A server that answers nothing but wrong ranges is given up.
	wrong := partial(0, "bytes 5-9/10")
	o, c := serve(t, slices.Repeat([]http.HandlerFunc{wrong}, 50)...), client(t)
	if _, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content)); err == nil {
		t.Error("accepted")
	}
	if n := len(o.ranges()); n > 10 {
		t.Errorf("asked %d times", n)
	}
}

// A partial file that was poisoned is not this server's fault: one more try from
// the start, and the cache holds nothing wrong.
func TestAPoisonedPartIsFetchedAgain(t *testing.T) {
	o, c := serve(t), client(t)
	part := filepath.Join(c.Cache, "part", "sha256-"+sha(content))
	must(t, os.MkdirAll(filepath.Dir(part), 0o755))
	for name, data := range map[string][]byte{"other bytes": noise(400_000)[300_000:], "too long": noise(300_001), "as long": make([]byte, len(content))} {
		must(t, os.WriteFile(part, data, 0o600))
		f, err := c.Get(t.Context(), "file", []string{o.URL}, download.Want{SHA256: sha(content), Size: int64(len(content))})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, f, content)
		holds(t, c, content)
		must(t, os.Remove(f.Path))
		must(t, os.Remove(filepath.Join(c.Cache, "sha512", f.SHA512)))
	}
}

// Without a digest and without a strong ETag nothing tells that the rest belongs
// to the same file.
func TestAnUnpinnedPartWithoutAValidatorStartsAgain(t *testing.T) {
	o := serve(t, cutAt(100_000), func(w http.ResponseWriter, _ *http.Request) { w.Write(content) })
	o.scripts[0] = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `W/"weak"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:100_000])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	f, err := client(t).Get(t.Context(), "file", []string{o.URL}, download.Want{})
	must(t, err)
	check(t, f, content)
	if r := o.ranges(); !slices.Equal(r, []string{"", ""}) {
		t.Errorf("got ranges %q", r)
	}
}

// U14, U15: sizes, announced and real.
func TestSizesAreLimits(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(content); err != nil {
				return
			}
		}
	}
	unannounced := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).Flush()
			w.Write(body)
		}
	}
	n := int64(len(content))
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		want  download.Want
		msg   string // "" means it is accepted
	}{
		"right size":               {nil, download.Want{Size: n}, ""},
		"length not announced":     {unannounced(content), download.Want{Size: n}, ""},
		"announced too large":      {nil, download.Want{Size: n - 1}, "size of file: got 300000, want 299999"},
		"announced too small":      {nil, download.Want{Size: n + 1}, "size of file: got 300000, want 300001"},
		"endless, size known":      {endless, download.Want{Size: 1000}, "size of file: got more than 1000, want 1000"},
		"endless, size not known":  {endless, download.Want{Max: 1_000_000}, "want at most 1000000"},
		"announced above the max":  {nil, download.Want{Max: n - 1}, "got 300000 bytes or more, want at most 299999"},
		"exactly the max":          {nil, download.Want{Max: n}, ""},
		"not announced and larger": {unannounced(content), download.Want{Size: n - 1}, "size of file: got more than 299999"},
	} {
		t.Run(name, func(t *testing.T) {
			o, c := serve(t), client(t)
			if tt.serve != nil {
				o.scripts = []http.HandlerFunc{tt.serve}
			}
			f, err := c.Get(t.Context(), "file", []string{o.URL}, tt.want)
			if tt.msg == "" {
				must(t, err)
				check(t, f, content)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("got %v, want %q", err, tt.msg)
			}
			holds(t, c)
			if n := len(o.ranges()); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
	// A body that ends early without saying so is continued.
	o, c := serve(t, unannounced(content[:100_000])), client(t)
	f, err := c.Get(t.Context(), "file", []string{o.URL}, download.Want{Size: n, SHA256: sha(content)})
	must(t, err)
	check(t, f, content)
	if r := o.ranges(); !slices.Equal(r, []string{"", "bytes=100000-"}) {
		t.Errorf("got ranges %q", r)
	}
}

func TestCancellingEndsATransferAtOnceAndKeepsWhatItBrought(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user said so")
	o := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:100_000])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := client(t)
	c.Progress = func(_ string, done, _ int64) {
		if done == 100_000 {
			cancel(why)
		}
	}
	_, err := c.Get(ctx, "file", []string{o.URL, o.URL}, pin(content))
	if !errors.Is(err, why) || download.Unreachable(err) {
		t.Errorf("got %v, want the cause", err)
	}
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	if r := o.ranges(); !slices.Equal(r, []string{"", "bytes=100000-"}) {
		t.Errorf("got ranges %q", r)
	}
}

func TestWaitingForAnotherProcessCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	o := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	c := client(t)
	var g sync.WaitGroup
	holding, release := context.WithCancel(t.Context())
	g.Go(func() { c.Get(holding, "file", []string{o.URL}, pin(content)) })
	<-entered
	cancel()
	if _, err := (&download.Client{Cache: c.Cache}).Get(ctx, "file", []string{o.URL}, pin(content)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	g.Wait()
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content)) // the lock is free again
	must(t, err)
	check(t, f, content)
}
