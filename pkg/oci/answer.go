package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 16 << 10

// answerError turns an answer that is not the wanted one into a fault. It
// closes the body.
func answerError(op, object string, resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // whatever came is better than nothing
	resp.Body.Close()
	text := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	said := explain(body)
	if resp.Request != nil {
		said = withoutSecrets(said, resp.Request)
	}
	if said != "" {
		text += ": " + said
	}
	if wish := resp.Header.Get("Retry-After"); wish != "" {
		text += " (Retry-After: " + clip(sanitize(wish)) + ")"
	}
	return &fault{kind: statusKind(resp.StatusCode), op: op, object: object, err: errors.New(text)}
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
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
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

// withoutSecrets blanks what the request has sent, should the answer repeat it.
func withoutSecrets(s string, req *http.Request) string {
	_, credential, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	secrets := []string{credential}
	if user, pass, ok := req.BasicAuth(); ok {
		secrets = append(secrets, pass, user+":"+pass)
	}
	for key, v := range req.URL.Query() {
		if key != "digest" && key != "scope" && key != "service" {
			secrets = append(secrets, v...) // the state of a session, the signature of a URL
		}
	}
	for _, secret := range secrets {
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, "REDACTED")
		}
	}
	return s
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
		answer  *transport.Error
		request *url.Error
		network net.Error
	)
	switch {
	case errors.As(err, &digest):
		f.kind, f.err = other, digest
	case errors.As(err, &inner):
		f.kind, f.err = inner.kind, inner.err
	case errors.As(err, &answer): // the handshake: ping or token
		f.kind, f.err = statusKind(answer.StatusCode), errors.New(handshakeText(answer))
		if f.kind == notFound { // no /v2/ there: this is no registry, not a missing manifest
			f.kind = unreachable
		}
	case errors.As(err, &request):
		f.err = request.Err
	case errors.As(err, &network), transient(err), errors.Is(err, context.DeadlineExceeded):
		f.err = err
	default: // the registry was reached, and its handshake made no sense
		f.kind, f.err = malformed, errors.New(sanitize(err.Error()))
	}
	return f
}

// handshakeText says what the registry or its token server answered.
func handshakeText(e *transport.Error) string {
	text := fmt.Sprintf("authenticate: %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	for _, d := range e.Errors {
		said := string(d.Code) + ": " + d.Message
		if e.Request != nil {
			said = withoutSecrets(said, e.Request)
		}
		text += ": " + sanitize(said)
	}
	return text
}
