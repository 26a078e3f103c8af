package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 16 << 10

// answerError turns an answer that is not the wanted one into a fault. It
// closes the body.
func answerError(op, object string, resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // whatever came is better than nothing
	resp.Body.Close()
	said := explain(body)
	if resp.Request != nil {
		said = withoutSecrets(said, resp.Request)
	}
	status := &statusError{code: resp.StatusCode, wish: resp.Header.Get("Retry-After"), said: said}
	return &fault{kind: statusKind(resp.StatusCode), op: op, object: object, err: status}
}

// statusError is an answer that is not the wanted one.
type statusError struct {
	code int
	wish string // Retry-After
	said string // on one line, without secrets
}

// Error is one line.
func (e *statusError) Error() string {
	text := fmt.Sprintf("%d %s", e.code, http.StatusText(e.code))
	if e.code == http.StatusProxyAuthRequired {
		text = "the proxy: " + text
	}
	if e.said != "" {
		text += ": " + e.said
	}
	if e.wish != "" {
		text += " (Retry-After: " + clip(sanitize(e.wish)) + ")"
	}
	return text
}

// statusKind is what a status code means for the caller.
func statusKind(code int) kind {
	switch {
	case code == http.StatusNotFound:
		return notFound
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return denied
	case code == http.StatusMethodNotAllowed, code == http.StatusUnsupportedMediaType:
		return unsupported
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusProxyAuthRequired, code >= 500:
		return unreachable
	}
	return other
}

// explain returns what the body of an error says, on one line: the codes and
// messages of distribution-spec, or else its beginning.
func explain(body []byte) string {
	var e struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if err := json.Unmarshal(body, &e); err != nil || len(e.Errors) == 0 {
		return sanitize(string(body))
	}
	var parts []string
	for _, d := range e.Errors {
		parts = append(parts, strings.Trim(d.Code+": "+d.Message, ": "))
	}
	return sanitize(strings.Join(parts, "; "))
}

// networkError turns the error of a request that got no answer into a fault.
// The URL, which may hold a signature or a session's state, is left out.
func networkError(ctx context.Context, op, object string, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return &fault{op: op, object: object, err: context.Cause(ctx)}
	}
	f := &fault{kind: unreachable, op: op, object: object}
	var (
		inner   *fault
		digest  *DigestError
		request *url.Error
	)
	switch {
	case errors.As(err, &digest):
		f.kind, f.err = other, digest
	case errors.As(err, &inner):
		f.kind, f.err = inner.kind, inner
	case errors.As(err, &request):
		f.err = scrubbed(request.Err)
	default:
		f.err = scrubbed(err)
	}
	return f
}

// scrubbed is err as it may be printed. It stays what it is where that is safe.
func scrubbed(err error) error {
	if text := scrub(err.Error()); text != err.Error() {
		return errors.New(sanitize(text))
	}
	return err
}
