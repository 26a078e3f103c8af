package oci

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/time/rate"
)

// longestWindow is for how long a rate limit can be kept by asking more
// slowly. One of six hours cannot: whoever hits it has to do something else.
const longestWindow = time.Minute

// Quota is what a registry last said about its rate limit.
type Quota struct {
	Limit, Remaining int64         // requests, or whatever the registry counts
	Window           time.Duration // 0: not said
}

// Quota returns the rate limit that the registry at host ("docker.io", also
// with a port) has announced since the client was made; false: none.
func (c *Client) Quota(host string) (Quota, bool) {
	c.mu.Lock()
	w := c.network
	c.mu.Unlock()
	if w == nil {
		return Quota{}, false
	}
	if host == dockerHub {
		host = name.DefaultRegistry
	}
	h := w.hosts.at(host)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.quota, h.quota != Quota{}
}

// pace keeps to the rate that a host wants to be asked at: the one that is
// configured, the one that its ratelimit headers announce, and none at all as
// long as a 429 asks for.
type pace struct {
	next  http.RoundTripper
	hosts *hosts
	retry Retry
}

// RoundTrip implements [http.RoundTripper].
func (p *pace) RoundTrip(req *http.Request) (*http.Response, error) {
	h := p.hosts.at(req.URL.Host)
	if d := h.delay(p.retry.now()); d > 0 {
		if err := p.retry.wait(req.Context(), min(d, p.retry.longest())); err != nil {
			return nil, err
		}
	}
	resp, err := p.next.RoundTrip(req)
	if err == nil {
		h.learn(p.retry, resp)
	}
	return resp, err
}

// delay takes a turn and returns how long it is until then.
func (s *host) delay(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.limiter.ReserveN(now, 1).DelayFrom(now), s.held.Sub(now))
}

// learn takes from an answer how fast the host wants to be asked.
func (s *host) learn(r Retry, resp *http.Response) {
	now := r.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	if resp.StatusCode == http.StatusTooManyRequests {
		s.held = now.Add(r.retryAfter(resp.Header.Get("Retry-After")))
	}
	q, ok := parseQuota(resp.Header)
	if !ok {
		return
	}
	s.quota = q
	if q.Window <= 0 || q.Window > longestWindow {
		return
	}
	if every := rate.Limit(float64(q.Limit) / q.Window.Seconds()); every < s.limiter.Limit() {
		s.limiter.SetLimitAt(now, every)
	}
	s.limiter.SetBurstAt(now, int(max(1, min(q.Remaining, 1000))))
}

// parseQuota reads the headers ratelimit-limit, -remaining and -reset as Docker
// Hub ("100;w=21600") and the drafts of IETF's httpapi group write them.
func parseQuota(h http.Header) (Quota, bool) {
	limit, window, ok := parseLimit(h.Get("Ratelimit-Limit"))
	if !ok || limit == 0 {
		return Quota{}, false
	}
	remaining, w, ok := parseLimit(h.Get("Ratelimit-Remaining"))
	if !ok {
		return Quota{}, false
	}
	if window == 0 {
		window = w
	}
	if reset, _, ok := parseLimit(h.Get("Ratelimit-Reset")); ok && window == 0 {
		window = time.Duration(reset) * time.Second
	}
	return Quota{Limit: limit, Remaining: min(remaining, limit), Window: window}, true
}

// parseLimit reads "100", "100;w=21600" or "10, 10;w=1;burst=1000": a number,
// and the first window that is named.
func parseLimit(s string) (n int64, window time.Duration, ok bool) {
	first, _, _ := strings.Cut(s, ",")
	number, _, _ := strings.Cut(first, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
	if err != nil || n < 0 {
		return 0, 0, false
	}
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' }) {
		if v, found := strings.CutPrefix(strings.TrimSpace(part), "w="); found {
			if w, err := strconv.ParseInt(v, 10, 32); err == nil && w > 0 {
				return n, time.Duration(w) * time.Second, true
			}
		}
	}
	return n, 0, true
}
