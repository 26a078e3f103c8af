package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds of a conversation with one of the services.
const (
	maxAnswer  = 4 << 20          // bytes; a real one has a few thousand
	maxTries   = 5                // of one request
	maxPause   = 30 * time.Second // between two of them, whatever Retry-After says
	tryTimeout = 30 * time.Second
)

// request is one request to a service.
type request struct {
	what   string // for errors: "ask Fulcio for a certificate"
	method string
	url    string
	bearer Secret // empty: none
	typ    string // content type of the body
	body   []byte
	absent bool // the answer 404 may become another one, so that it is asked again
}

// answer is what a service said, whatever its status.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends the request until a service that is overloaded or could not be
// reached has answered, at most maxTries times.
func (s *Services) call(ctx context.Context, r request) (*answer, error) {
	if err := checkEndpoint(r.url); err != nil {
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
	var failed error
	for try := range maxTries {
		a, err := s.try(ctx, r)
		if err == nil && !again(r, a.status) {
			return a, nil
		}
		pause := time.Second << try
		if err == nil {
			failed, pause = r.refused(a), retryAfter(a.header, s.now(), pause)
		} else {
			failed = fmt.Errorf("%s: %w", r.what, err)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", r.what, context.Cause(ctx))
		}
		if try == maxTries-1 {
			break
		}
		if err := s.wait(ctx, pause); err != nil {
			return nil, failed
		}
	}
	return nil, failed
}

// again reports whether the same request may get another answer in a while.
func again(r request, status int) bool {
	switch status {
	case http.StatusNotFound:
		return r.absent
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// try sends the request once. It follows no redirect: the token is for the host
// that was asked.
func (s *Services) try(ctx context.Context, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, errors.New("the address is not a URL")
	}
	req.Header.Set("User-Agent", "imgctl (+https://github.com/imgctl/imgctl)")
	if r.typ != "" {
		req.Header.Set("Content-Type", r.typ)
	}
	if len(r.bearer) > 0 {
		req.Header.Set("Authorization", "Bearer "+string(r.bearer))
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if s.HTTP != nil {
		client.Transport = s.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("got more than %d bytes", maxAnswer)
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// refused is the error about an answer that is not the one that was hoped for.
// It quotes the beginning of it, without what was secret in the question.
func (r request) refused(a *answer) error {
	text := string(a.body)
	if len(r.bearer) > 0 {
		for _, part := range append(strings.Split(string(r.bearer), "."), string(r.bearer)) {
			if len(part) > 8 {
				text = strings.ReplaceAll(text, part, redacted)
			}
		}
	}
	return fmt.Errorf("%s: %s %s: got %d, want 2xx: %s", r.what, r.method, hostOf(r.url), a.status, printable(text))
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Host
}

// printable makes text of a stranger safe to print on one line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.TrimSpace(s)
}

// retryAfter reads the header in both of its forms; without it, the pause is ours.
func retryAfter(h http.Header, now time.Time, ours time.Duration) time.Duration {
	text := h.Get("Retry-After")
	pause := ours
	if seconds, err := strconv.Atoi(text); err == nil {
		pause = time.Duration(min(max(seconds, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		pause = max(at.Sub(now), 0)
	}
	return min(pause, maxPause)
}

// roundTripper lets sigstore-go, which gives its requests no context, use call.
type roundTripper struct {
	ctx      context.Context // of the one signature that it is made for
	services *Services
	what     string
}

// RoundTrip implements [http.RoundTripper].
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	a, err := t.services.call(t.ctx, request{what: t.what, method: req.Method, url: req.URL.String(), typ: req.Header.Get("Content-Type"), body: body})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), Request: req}, nil
}
