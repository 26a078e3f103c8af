package oci

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// cooldown is for how long a host that could not be asked is left alone.
const cooldown = 30 * time.Second

// hosts is what a client has learned about the hosts it asks.
type hosts struct {
	rate float64 // requests per second to each; 0: as many as they take

	mu sync.Mutex
	by map[string]*host
}

func newHosts(perSecond float64) *hosts { return &hosts{rate: perSecond, by: make(map[string]*host)} }

// host is one of them. Its parts belong to wire, breaker and pace.
type host struct {
	mu      sync.Mutex
	answers int       // that came, good or bad
	down    error     // why it is left alone; nil: it is not
	until   time.Time // when somebody may look again
	speaks  string    // "http" or "https", once that is known of one that may be asked without TLS

	limiter *rate.Limiter
	held    time.Time // no request before
	quota   Quota
}

// at returns what is known about the host[:port].
func (h *hosts) at(name string) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.by[name]
	if !ok {
		limit := rate.Inf
		if h.rate > 0 {
			limit = rate.Limit(h.rate)
		}
		s = &host{limiter: rate.NewLimiter(limit, max(1, int(h.rate)))}
		h.by[name] = s
	}
	return s
}

func (s *host) hasAnswered() bool { return s.count() > 0 }

func (s *host) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers
}

// breaker lets a host that is dead cost its time-outs once: requests that
// follow fail at once, with the same reason, until a while later one of them
// is let through to look again.
//
// An answer of any status shows that the host is alive. What ends all tries of
// a request without one, and without one to another request meanwhile, shows
// that it is not; the one try of an upload shows nothing.
type breaker struct {
	next  http.RoundTripper
	hosts *hosts
	now   func() time.Time
}

// RoundTrip implements [http.RoundTripper].
func (b *breaker) RoundTrip(req *http.Request) (*http.Response, error) {
	h := b.hosts.at(req.URL.Host)
	before, err := h.enter(b.now())
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // nothing was read
		}
		return nil, err
	}
	resp, err := b.next.RoundTrip(req)
	if err == nil || repeatable(req) && isOutage(req.Context(), err) {
		h.leave(before, b.now(), err)
	}
	return resp, err
}

// enter returns the number of answers so far, or why the host is not asked.
func (s *host) enter(now time.Time) (answers int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil && now.Before(s.until) {
		return 0, &downError{s.down}
	}
	if s.down != nil {
		s.until = now.Add(cooldown) // this one request looks whether it still is
	}
	return s.answers, nil
}

// leave says how a request ended that entered when there were so many answers.
func (s *host) leave(before int, now time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.down = nil
	case s.answers == before:
		s.down, s.until = err, now.Add(cooldown)
	}
}

// downError is what a request fails with that was not made.
type downError struct{ cause error }

func (e *downError) Error() string { return "not asked again after: " + e.cause.Error() }
func (e *downError) Unwrap() error { return e.cause }

// isOutage reports whether err says that there is nobody at a host. A connection
// that was made and then cut does not; nor does what we refuse or give up, or
// content of ours that is not as it should be.
func isOutage(ctx context.Context, err error) bool {
	var (
		refused *fault
		content *DigestError
		before  *downError
	)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ctx.Err() == nil
	}
	return ctx.Err() == nil && !transient(err) && !errors.As(err, &refused) && !errors.As(err, &content) && !errors.As(err, &before)
}
