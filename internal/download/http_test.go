package download_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgctl/imgctl/internal/download"
)

// web answers requests without a network, by URL.
type web map[string]func(r *http.Request) *http.Response

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, ok := w[r.URL.String()]
	if !ok {
		return nil, errors.New("no such host")
	}
	resp := answer(r)
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	resp.Request = r
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

func text(s string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 200, ContentLength: int64(len(s)), Body: io.NopCloser(strings.NewReader(s))}
	}
}

func redirect(to string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 302, Header: http.Header{"Location": {to}}}
	}
}

func (w web) client(t *testing.T) *download.Client {
	c := client(t)
	c.HTTP = &http.Client{Transport: w}
	return c
}

// U16
func TestRedirectsStayOnThePublicNetwork(t *testing.T) {
	for name, tt := range map[string]struct {
		from, to string
		want     string // "" means it is followed
	}{
		"to https":               {"https://dl.example/f", "https://cdn.example/f", ""},
		"relative":               {"https://dl.example/f", "/other", ""},
		"from http to https":     {"http://dl.example/f", "https://cdn.example/f", ""},
		"from http to http":      {"http://dl.example/f", "http://cdn.example/f", ""},
		"from https to http":     {"https://dl.example/f", "http://dl.example/f", "from https to http://dl.example/f"},
		"to a file":              {"https://dl.example/f", "file:///etc/passwd", `scheme "file"`},
		"to ftp":                 {"https://dl.example/f", "ftp://dl.example/f", `scheme "ftp"`},
		"to cloud metadata":      {"http://dl.example/f", "http://169.254.169.254/latest", "link-local"},
		"to IPv6 link-local":     {"http://dl.example/f", "http://[fe80::1]/f", "link-local"},
		"to mapped link-local":   {"http://dl.example/f", "http://[::ffff:169.254.169.254]/f", "link-local"},
		"to loopback":            {"http://dl.example/f", "http://127.0.0.1:8080/f", "this machine"},
		"to IPv6 loopback":       {"http://dl.example/f", "http://[::1]/f", "this machine"},
		"to mapped loopback":     {"http://dl.example/f", "http://[::ffff:127.0.0.1]/f", "this machine"},
		"to localhost":           {"http://dl.example/f", "http://LOCALHOST./f", "this machine"},
		"to any address":         {"http://dl.example/f", "http://0.0.0.0/f", "this machine"},
		"from loopback to it":    {"http://127.0.0.1/f", "http://127.0.0.2/f", ""},
		"from loopback to cloud": {"http://127.0.0.1/f", "http://169.254.169.254/f", "link-local"},
	} {
		t.Run(name, func(t *testing.T) {
			to := tt.to
			if strings.HasPrefix(to, "/") {
				to = "https://dl.example" + to
			}
			w := web{tt.from: redirect(tt.to), to: text("file")}
			c := w.client(t)
			_, get := c.Get(t.Context(), "file", []string{tt.from}, pin([]byte("file")))
			_, read := c.Read(t.Context(), tt.from, 10)
			for _, err := range []error{get, read} {
				if tt.want == "" && err != nil {
					t.Errorf("got %v, want it followed", err)
				}
				if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
		})
	}
}

// U16: the first hop may be allowed and a later one not.
func TestEveryHopOfARedirectIsChecked(t *testing.T) {
	w := web{
		"https://dl.example/f":  redirect("https://a.example/f"),
		"https://a.example/f":   redirect("http://b.example/f"),
		"http://b.example/f":    text("file"),
		"http://loop.example/f": redirect("http://loop.example/f"),
	}
	if _, err := w.client(t).Read(t.Context(), "https://dl.example/f", 10); err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("got %v", err)
	}
	if _, err := w.client(t).Read(t.Context(), "http://loop.example/f", 10); err == nil || !strings.Contains(err.Error(), "more than 5 times") {
		t.Errorf("got %v", err)
	}
	chain := web{"https://h.example/6": text("file")}
	for i := range 6 {
		chain[fmt.Sprintf("https://h.example/%d", i)] = redirect(fmt.Sprintf("https://h.example/%d", i+1))
	}
	if _, err := chain.client(t).Read(t.Context(), "https://h.example/1", 10); err != nil {
		t.Errorf("5 hops: %v", err)
	}
	if _, err := chain.client(t).Read(t.Context(), "https://h.example/0", 10); err == nil {
		t.Error("6 hops: accepted")
	}
}

// A name cannot lead where an address may not.
func TestANameOfALinkLocalAddressIsNotDialled(t *testing.T) {
	c := client(t)
	c.Lookup = func(context.Context, string) ([]string, error) { return []string{"169.254.169.254"}, nil }
	_, err := c.Read(t.Context(), "http://metadata.example/f", 10)
	if err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("got %v", err)
	}
}

