package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// Outage is the shape in which a repository could not be asked. It is for
// people: what they do next depends on it, and what imgctl decides does not.
type Outage string

// The shapes. All of them say nothing about what the repository holds.
const (
	OutageDNS       Outage = "dns"        // its name does not resolve
	OutageRefused   Outage = "refused"    // nobody listens there
	OutageBlackHole Outage = "black-hole" // no connection comes about
	OutageTLS       Outage = "tls"        // no connection to be trusted comes about
	OutageStall     Outage = "stall"      // connected, and then nothing, or too slow
	OutageCut       Outage = "cut"        // the connection breaks
	OutageDenied    Outage = "denied"     // 401 or 403, to whom should be let in
	OutageRateLimit Outage = "rate-limit" // 429: not now
	OutageServer    Outage = "server"     // 5xx
	OutageBlobs     Outage = "blobs"      // it answers, and only what it stores does not come
	OutageUnread    Outage = "unreadable" // a directory that cannot be read
	OutageOther     Outage = "other"
)

// OutageOf returns the shape of err, for which [Unreachable] or [Denied] holds,
// or which is a deadline; "" when err is none of these.
func OutageOf(err error) Outage {
	var status *statusError
	switch {
	case err == nil, !Unreachable(err) && !Denied(err) && !isTimeout(err):
		return ""
	case errors.As(err, &status) && status.code == http.StatusTooManyRequests:
		return OutageRateLimit
	case ofBlob(err):
		return OutageBlobs
	case Denied(err):
		return OutageDenied
	case errors.As(err, &status):
		return OutageServer
	}
	return networkOutage(err)
}

// ofBlob reports whether err is about reading a blob: a manifest has named it, so
// that somebody has answered before.
func ofBlob(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.op == opBlob
}

// networkOutage is [OutageOf] for a request that got no answer.
func networkOutage(err error) Outage {
	var (
		lookup *net.DNSError
		dial   *net.OpError
		f      *fault
	)
	switch {
	case errors.As(err, &lookup):
		return OutageDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return OutageRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout():
		return OutageBlackHole
	case isTLS(err):
		return OutageTLS
	case isTimeout(err):
		return OutageStall
	case transient(err):
		return OutageCut
	case errors.As(err, &f) && strings.HasPrefix(f.object, layoutPrefix):
		return OutageUnread
	}
	return OutageOther
}

// isTimeout reports whether somebody took too long. A stall is one by its type;
// a deadline of the caller may come with a cause of his own.
func isTimeout(err error) bool {
	var (
		stall   *stallError
		overall *overallError
		slow    net.Error
	)
	return errors.As(err, &stall) || errors.As(err, &overall) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout()
}

// isTLS reports whether the other side could not be trusted, or speaks no TLS.
func isTLS(err error) bool {
	var (
		untrusted *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		remote    *net.OpError
		unknown   x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &untrusted) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &remote) && remote.Op == "remote error" ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") // net/http gives it no type
}
