package download

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxRedirects = 5
	firstPause   = 500 * time.Millisecond
	// maxPause caps the pause between two tries, also when Retry-After asks for more.
	maxPause    = 30 * time.Second
	dialTimeout = 10 * time.Second
	// maxAddresses is how many addresses of a delivery network are asked for a
	// file that the first one does not have.
	maxAddresses = 3
)

// send sends a request under the redirect rules and returns an answer whose
// status is one that a caller can use: 200, or 206 and 416 where a range was asked for.
func (c *Client) send(ctx context.Context, req *http.Request, w *watchdog) (*http.Response, error) {
	if c.Offline {
		return nil, &unreachable{fmt.Errorf("%s: offline", redact(req.URL))}
	}
	// Without this the transport would ask for gzip and unpack it behind our
	// back, and lengths and ranges would be those of other bytes.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "imgctl")
	resp, err := c.client().Do(req)
	if err != nil {
		if refused, ok := errors.AsType[*redirectError](err); ok {
			return nil, fmt.Errorf("%s: %w", redact(req.URL), refused)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &unreachable{fmt.Errorf("%s: %w", redact(req.URL), w.cause(ctx, cause(err)))}
	}
	ranged := req.Header.Get("Range") != ""
	switch code := resp.StatusCode; {
	case code == http.StatusOK,
		ranged && (code == http.StatusPartialContent || code == http.StatusRequestedRangeNotSatisfiable):
		return resp, nil
	default:
		resp.Body.Close()
		return nil, c.refused(req, resp)
	}
}

// refused makes the error for a status that is not the file.
func (c *Client) refused(req *http.Request, resp *http.Response) error {
	e := &statusError{url: redact(resp.Request.URL), code: resp.StatusCode}
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		if resp.Request.URL.Host != req.URL.Host {
			return &deliveryError{e}
		}
		return e
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code == http.StatusTooEarly || code >= 500:
		return &unreachable{&busyError{e, c.retryAfter(resp.Header.Get("Retry-After"))}}
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusProxyAuthRequired:
		return &unreachable{e} // nothing is known about the file
	}
	return e
}

// busyError is a status that may be another one later.
type busyError struct {
	*statusError
	after time.Duration // 0: the server did not say
}

func (e *busyError) Unwrap() error { return e.statusError }

// deliveryError is a 404 from a host that we were redirected to: one edge of a
// delivery network may lack what the others have.
type deliveryError struct{ *statusError }

func (e *deliveryError) Error() string { return e.statusError.Error() + " (redirected there)" }
func (e *deliveryError) Unwrap() error { return e.statusError }

// retryAfter reads both forms of the header; 0 for none, or one that makes no sense.
func (c *Client) retryAfter(v string) time.Duration {
	if n, ok := digits(v); ok {
		return min(time.Duration(min(n, 1<<20))*time.Second, maxPause)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	return min(max(at.Sub(now()), 0), maxPause)
}

// verdict says what to do after a failed request.
type verdict struct {
	retry   bool
	address bool // ask another address of the host
}

// again decides whether a request may be repeated and after which pause. idle is
// how many in a row have brought nothing.
func (c *Client) again(ctx context.Context, err error, idle int) (time.Duration, verdict) {
	if ctx.Err() != nil {
		return 0, verdict{}
	}
	if _, ok := errors.AsType[*deliveryError](err); ok {
		c.client().CloseIdleConnections() // else the same address would answer
		return 0, verdict{retry: idle < maxAddresses, address: true}
	}
	pause := min(firstPause<<max(idle-1, 0), maxPause)
	if busy, ok := errors.AsType[*busyError](err); ok {
		return max(pause, busy.after), verdict{retry: true, address: true}
	}
	if _, ok := errors.AsType[*statusError](err); ok {
		return 0, verdict{} // any other status is an answer
	}
	_, ok := errors.AsType[*unreachable](err)
	return pause, verdict{retry: ok && !c.Offline, address: true}
}

// wait pauses for d or until ctx ends.
func (c *Client) wait(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// client returns the HTTP client with our redirect rules.
func (c *Client) client() *http.Client {
	c.once.Do(func() {
		h := http.Client{}
		if c.HTTP != nil {
			h = *c.HTTP
		} else {
			h.Transport = c.transport()
		}
		h.CheckRedirect = checkRedirect
		h.Timeout = 0 // a large file takes its time; the watchdog ends what stands still
		c.http = &h
	})
	return c.http
}

// redirectError is a redirect that is not followed.
type redirectError struct{ msg string }

func (e *redirectError) Error() string { return e.msg }

// checkRedirect follows a few redirects, and none that leaves https, HTTP or the
// public network: a server must not send us to this machine or to the address
// that clouds serve their credentials on.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first, to := via[0].URL, redact(req.URL)
	if len(via) > maxRedirects {
		return &redirectError{fmt.Sprintf("redirected more than %d times, last to %s", maxRedirects, to)}
	}
	switch {
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return &redirectError{fmt.Sprintf("redirected to %s: got scheme %q, want https", to, req.URL.Scheme)}
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme == "http":
		return &redirectError{"redirected from https to " + to}
	case linkLocal(req.URL):
		return &redirectError{"redirected to the link-local address " + to}
	case loopback(req.URL) && !loopback(first):
		return &redirectError{"redirected to this machine, " + to}
	}
	return nil
}

func linkLocal(u *url.URL) bool {
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return false
	}
	a = a.Unmap()
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast()
}

func loopback(u *url.URL) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.Unmap().IsLoopback() || a.IsUnspecified())
}

// transport is Go's default one, with a dialer that a name cannot lead to a
// link-local address, and that can pick another address of a host.
func (c *Client) transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	d := &net.Dialer{Timeout: dialTimeout, Control: refuseLinkLocal}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nth, _ := ctx.Value(addressKey{}).(int)
		if nth == 0 && c.Lookup == nil {
			return d.DialContext(ctx, network, addr) // tries all addresses that do not answer at all
		}
		return d.DialContext(ctx, network, c.otherAddress(ctx, addr, nth))
	}
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().Unmap().IsLinkLocalUnicast() {
		return &redirectError{"refused to connect to the link-local address " + address}
	}
	return nil
}

// addressKey is the context key for which of a host's addresses to dial.
type addressKey struct{}

func dialAddress(ctx context.Context, nth int) context.Context {
	return context.WithValue(ctx, addressKey{}, nth)
}

// otherAddress returns the nth address of the host in addr, counted round, or
// addr itself when the host has only one or cannot be resolved here.
func (c *Client) otherAddress(ctx context.Context, addr string, nth int) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return addr
	}
	lookup := net.DefaultResolver.LookupHost
	if c.Lookup != nil {
		lookup = c.Lookup
	}
	ips, err := lookup(ctx, host)
	if err != nil || len(ips) == 0 {
		return addr
	}
	return net.JoinHostPort(ips[nth%len(ips)], port)
}

// rangeFrom is the value of a Range header for all bytes from offset on.
func rangeFrom(offset int64) string { return "bytes=" + strconv.FormatInt(offset, 10) + "-" }