// U03: one edge of a delivery network lacks the file, another has it.
func TestA404OfADeliveryNetworkIsAskedOfAnotherAddress(t *testing.T) {
	bad, good := twoAddresses(t)
	absent := false
	bad.Config.Handler = http.HandlerFunc(http.NotFound)
	good.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if absent {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	})
	bad.Start()
	good.Start()
	_, port, err := net.SplitHostPort(bad.Listener.Addr().String())
	must(t, err)
	base := serve(t, slices.Repeat([]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://cdn.example:"+port+"/f", http.StatusFound)
	}}, 20)...)
	var asked []string
	c := client(t)
	c.Lookup = func(_ context.Context, host string) ([]string, error) {
		asked = append(asked, host)
		return []string{"127.0.0.2", "127.0.0.3"}, nil
	}
	f, err := c.Get(t.Context(), "file", []string{base.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	if !slices.Equal(asked, []string{"cdn.example", "cdn.example"}) {
		t.Errorf("resolved %q", asked)
	}

	absent = true
	_, err = c.Read(t.Context(), base.URL, 10)
	if !download.NotFound(err) || !strings.Contains(err.Error(), "http://cdn.example:"+port+"/f: 404") {
		t.Errorf("got %v, want not found, and the host that said so", err)
	}
	if n := len(base.ranges()); n > 6 {
		t.Errorf("asked %d times", n)
	}
}

// twoAddresses returns servers on one port of 127.0.0.2 and 127.0.0.3, not yet started.
func twoAddresses(t *testing.T) (a, b *httptest.Server) {
	t.Helper()
	for range 20 {
		la, err := net.Listen("tcp", "127.0.0.2:0")
		must(t, err)
		_, port, err := net.SplitHostPort(la.Addr().String())
		must(t, err)
		lb, err := net.Listen("tcp", "127.0.0.3:"+port)
		if err != nil {
			la.Close()
			continue // taken there
		}
		servers := make([]*httptest.Server, 2)
		for i, l := range []net.Listener{la, lb} {
			s := httptest.NewUnstartedServer(nil)
			s.Listener.Close()
			s.Listener = l
			t.Cleanup(s.Close)
			servers[i] = s
		}
		return servers[0], servers[1]
	}
	t.Fatal("no port is free on both addresses")
	return nil, nil
}

// A 404 of the host that was asked itself is an answer.
func TestAPlain404IsNotRepeated(t *testing.T) {
	o, c := serve(t, status(404), status(404)), client(t)
	if _, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content)); !download.NotFound(err) {
		t.Errorf("got %v", err)
	}
	if n := len(o.ranges()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestPausesGrowAndFollowRetryAfter(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	second := time.Second
	for name, tt := range map[string]struct {
		scripts []http.HandlerFunc
		want    []time.Duration
		fails   bool
	}{
		"growing":              {[]http.HandlerFunc{status(500), status(502), status(504)}, []time.Duration{second / 2, second, 2 * second}, false},
		"bounded":              {slices.Repeat([]http.HandlerFunc{status(503)}, 9), []time.Duration{second / 2, second, 2 * second}, true},
		"seconds":              {[]http.HandlerFunc{status(429, "Retry-After", "7")}, []time.Duration{7 * second}, false},
		"date":                 {[]http.HandlerFunc{status(503, "Retry-After", at(9*second))}, []time.Duration{9 * second}, false},
		"date that has passed": {[]http.HandlerFunc{status(503, "Retry-After", at(-9*second))}, []time.Duration{second / 2}, false},
		"a day is capped":      {[]http.HandlerFunc{status(429, "Retry-After", "86400")}, []time.Duration{30 * second}, false},
		"date is capped":       {[]http.HandlerFunc{status(429, "Retry-After", at(time.Hour))}, []time.Duration{30 * second}, false},
		"huge":                 {[]http.HandlerFunc{status(429, "Retry-After", "99999999999999999999")}, []time.Duration{second / 2}, false},
		"nonsense":             {[]http.HandlerFunc{status(429, "Retry-After", "-5"), status(429, "Retry-After", "soon")}, []time.Duration{second / 2, second}, false},
		"no progress, 400":     {[]http.HandlerFunc{status(400)}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []string{"get", "read"} {
				var pauses []time.Duration
				o, c := serve(t, tt.scripts...), client(t)
				c.Now = func() time.Time { return now }
				c.Wait = func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil }
				var err error
				if kind == "get" {
					_, err = c.Get(t.Context(), "file", []string{o.URL}, pin(content))
				} else {
					_, err = c.Read(t.Context(), o.URL, 1<<20)
				}
				if (err != nil) != tt.fails || !slices.Equal(pauses, tt.want) {
					t.Errorf("%s: paused %v (%v), want %v", kind, pauses, err, tt.want)
				}
			}
		})
	}
}

