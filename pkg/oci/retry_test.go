package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// R20: a Retry-After is obeyed as far as patience goes, with a little on top.
func TestR20RetryAfterIsObeyedWithinBounds(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	r := Retry{Now: func() time.Time { return now }}
	for header, want := range map[string]time.Duration{
		"":                     0,
		"2":                    2 * time.Second,
		"30":                   30 * time.Second,
		"31":                   30 * time.Second,
		"1e9":                  0, // no number: no wish
		"1000000000":           30 * time.Second,
		"-1":                   0,
		"later":                0,
		"99999999999999999999": 30 * time.Second,
		now.Add(5 * time.Second).Format(http.TimeFormat): 5 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
		now.Add(time.Hour).Format(http.TimeFormat):       30 * time.Second,
	} {
		wait, again := r.pause(1, true, &statusError{code: 429, wish: header})
		if !again || wait < want || wait > want+want/10+time.Second {
			t.Errorf("%q: got %v, %v; want %v and a little more", header, wait, again, want)
		}
	}
}

// A budget bounds the pauses of one operation, whatever the registry asks for.
func TestR20PausesHaveABudget(t *testing.T) {
	var waited time.Duration
	attempts := 0
	c := &Client{
		Retry: Retry{Wait: func(_ context.Context, d time.Duration) error { waited += d; return nil }},
		Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			attempts++
			return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"3600"}}, Body: http.NoBody, Request: req}, nil
		}),
	}
	repo, err := c.Repository("quay.io/a/b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Resolve(t.Context(), "v1")
	if !Unreachable(err) || !strings.Contains(err.Error(), "429 Too Many Requests") || !strings.Contains(err.Error(), "Retry-After: 3600") {
		t.Errorf("got %v, want it to say which limit", err)
	}
	// The waits at pace come on top of the budget; they are those of the last 429 once more.
	if attempts != 3 || waited > 4*time.Minute {
		t.Errorf("got %d attempts and %v of pauses, want 3 in less than 4 min", attempts, waited)
	}
}

func TestOnlyWhatMayBeRepeatedIs(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		err          error
		want         int // attempts
	}{
		{"GET", "/v2/a/manifests/x", 503, nil, 8},
		{"HEAD", "/v2/a/blobs/x", 429, nil, 8},
		{"GET", "/v2/a/manifests/x", 408, nil, 8},
		{"PUT", "/v2/a/manifests/x", 500, nil, 8},
		{"POST", "/v2/a/blobs/uploads/", 502, nil, 8},
		{"PUT", "/v2/a/blobs/uploads/1", 503, nil, 1},
		{"PATCH", "/v2/a/blobs/uploads/1", 503, nil, 1},
		{"DELETE", "/v2/a/manifests/x", 503, nil, 1},
		{"GET", "/", 404, nil, 1},
		{"GET", "/", 501, nil, 1},
		{"GET", "/", 200, nil, 1},
		{"GET", "/", 0, syscall.ECONNREFUSED, 3},
		{"GET", "/", 0, io.ErrUnexpectedEOF, 8},
		{"GET", "/", 0, errors.New("http2: server sent GOAWAY and closed the connection"), 8},
		{"GET", "/", 0, &stallError{time.Second}, 1}, // the host has never answered
		{"GET", "/", 0, &net.DNSError{IsNotFound: true}, 1},
		{"GET", "/", 0, context.DeadlineExceeded, 1},
		{"GET", "/", 0, errors.New("x509: certificate has expired"), 1},
	} {
		attempts := 0
		w := patient(func(req *http.Request) (*http.Response, error) {
			attempts++
			if tt.err != nil {
				return nil, tt.err
			}
			return &http.Response{StatusCode: tt.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no")), Request: req}, nil
		})
		req := httptest.NewRequest(tt.method, "https://quay.io"+tt.path, nil)
		resp, err := w.RoundTrip(req)
		if attempts != tt.want {
			t.Errorf("%s %s, %d %v: got %d attempts, want %d", tt.method, tt.path, tt.status, tt.err, attempts, tt.want)
		}
		if err == nil && resp.StatusCode != tt.status || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%s %s: got %v, %v", tt.method, tt.path, resp, err)
		}
	}
}

