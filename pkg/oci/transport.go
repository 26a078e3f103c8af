package oci

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// NewTransport returns the network as [Client] uses it: the proxy of the
// environment, 5 s to connect, 10 s for the TLS handshake, 60 s from the end
// of a request to the answer's header, no transparent decompression (a digest
// is of the bytes that were sent).
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    32, // as many as one destination uses at once
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}
}

// wire lies between the authentication of go-containerregistry and the
// network. It decides between http and https, makes requests again, and
// reopens a request's body each time it is sent.
type wire struct {
	next  http.RoundTripper
	agent string
	retry Retry
	plain func(host string) bool
	log   *slog.Logger
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.GetBody != nil {
		defer req.Body.Close() // every attempt has its own
	}
	scheme := "https"
	if w.plain(req.URL.Host) {
		scheme = "http"
	} else if req.URL.Scheme != "https" {
		return nil, &fault{kind: malformed, op: "ask", object: req.URL.Host, err: fmt.Errorf("refused to use %s: want https", req.URL.Scheme)}
	}
	for try := 1; ; try++ {
		resp, err := w.send(req, scheme)
		wait, again := w.retry.after(req, try, resp, err)
		if !again {
			return resp, err
		}
		w.log.Debug("request repeated", "method", req.Method, "host", req.URL.Host, "path", req.URL.Path, "try", try, "wait", wait)
		if resp != nil {
			drain(resp.Body)
		}
		if err := w.retry.wait(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// send makes one attempt. The request is cloned, since the caller's must stay
// as it is; an explicit scheme also answers go-containerregistry's question
// which one the registry speaks, without a failed handshake.
func (w *wire) send(req *http.Request, scheme string) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.URL.Scheme = scheme
	r.Header.Set("User-Agent", w.agent)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	return w.next.RoundTrip(r)
}

// drain reads what is left of a short answer, so that its connection can be
// used again, and closes it.
func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 64<<10) // an error here only costs the connection
	body.Close()
}

// redirectRule returns what an [http.Client] for the registry at host follows:
// few redirects, of reads only, never from another place into this machine.
// Credentials do not travel with them: go-containerregistry adds them only for
// the registry's own host and port.
func redirectRule(host string) func(*http.Request, []*http.Request) error {
	refuse := func(format string, args ...any) error {
		return &fault{kind: malformed, op: "follow redirect of", object: host, err: fmt.Errorf(format, args...)}
	}
	return func(req *http.Request, via []*http.Request) error {
		if first := via[0]; first.Method != http.MethodGet && first.Method != http.MethodHead {
			return refuse("a %s is not sent elsewhere", first.Method)
		}
		if len(via) >= 5 {
			return refuse("more than 5")
		}
		if req.URL.User != nil {
			return refuse("it holds credentials")
		}
		if !isLoopback(host) && isOwnMachine(req.URL.Host) {
			return refuse("%s is not a place for a registry to point at", req.URL.Hostname())
		}
		return nil
	}
}

// isOwnMachine reports whether host is loopback, link-local (where clouds keep
// their metadata service) or unspecified.
func isOwnMachine(host string) bool {
	if isLoopback(host) {
		return true
	}
	ip := net.ParseIP(hostname(host))
	return ip != nil && (ip.IsLinkLocalUnicast() || ip.IsUnspecified()) || strings.HasSuffix(hostname(host), ".localhost")
}