// U14: time passes only in the bubble.
func TestATransferThatStandsStillIsEnded(t *testing.T) {
	type piece struct {
		after time.Duration
		n     int
	}
	slow := slices.Repeat([]piece{{10 * time.Second, 1}}, 100)
	steady := slices.Repeat([]piece{{20 * time.Second, 10_000}}, 30)
	for name, tt := range map[string]struct {
		header time.Duration // before the answer
		body   []piece
		took   time.Duration // until the error; 0: none
	}{
		"no header":             {header: time.Hour, took: 30 * time.Second},
		"no body":               {body: []piece{{time.Hour, 1}}, took: 30 * time.Second},
		"a megabyte, then none": {body: []piece{{0, 200_000}, {time.Hour, 1}}, took: 30 * time.Second},
		"a byte in ten seconds": {body: slow, took: 30 * time.Second},
		"slow but steady":       {body: steady},
		"late header":           {header: 29 * time.Second, body: []piece{{0, len(content)}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				w := web{"https://dl.example/f": func(r *http.Request) *http.Response {
					if tries++; tries > 1 { // nothing comes any more
						<-r.Context().Done()
						return &http.Response{StatusCode: 500}
					}
					select {
					case <-time.After(tt.header):
					case <-r.Context().Done():
					}
					pr, pw := io.Pipe()
					go func() {
						sent := 0
						for _, p := range tt.body {
							select {
							case <-time.After(p.after):
							case <-r.Context().Done():
								pw.CloseWithError(r.Context().Err())
								return
							}
							pw.Write(content[sent : sent+p.n])
							sent += p.n
						}
						pw.Close()
					}()
					return &http.Response{StatusCode: 200, ContentLength: int64(len(content)), Body: pr}
				}}
				c := w.client(t)
				var first time.Duration
				start := time.Now()
				c.Wait = func(ctx context.Context, _ time.Duration) error {
					if first == 0 {
						first = time.Since(start)
					}
					return ctx.Err()
				}
				f, err := c.Get(t.Context(), "file", []string{"https://dl.example/f"}, pin(content))
				if tt.took == 0 {
					must(t, err)
					check(t, f, content)
					return
				}
				if !download.Unreachable(err) || !strings.Contains(err.Error(), "stalled") || first != tt.took {
					t.Errorf("got %v after %v, want it stalled after %v", err, first, tt.took)
				}
			})
		})
	}
}

// Without a Wait of its own the client really waits, and can be woken.
func TestAPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := web{"https://dl.example/f": func(*http.Request) *http.Response { return &http.Response{StatusCode: 503} }}
		c := w.client(t)
		c.Wait = nil
		start := time.Now()
		if _, err := c.Read(t.Context(), "https://dl.example/f", 10); !download.Unreachable(err) || time.Since(start) != 3500*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start = time.Now()
		if _, err := c.Read(ctx, "https://dl.example/f", 10); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

// No message and no file carries what a URL may hide.
func TestNoMessageShowsCredentials(t *testing.T) {
	secret := "https://user:hunter2@dl.example/f?token=hunter3#hunter4"
	fails := func(r *http.Request) *http.Response { return &http.Response{StatusCode: 500} }
	for name, w := range map[string]web{
		"no host":         {},
		"server error":    {"https://user:hunter2@dl.example/f?token=hunter3#hunter4": fails},
		"not found":       {secret: func(*http.Request) *http.Response { return &http.Response{StatusCode: 404} }},
		"page":            {secret: text("<html>")},
		"other bytes":     {secret: text("other")},
		"too large":       {secret: text(strings.Repeat("x", 1000))},
		"redirect":        {secret: redirect("http://user:hunter5@127.0.0.1/f?sig=hunter6")},
		"redirect loop":   {secret: redirect(secret)},
		"redirect to 404": {secret: redirect("https://user:hunter5@cdn.example/f?sig=hunter6"), "https://user:hunter5@cdn.example/f?sig=hunter6": func(*http.Request) *http.Response { return &http.Response{StatusCode: 404} }},
	} {
		_, get := w.client(t).Get(t.Context(), "file", []string{secret}, download.Want{SHA256: sha(content), Max: 100})
		_, read := w.client(t).Read(t.Context(), secret, 4)
		for _, err := range []error{get, read} {
			if err == nil || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "user") || !strings.Contains(err.Error(), "dl.example") && !strings.Contains(err.Error(), "cdn.example") {
				t.Errorf("%s: got %v, want the host and no secret", name, err)
			}
		}
	}
	w := web{secret: text("file")}
	f, err := w.client(t).Get(t.Context(), "file", []string{secret}, pin([]byte("file")))
	must(t, err)
	if f.URL != "https://dl.example/f?…" {
		t.Errorf("got URL %q", f.URL)
	}
}

// The bytes of a .tar.gz are wanted as they are.
func TestNothingIsUnpackedOnTheWay(t *testing.T) {
	o, c := serve(t), client(t)
	o.scripts = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(content)
	}}
	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	if got := o.requests[0].Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("got Accept-Encoding %q", got)
	}
}
