package oci

import (
	"crypto/tls"
	"errors"
	"net/http"
)

// Most registries on loopback do without TLS, and so one is asked in plain HTTP.
// To that, one with TLS answers 400: Go's server does, and nginx. It is then asked
// with TLS, from this request on.

// https reports whether a host that may be asked without TLS is known to want it.
func (s *host) https() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.speaks == "https"
}

// wantsTLS learns from the answer to a request in plain HTTP how its host is to be
// spoken to. Only a host on loopback is asked with TLS to find out: of another the
// user has said that it has none.
func (w *wire) wantsTLS(req *http.Request, resp *http.Response) bool {
	h := w.hosts.at(req.URL.Host)
	h.mu.Lock()
	known := h.speaks
	h.mu.Unlock()
	if known == "" {
		known = "http"
		if resp.StatusCode == http.StatusBadRequest && isLoopback(req.URL.Host) && w.speaksTLS(req) {
			known = "https"
		}
		h.mu.Lock()
		h.speaks = known
		h.mu.Unlock()
	}
	return known == "https"
}

// speaksTLS asks the host of req for its version with TLS, once and as nobody. A
// certificate that is not to be trusted is one all the same: the request itself is
// to fail because of it.
func (w *wire) speaksTLS(req *http.Request) bool {
	probe, err := http.NewRequestWithContext(req.Context(), http.MethodGet, "https://"+req.URL.Host+"/v2/", nil)
	if err != nil {
		return false
	}
	probe.Header.Set("User-Agent", w.agent)
	resp, err := w.once.RoundTrip(probe)
	if err != nil {
		var untrusted *tls.CertificateVerificationError
		return errors.As(err, &untrusted)
	}
	drain(resp.Body)
	return true
}
