package download

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Mismatch says that bytes arrived and are not the wanted ones.
type Mismatch struct {
	Object string // the name that the caller gave the file
	What   string // "sha256", "sha512" or "size"
	Got    string
	Want   string
}

// Error is one line.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s of %s: got %s, want %s", m.What, m.Object, m.Got, m.Want)
}

// NotFound reports whether err says that every server that was asked has
// answered, and none has the file.
func NotFound(err error) bool {
	if all, ok := errors.AsType[*failures](err); ok {
		for _, e := range all.errs {
			if !NotFound(e) {
				return false
			}
		}
		return true
	}
	s, ok := errors.AsType[*statusError](err)
	return ok && (s.code == http.StatusNotFound || s.code == http.StatusGone)
}

// Unreachable reports whether err says that some server could not be asked, so
// that nothing is known about the file: the connection failed or stalled, the
// server is overloaded or broken, or a page that is not the file came instead.
func Unreachable(err error) bool {
	if all, ok := errors.AsType[*failures](err); ok {
		for _, e := range all.errs {
			if Unreachable(e) {
				return true
			}
		}
		return false
	}
	_, ok := errors.AsType[*unreachable](err)
	return ok
}

// unreachable marks an error as [Unreachable].
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// localError is one of this machine, such as a full disk; no server can mend it.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// statusError is an answer that is not the file.
type statusError struct {
	url  string // redacted; the last one after redirects
	code int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: %d %s", e.url, e.code, strings.ToLower(http.StatusText(e.code)))
}

// failures holds what each of several URLs did.
type failures struct {
	what string
	errs []error
}

func (f *failures) Error() string {
	texts := make([]string, len(f.errs))
	for i, e := range f.errs {
		texts[i] = e.Error()
	}
	return f.what + ": " + strings.Join(texts, "; ")
}

func (f *failures) Unwrap() []error { return f.errs }

// Join makes one error of what each of several places did when asked for the
// same thing. Its kind follows from theirs: [NotFound] when all of them are,
// [Unreachable] when one of them is.
func Join(what string, errs []error) error { return &failures{what, errs} }

// parseURL parses an absolute http or https URL.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("parse URL: not a URL") // the cause would print it, with its password
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%s: got scheme %q, want http or https and a host", redact(u), u.Scheme)
	}
	return u, nil
}

// redact returns u without what may be a secret: the user and the query.
func redact(u *url.URL) string {
	r := *u
	r.User, r.Fragment = nil, ""
	if r.RawQuery != "" {
		r.RawQuery = "…"
	}
	return r.String()
}

// cause strips the URL that net/http puts in front of its errors, because it
// still holds the user name and the query.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
