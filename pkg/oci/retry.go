package oci

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Retry says how often and when a request is made again. The zero value is the
// default: three tries, pauses of about 0.25 s and 1 s, and a Retry-After of up
// to 30 s obeyed.
//
// Only requests that may be repeated are: reads, manifests, and the start of an
// upload. A connection that is refused or cut and the answers 408, 429, 500,
// 502, 503 and 504 are tried again; a time-out, a name that does not resolve
// and a bad certificate are not, they would only take as long again.
type Retry struct {
	Tries   int                                              // 0: 3; 1: never again
	Longest time.Duration                                    // a longer Retry-After is an error at once; 0: 30 s
	Wait    func(ctx context.Context, d time.Duration) error // nil: a timer
	Now     func() time.Time                                 // for a Retry-After that is a date; nil: time.Now
}

// after decides whether a request is made again after its try-th answer, and
// after which pause.
func (r Retry) after(req *http.Request, try int, resp *http.Response, err error) (time.Duration, bool) {
	if try >= r.tries() || req.Context().Err() != nil || !repeatable(req) {
		return 0, false
	}
	return r.pause(try, resp, err)
}

// pause is [Retry.after] for what the caller knows to be repeatable.
func (r Retry) pause(try int, resp *http.Response, err error) (time.Duration, bool) {
	if err != nil {
		return jitter(50 * time.Millisecond << (2 * (try - 1))), transient(err)
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0, false
	}
	asked := r.retryAfter(resp.Header.Get("Retry-After"))
	longest := r.Longest
	if longest == 0 {
		longest = 30 * time.Second
	}
	return max(asked, jitter(250*time.Millisecond<<(2*(try-1)))), asked <= longest
}

func (r Retry) tries() int {
	if r.Tries > 0 {
		return r.Tries
	}
	return 3
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
// What is neither, or past, is no wish.
func (r Retry) retryAfter(s string) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if strings.Trim(s, "0123456789") == "" && s != "" {
		return 1 << 62 // a number beyond any patience
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	return max(0, t.Sub(now()))
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
	case http.MethodPost: // a second upload session costs nothing
		return strings.HasSuffix(req.URL.Path, "/blobs/uploads/")
	}
	return false
}

// transient reports whether a connection failed in a way that often passes.
func transient(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// jitter spreads d over half to one and a half of it, so that many nodes that
// failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d)))
}
