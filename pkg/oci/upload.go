package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	opStart  = "start upload of"
	opUpload = "upload"
)

// putBlob implements [backend]. A blob goes up in two requests, "POST then
// PUT" of distribution-spec: one round trip less than a PATCH between them.
// When that breaks, the session is asked how much has arrived, and gets the rest.
func (g *registry) putBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	ctx, cancel := g.begin(ctx)
	defer cancel()
	u := &upload{g: g, desc: d, open: open, object: g.object(d.Digest.String())}
	for try := 1; ; try++ {
		before := u.at
		err := u.attempt(ctx)
		if err == nil {
			return nil
		}
		if u.at-before >= worthwhile { // it gets on
			try = 1
		}
		if u.rejected && try < g.wire.retry.tries() { // nobody is overloaded: there is nothing to wait for
			u.rejected = false
			continue
		}
		if err := g.again(ctx, opUpload, u.object, try, err); err != nil {
			return err
		}
	}
}

// upload is a blob on its way.
type upload struct {
	g      *registry
	desc   v1.Descriptor
	open   func() (io.ReadCloser, error)
	object string

	session  *url.URL // nil: there is none
	at       int64    // bytes that the session has, as far as we know
	rejected bool     // the registry does not know the session, or not so
}

// attempt does what is left to do.
func (u *upload) attempt(ctx context.Context) error {
	if u.session != nil {
		if done, err := u.locate(ctx); done || err != nil {
			return err
		}
	}
	if u.session == nil {
		if err := u.start(ctx); err != nil {
			return err
		}
	}
	if u.at == 0 {
		return u.finish(ctx, u.desc.Size)
	}
	if u.at < u.desc.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.finish(ctx, 0)
}

// start opens a session.
func (u *upload) start(ctx context.Context) error {
	req, err := http.NewRequest(http.MethodPost, u.g.url("blobs", "uploads", "").String(), nil)
	if err != nil {
		return err
	}
	resp, err := u.g.do(ctx, opStart, u.object, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		return answerError(opStart, u.object, resp)
	}
	drain(resp.Body)
	u.at = 0
	return u.moved(req.URL, resp, true)
}

// moved takes the session's address from an answer. It changes with every
// answer of registries that keep the state of a session in there.
func (u *upload) moved(base *url.URL, resp *http.Response, must bool) error {
	s := resp.Header.Get("Location")
	if s == "" && !must {
		return nil
	}
	to, err := u.g.location(base, s)
	if err != nil {
		return badContent(opStart, u.object, "%w", err)
	}
	u.session = to
	return nil
}

// locate asks the session how far it has come. It may be that it is done, or
// that the registry has forgotten it.
func (u *upload) locate(ctx context.Context) (done bool, err error) {
	if u.desc.Size <= smallBlob {
		u.session = nil // to ask costs as much as to begin anew
		return u.g.hasBlob(ctx, u.desc)
	}
	req, err := http.NewRequest(http.MethodGet, u.session.String(), nil)
	if err != nil {
		return false, badContent(opUpload, u.object, "header Location: not a URL")
	}
	resp, err := u.g.do(ctx, opUpload, u.object, req)
	if err != nil {
		return false, err
	}
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return false, answerError(opUpload, u.object, resp)
	}
	drain(resp.Body)
	at, ok := parseUploadRange(resp.Header.Get("Range"))
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK || !ok || at > u.desc.Size {
		u.session = nil // unknown, or not where it could be: perhaps because it is done
		return u.g.hasBlob(ctx, u.desc)
	}
	u.at = at
	return false, u.moved(u.session, resp, false)
}

// patch sends what the session does not have yet.
func (u *upload) patch(ctx context.Context) error {
	resp, err := u.send(ctx, http.MethodPatch, u.session, u.at, u.desc.Size-u.at)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusCreated {
		return u.refused(resp)
	}
	drain(resp.Body)
	u.at = u.desc.Size
	return u.moved(u.session, resp, false)
}

// finish closes the session with the last bytes, all or none.
func (u *upload) finish(ctx context.Context, bytes int64) error {
	to := *u.session
	if to.RawQuery != "" { // kept as it is: it is the registry's, and may be signed
		to.RawQuery += "&"
	}
	to.RawQuery += "digest=" + url.QueryEscape(u.desc.Digest.String())
	resp, err := u.send(ctx, http.MethodPut, &to, 0, bytes)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK, http.StatusNoContent:
		drain(resp.Body)
		return nil
	}
	return u.refused(resp)
}

// refused gives up a session that the registry no longer knows. One that is
// elsewhere than we thought is asked where.
func (u *upload) refused(resp *http.Response) error {
	at, known := parseUploadRange(resp.Header.Get("Range"))
	err := answerError(opUpload, u.object, resp)
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		u.rejected = true
		if !known || at == u.at {
			u.session = nil
		}
	case resp.StatusCode == http.StatusNotFound, strings.Contains(err.Error(), "BLOB_UPLOAD_UNKNOWN"):
		u.rejected, u.session = true, nil
	}
	return err
}

// send sends size bytes of the blob from first on.
func (u *upload) send(ctx context.Context, method string, to *url.URL, first, size int64) (*http.Response, error) {
	req, err := http.NewRequest(method, to.String(), nil)
	if err != nil {
		return nil, badContent(opUpload, u.object, "header Location: not a URL")
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", first, first+size-1))
	}
	source := bodySource{open: u.open, skip: first}
	if size > 0 { // opened when the request is sent, also a second time after a 401
		req.ContentLength = size
		req.GetBody = source.body
	}
	resp, err := u.g.do(ctx, opUpload, u.object, req)
	if broken := source.failure(); broken != nil {
		// Whatever the registry made of half a blob, this is the reason.
		if resp != nil {
			resp.Body.Close()
		}
		return nil, broken
	}
	return resp, err
}

// location resolves where a registry wants the bytes of a blob.
func (g *registry) location(base *url.URL, s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("header Location: got none")
	}
	u, err := base.Parse(s)
	if err != nil {
		return nil, errors.New("header Location: not a URL")
	}
	if u.User != nil {
		return nil, errors.New("header Location: it holds credentials")
	}
	if err := misplaced(base.Host, u.Host); err != nil {
		return nil, fmt.Errorf("header Location: %w", err)
	}
	u.Fragment = ""
	return u, nil
}

// parseUploadRange returns how many bytes a session has: "0-99" is a hundred,
// and so is Quay's "bytes=0-99". Its "bytes=0--1" is none, and so is the "0-0"
// of CNCF distribution, which cannot say one.
func parseUploadRange(s string) (n int64, ok bool) {
	last, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimSpace(s), "bytes="), "0-")
	if !ok {
		return 0, false
	}
	if last == "-1" || last == "0" {
		return 0, true
	}
	if last == "" || strings.Trim(last, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil || n >= maxBlob {
		return 0, false
	}
	return n + 1, true
}
