package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// NewTransport returns the network as [Client] uses it: the proxy of the
// environment, 5 s to connect, 10 s for the TLS handshake, no transparent
// decompression (a digest is of the bytes that were sent). How long it may be
// silent afterwards is for [Timeouts] to say.
func NewTransport() *http.Transport { return newTransport(defaultConnect) }

func newTransport(connect time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: proxyAnswer,
		DialContext:            dialer(&net.Dialer{Timeout: connect, KeepAlive: 15 * time.Second}),
		TLSHandshakeTimeout:    2 * connect,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    32, // as many as one destination uses at once
		IdleConnTimeout:        90 * time.Second,
	}
}

// proxyAnswer names the proxy of the environment as the one who refuses.
func proxyAnswer(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text := fmt.Sprintf("proxy %s: %d %s", proxy.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
	return &fault{kind: unreachable, op: "connect through", object: "proxy", err: errors.New(text)}
}

// wire is the network as all registries of a [Client] share it: one stack of
// layers, each a [http.RoundTripper] of one concern. From the outside in:
//
//	wire     http or https, who we are
//	breaker  a host that does not answer is not asked again for a while
//	repeat   what may pass is tried again ([Retry])
//	pace     a host is not asked more often than it wants
//	trace    the log, without secrets
//	watch    a silent connection is cut ([Timeouts])
//
// Every try takes its turn at pace, since a registry counts them all, and
// breaker counts a request once, after its last try.
type wire struct {
	next   http.RoundTripper
	once   http.RoundTripper // from trace on
	agent  string
	retry  Retry
	plain  func(host string) bool
	log    *slog.Logger
	hosts  *hosts
	tokens *tokens
	realms realms
}

func (c *Client) newWire() *wire {
	w := &wire{agent: c.UserAgent, retry: c.Retry, plain: c.Plain, log: c.log(), hosts: newHosts(c.Rate), tokens: newTokens(c.Retry.now)}
	w.realms = realms{plain: c.Plain, listed: c.TokenServers}
	if w.agent == "" {
		w.agent = DefaultUserAgent
	}
	network := c.Transport
	if network == nil {
		network = newTransport(c.Timeouts.connect())
	}
	w.next = &watch{next: network, timeouts: c.Timeouts}
	w.next = &trace{next: w.next, log: w.log, now: c.Retry.now}
	w.once = w.next
	w.next = &pace{next: w.next, hosts: w.hosts, retry: c.Retry}
	w.next = &repeat{next: w.next, hosts: w.hosts, retry: c.Retry, log: w.log}
	w.next = &breaker{next: w.next, hosts: w.hosts, now: c.Retry.now}
	return w
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !w.plain(req.URL.Host) {
		if req.Body != nil {
			req.Body.Close() // as the contract of RoundTripper wants; nothing was read
		}
		return nil, &fault{kind: malformed, op: "ask", object: req.URL.Host, err: fmt.Errorf("refused to use %s: want https", req.URL.Scheme)}
	}
	r := req.Clone(req.Context()) // the caller's stays as it is
	if r.URL.Scheme != "https" {
		r.URL.Scheme = w.scheme(req.URL.Host)
	}
	r.Header.Set("User-Agent", w.agent)
	resp, err := w.next.RoundTrip(r)
	if err != nil || r.URL.Scheme == "https" || !w.wantsTLS(r, resp) || !repeatable(r) {
		return resp, err
	}
	drain(resp.Body)
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	r.URL.Scheme = "https"
	return w.next.RoundTrip(r)
}

// scheme is how the host is spoken to.
func (w *wire) scheme(host string) string {
	if w.plain(host) && !w.hosts.at(host).https() {
		return "http"
	}
	return "https"
}

// drain reads what is left of a short answer, so that its connection can be
// used again, and closes it.
func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 64<<10) // an error here only costs the connection
	body.Close()
}
