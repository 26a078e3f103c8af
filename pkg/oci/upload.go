package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// putBlob implements [backend]. A blob goes up in two requests, "POST then
// PUT" of distribution-spec: one round trip less than a PATCH between them. An
// upload that breaks is begun anew, since nobody can say what arrived.
func (g *registry) putBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	for try := 1; ; try++ {
		resp, err := g.upload(ctx, d, open)
		if err == nil && (resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent) {
			drain(resp.Body)
			return nil
		}
		wait, again := g.wire.retry.pause(try, resp, err)
		again = again && try < g.wire.retry.tries() && ctx.Err() == nil
		if resp != nil {
			err = answerError("upload", g.object(d.Digest.String()), resp)
		}
		if !again {
			return err
		}
		g.wire.log.Debug("upload begun anew", "repo", g.name, "digest", d.Digest, "try", try, "wait", wait, "err", err)
		if err := g.wire.retry.wait(ctx, wait); err != nil {
			return networkError(ctx, "upload", g.object(d.Digest.String()), err)
		}
	}
}

// upload makes one attempt. The answer is that of the PUT.
func (g *registry) upload(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) (*http.Response, error) {
	to, err := g.startUpload(ctx, d)
	if err != nil {
		return nil, err
	}
	object := g.object(d.Digest.String())
	req, err := http.NewRequest(http.MethodPut, to.String(), nil)
	if err != nil {
		return nil, badContent("start upload of", object, "header Location: not a URL")
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	var source bodySource
	if d.Size > 0 { // wire opens the body when it sends the request, also a second time after a 401
		req.ContentLength = d.Size
		req.GetBody = func() (io.ReadCloser, error) { return source.open(open) }
	}
	resp, err := g.do(ctx, "upload", object, req)
	if broken := source.failure(); broken != nil {
		// Whatever the registry made of half a blob, this is the reason.
		if resp != nil {
			resp.Body.Close()
		}
		return nil, broken
	}
	return resp, err
}

// startUpload opens a session and returns where the blob is to be put.
func (g *registry) startUpload(ctx context.Context, d v1.Descriptor) (*url.URL, error) {
	const op = "start upload of"
	object := g.object(d.Digest.String())
	req, err := http.NewRequest(http.MethodPost, g.url("blobs", "uploads", "").String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := g.do(ctx, op, object, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return nil, answerError(op, object, resp)
	}
	drain(resp.Body)
	to, err := g.location(req.URL, resp.Header.Get("Location"))
	if err != nil {
		return nil, badContent(op, object, "%w", err)
	}
	if to.RawQuery != "" { // kept as it is: it is the registry's, and may be signed
		to.RawQuery += "&"
	}
	to.RawQuery += "digest=" + url.QueryEscape(d.Digest.String())
	return to, nil
}

// location resolves where a registry wants the bytes of a blob.
func (g *registry) location(base *url.URL, s string) (*url.URL, error) {
	if s == "" {
		return nil, fmt.Errorf("header Location: got none")
	}
	u, err := base.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("header Location: not a URL")
	case u.User != nil:
		return nil, fmt.Errorf("header Location: it holds credentials")
	case !isLoopback(base.Host) && isOwnMachine(u.Host):
		return nil, fmt.Errorf("header Location: %s is not a place for a registry to point at", u.Hostname())
	}
	u.Fragment = ""
	return u, nil
}

// bodySource opens the body of a request as often as it is sent, and keeps the
// first error that reading it gave: the HTTP client may report another one.
type bodySource struct {
	mu  sync.Mutex
	err error
}

func (s *bodySource) open(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	rc, err := open()
	if err != nil {
		s.fail(err)
		return nil, err
	}
	return &watchedBody{ReadCloser: rc, source: s}, nil
}

func (s *bodySource) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *bodySource) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watchedBody reports errors to its source, except those that come from its
// having been closed: that is how the HTTP client stops reading.
type watchedBody struct {
	io.ReadCloser
	source *bodySource
	closed atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.source.fail(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}
