package oci

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Retry says how often and when something is tried again. The zero value is
// the default: up to eight tries, pauses that double from about a quarter of a
// second to two seconds, a Retry-After of up to 30 s obeyed, and no more than
// 90 s of pauses for one operation.
//
// Only what may be repeated is: reads, manifests, the start of an upload, and
// an upload as far as it had not come. A connection that is cut or silent and
// the answers 408, 429, 500, 502, 503 and 504 are tried again. So is a refused
// connection, but only twice, and silence only where the host has answered
// before. A name that does not resolve and a bad certificate are not: they
// would only take as long again.
type Retry struct {
	Tries   int                                              // 0: 8; 1: never again
	Longest time.Duration                                    // of a Retry-After so much is obeyed; 0: 30 s
	Budget  time.Duration                                    // of all pauses of one operation; 0: 90 s
	Wait    func(ctx context.Context, d time.Duration) error // nil: a timer
	Now     func() time.Time                                 // nil: time.Now
}

const (
	refusedTries = 3
	silentTries  = 4
	longestPause = 2 * time.Second
)

// repeat tries again what may pass, and reopens a request's body each time it is sent.
type repeat struct {
	next  http.RoundTripper
	hosts *hosts
	retry Retry
	log   *slog.Logger
}

// RoundTrip implements [http.RoundTripper].
func (r *repeat) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.GetBody != nil {
		defer req.Body.Close() // every try has its own
	}
	req = req.WithContext(withEffort(req.Context()))
	for try := 1; ; try++ {
		one := req.Clone(req.Context())
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			one.Body = body
		}
		resp, err := r.next.RoundTrip(one)
		if req.Context().Err() != nil || !repeatable(req) {
			return resp, err
		}
		wait, again := r.retry.pause(try, r.hosts.at(req.URL.Host).hasAnswered(), outcome(resp, err))
		if !again || !r.retry.afford(req.Context(), wait) {
			return resp, err
		}
		r.log.Debug("request repeated", "method", req.Method, "url", safeURL(req.URL), "try", try, "wait", wait)
		if resp != nil {
			drain(resp.Body)
		}
		if err := r.retry.wait(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// outcome is the error that a request came to: err, or a [*statusError].
func outcome(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	return &statusError{code: resp.StatusCode, wish: resp.Header.Get("Retry-After")}
}

// pause returns how long to wait after the try-th failure, and whether trying
// again makes sense at all. answered says that the host is not a black hole.
func (r Retry) pause(try int, answered bool, err error) (time.Duration, bool) {
	var status *statusError
	if try >= r.tries() {
		return 0, false
	}
	if !errors.As(err, &status) {
		wait := jitter(min(longestPause, 50*time.Millisecond<<min(try-1, 10)))
		switch stall := (*stallError)(nil); {
		case errors.As(err, &stall):
			return wait, answered && try < silentTries
		case errors.Is(err, syscall.ECONNREFUSED):
			return wait, try < refusedTries
		}
		return wait, transient(err)
	}
	switch status.code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return max(r.retryAfter(status.wish), jitter(min(longestPause, 250*time.Millisecond<<min(try-1, 10)))), true
	}
	return 0, false
}

func (r Retry) tries() int {
	if r.Tries > 0 {
		return r.Tries
	}
	return 8
}

func (r Retry) longest() time.Duration {
	if r.Longest > 0 {
		return r.Longest
	}
	return 30 * time.Second
}

func (r Retry) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r Retry) wait(ctx context.Context, d time.Duration) error {
	if r.Wait != nil {
		return r.Wait(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, 10.2.3).
// What is neither, or past, is no wish. One beyond patience is cut: the next
// answer will repeat it if it was meant. The jitter is on top, so that nobody
// comes too early.
func (r Retry) retryAfter(s string) time.Duration {
	wish := time.Duration(0)
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		wish = time.Duration(n) * time.Second
	} else if strings.Trim(s, "0123456789") == "" && s != "" {
		wish = r.longest() // a number beyond any patience
	} else if t, err := http.ParseTime(s); err == nil {
		wish = t.Sub(r.now())
	}
	if wish <= 0 {
		return 0
	}
	wish = min(wish, r.longest())
	return wish + jitter(wish/10)/2
}

// effort is what one operation has spent on pauses. It travels in the context,
// since an operation is several requests.
type effort struct {
	mu     sync.Mutex
	waited time.Duration
}

type effortKey struct{}

// withEffort begins an operation, unless ctx is part of one.
func withEffort(ctx context.Context) context.Context {
	if ctx.Value(effortKey{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, effortKey{}, new(effort))
}

// afford takes a pause out of the operation's budget, if it is in there.
func (r Retry) afford(ctx context.Context, d time.Duration) bool {
	e, ok := ctx.Value(effortKey{}).(*effort)
	if !ok {
		return true
	}
	budget := r.Budget
	if budget <= 0 {
		budget = 90 * time.Second
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waited+d > budget {
		return false
	}
	e.waited += d
	return true
}

// repeatable reports whether sending req twice has the effect of sending it once.
func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPut:
		return strings.Contains(req.URL.Path, "/manifests/")
	case http.MethodPost: // a second upload session or token costs nothing
		return strings.HasSuffix(req.URL.Path, "/blobs/uploads/") || req.Header.Get("Content-Type") == formType
	}
	return false
}

// transient reports whether a connection failed in a way that often passes.
func transient(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isBroken(err)
}

// isBroken reports whether err is one of those that net/http gives no type: a
// connection that was given up by HTTP/2 or carried what is no HTTP.
func isBroken(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	for _, part := range [...]string{"http2: ", "stream error: ", "transport connection broken", "server closed idle connection", "malformed chunked encoding"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// jitter spreads d over half to one and a half of it, so that many nodes that
// failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + time.Duration(rand.Int64N(int64(d)))
}
