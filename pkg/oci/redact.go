package oci

import (
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// trace logs every request with what may be known of it: never a header, and
// of its address never what grants something.
type trace struct {
	next http.RoundTripper
	log  *slog.Logger
	now  func() time.Time
}

// RoundTrip implements [http.RoundTripper].
func (t *trace) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.log.Enabled(req.Context(), slog.LevelDebug) {
		return t.next.RoundTrip(req)
	}
	start := t.now()
	resp, err := t.next.RoundTrip(req)
	at := []any{"method", req.Method, "url", safeURL(req.URL), "took", t.now().Sub(start)}
	if err != nil {
		t.log.Debug("request failed", append(at, "err", scrub(err.Error()))...)
		return nil, err
	}
	t.log.Debug("asked", append(at, "status", resp.StatusCode)...)
	return resp, nil
}

// plainKeys are the parts of a query that grant nothing.
var plainKeys = []string{"digest", "scope", "service", "mount", "from", "n", "last", "artifactType", "tag"}

// safeURL is u without what grants something to whoever reads it: credentials,
// the signature of a redirect, the state of an upload.
func safeURL(u *url.URL) string {
	s := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if before, session, found := strings.Cut(u.Path, "/blobs/uploads/"); found && session != "" {
		s.Path = before + "/blobs/uploads/REDACTED"
	}
	var query []string
	for key, values := range u.Query() {
		for _, v := range values {
			if !slices.Contains(plainKeys, key) {
				v = "REDACTED"
			}
			query = append(query, url.QueryEscape(key)+"="+v)
		}
	}
	slices.Sort(query)
	text := strings.TrimSuffix(s.String(), "?")
	if len(query) > 0 {
		text += "?" + strings.Join(query, "&")
	}
	return sanitize(text)
}

var (
	urlPattern    = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^\s"'<>]+`)
	secretPattern = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{20,}`)
	// statePattern is for what is left of a URL that is none, or is relative.
	statePattern = regexp.MustCompile(`(?i)([?&][a-z0-9_.-]*(?:state|token|signature|sig|credential|password|secret)[a-z0-9_.-]*=)[^\s&"'<>]+`)
)

// scrub blanks in a text from outside whatever grants something.
func scrub(s string) string {
	s = urlPattern.ReplaceAllStringFunc(s, func(text string) string {
		u, err := url.Parse(text)
		if err != nil {
			return "REDACTED"
		}
		return safeURL(u)
	})
	s = statePattern.ReplaceAllString(s, "${1}REDACTED")
	return secretPattern.ReplaceAllString(s, "$1 REDACTED")
}

// withoutSecrets blanks what the request has sent, should the answer repeat it.
func withoutSecrets(s string, req *http.Request) string {
	_, credential, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	secrets := []string{credential}
	if user, pass, ok := req.BasicAuth(); ok {
		secrets = append(secrets, pass, user+":"+pass)
	}
	for key, v := range req.URL.Query() {
		if !slices.Contains(plainKeys, key) {
			secrets = append(secrets, v...) // the state of a session, the signature of a URL
		}
	}
	for _, secret := range secrets {
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, "REDACTED")
		}
	}
	return scrub(s)
}