// patient is the whole stack over a network, with pauses that take no time.
func patient(network roundTrip) *wire {
	c := &Client{UserAgent: "test/1", Transport: network, Retry: Retry{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}}
	return c.newWire()
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A body is whole each time that it is sent.
func TestRepeatedRequestHasItsBodyAgain(t *testing.T) {
	var bodies []string
	w := patient(func(req *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(req.Body)
		bodies = append(bodies, string(b)+" "+req.Header.Get("User-Agent"))
		status := 503
		if len(bodies) == 3 {
			status = 201
		}
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}, nil
	})
	req, err := http.NewRequest("PUT", "https://quay.io/v2/a/manifests/x", strings.NewReader("whole"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(bodies, "|"); got != "whole test/1|whole test/1|whole test/1" {
		t.Errorf("got %q", got)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Retry{}).wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Loopback and listed hosts may be asked without TLS, and no others ever.
func TestPlainHTTPIsForLoopbackAndListedHostsOnly(t *testing.T) {
	c := &Client{PlainHTTP: []string{"10.0.0.7:5000", "registry.lan"}}
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:5000": true, "127.3.2.1:1": true, "[::1]:5000": true, "[::1]": true, "localhost": true, "localhost:5000": true,
		"10.0.0.7:5000": true, "registry.lan": true,
		"10.0.0.7": false, "10.0.0.8:5000": false, "192.168.1.1": false, "registry.lan:80": false, "quay.io": false, "localhost.evil.test": false, "128.0.0.1": false,
		"127.0.0.1.evil.test": false, "[::2]": false,
	} {
		if got := c.Plain(host); got != want {
			t.Errorf("%s: got %v, want %v", host, got, want)
		}
		var asked string
		c.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			asked = req.URL.Scheme
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
		})
		w := c.newWire()
		for _, scheme := range []string{"http", "https"} {
			asked = "nothing"
			_, err := w.RoundTrip(httptest.NewRequest("GET", scheme+"://"+host+"/v2/", nil))
			switch {
			case scheme == "https" && (asked != "https" || err != nil), // never without TLS what is to have it
				want && scheme == "http" && (asked != "http" || err != nil), !want && scheme == "http" && (asked != "nothing" || err == nil):
				t.Errorf("%s://%s: asked %s, %v", scheme, host, asked, err)
			}
		}
	}
}

// A registry elsewhere must not send us to this machine or its network's
// metadata service, by redirect or by Location (R01's kin).
func TestRegistryCannotPointAtOurMachine(t *testing.T) {
	g := &registry{}
	for _, target := range []string{"https://127.0.0.1/x", "https://localhost/x", "https://169.254.169.254/latest", "https://[::1]/x", "https://0.0.0.0/x", "https://[fe80::1]/x", "https://a.localhost/x", "https://u:p@cdn.test/x"} {
		req := httptest.NewRequest("GET", target, nil)
		if err := redirectRule("quay.io")(req, []*http.Request{{Method: "GET"}}); err == nil {
			t.Errorf("redirect to %s was followed", target)
		}
		if u, err := g.location(httptest.NewRequest("POST", "https://quay.io/v2/", nil).URL, target); err == nil {
			t.Errorf("Location %s was taken for %s", target, u)
		}
	}
	if err := redirectRule("quay.io")(httptest.NewRequest("GET", "https://cdn.quay.io/x", nil), []*http.Request{{Method: "GET"}}); err != nil {
		t.Error(err)
	}
	if err := redirectRule("quay.io")(httptest.NewRequest("PUT", "https://cdn.quay.io/x", nil), []*http.Request{{Method: "PUT"}}); err == nil {
		t.Error("a PUT was redirected")
	}
	// R07: relative is fine, and the query stays as it is.
	u, err := g.location(httptest.NewRequest("POST", "https://quay.io/v2/a/blobs/uploads/", nil).URL, "/v2/a/blobs/uploads/1?_state=a%2Bb==#frag")
	if err != nil || u.String() != "https://quay.io/v2/a/blobs/uploads/1?_state=a%2Bb==" {
		t.Errorf("got %v, %v", u, err)
	}
	if _, err := g.location(u, ""); err == nil {
		t.Error("no Location: want an error")
	}
}

func FuzzNextPage(f *testing.F) {
	f.Add(`</v2/a/referrers/x?page=2>; rel="next"`)
	f.Add(`<https://evil.test/x>; rel=next, <x>; rel="last"`)
	f.Add(`<>;;rel=next`)
	f.Fuzz(func(t *testing.T, link string) {
		at := httptest.NewRequest("GET", "https://quay.io/v2/a/referrers/x", nil).URL
		next, err := nextPage(at, []string{link})
		if err == nil && next != nil && (next.Host != at.Host || next.Scheme != at.Scheme || next.User != nil) {
			t.Errorf("%q leads to %s", link, next)
		}
	})
}

func FuzzReferrers(f *testing.F) {
	h := strings.Repeat("ab", 32)
	entry := fmt.Sprintf(`{"mediaType":"a/b","size":1,"digest":"sha256:%s","artifactType":"x/y","annotations":{"k":"v"}}`, h)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+entry+`]}`), []byte(`{"schemaVersion":2,"manifests":[`+strings.ReplaceAll(entry, "x/y", "")+`]}`))
	f.Add([]byte(`{"manifests":null}`), []byte(`<html>`))
	f.Fuzz(func(t *testing.T, api, tag []byte) {
		a, errA := parseReferrers(api)
		b, errB := parseReferrers(tag)
		if errA != nil || errB != nil {
			return
		}
		merged := mergeReferrers(a, b)
		for _, d := range append(a, b...) {
			if !lists(merged, d.Digest) {
				t.Errorf("%s was lost", d.Digest)
			}
		}
		for i := range merged[:max(0, len(merged)-1)] {
			if merged[i].Digest.Hex >= merged[i+1].Digest.Hex {
				t.Error("not sorted, or one twice")
			}
		}
		if again := mergeReferrers(merged, a, b); len(again) != len(merged) {
			t.Errorf("merged again: got %d, want %d", len(again), len(merged))
		}
		m, err := fallbackIndex(merged)
		if err != nil {
			return
		}
		if ix, err := m.Index(); err == nil && !holdsAll(ix.Manifests, merged) { // else: one platform twice
			t.Error("the index of the fallback tag does not hold what was put in")
		}
	})
}
