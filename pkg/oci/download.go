package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// document makes a request whose answer is one JSON document of at most
// [MaxManifest] bytes. Of an answer other than 200 the body is left to the
// caller. A body that is cut is asked for again, whole: it may belong to a tag
// that has moved.
func (g *registry) document(ctx context.Context, op, object string, req *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := g.begin(ctx)
	defer cancel()
	for try := 1; ; try++ {
		resp, err := g.do(ctx, op, object, req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return resp, nil, nil
		}
		body, err := readDocument(op, object, resp)
		if err == nil {
			return resp, body, nil
		}
		if err := g.again(ctx, op, object, try, err); err != nil {
			return nil, nil, err
		}
	}
}

// again waits before the next try of an operation, or returns why there is none.
func (g *registry) again(ctx context.Context, op, object string, try int, err error) error {
	wait, again := g.wire.retry.pause(try, true, err)
	if !again || ctx.Err() != nil || !g.wire.retry.afford(ctx, wait) {
		return err
	}
	g.wire.log.Debug("operation goes on", "op", op, "object", object, "try", try, "wait", wait, "err", scrub(err.Error()))
	if err := g.wire.retry.wait(ctx, wait); err != nil {
		return networkError(ctx, op, object, err)
	}
	return nil
}

// readDocument reads an answer of at most [MaxManifest] bytes and closes it.
func readDocument(op, object string, resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > MaxManifest {
		return nil, badContent(op, object, "got %d bytes, want at most %d", resp.ContentLength, MaxManifest)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxManifest {
		return nil, badContent(op, object, "got more than %d bytes", MaxManifest)
	}
	return body, nil
}

// blob implements [backend].
func (g *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	ctx, cancel := g.begin(ctx)
	b := &download{g: g, ctx: ctx, cancel: cancel, desc: d}
	if err := b.open(); err != nil {
		cancel()
		return nil, err
	}
	return b, nil
}

const (
	opBlob = "get blob"
	// worthwhile is how many bytes make a try that broke a success after all.
	worthwhile = 64 << 10
)

// download reads a blob. When its connection breaks it goes on with what is
// missing. Size and digest are checked by who reads it, over the whole, so it
// does not matter how many answers, and whose, the bytes came in.
type download struct {
	g      *registry
	ctx    context.Context
	cancel context.CancelFunc
	desc   v1.Descriptor
	body   io.ReadCloser
	at     int64 // next byte
	skip   int64 // bytes that come again
	came   int64 // bytes since the last failure
	try    int   // failures after which little came
}

// open asks for the blob from b.at on.
func (b *download) open() error {
	object := b.g.object(b.desc.Digest.String())
	req, err := http.NewRequest(http.MethodGet, b.g.url("blobs", b.desc.Digest.String()).String(), nil)
	if err != nil {
		return err
	}
	if b.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
	}
	resp, err := b.g.do(b.ctx, opBlob, object, req)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		b.body, b.skip = resp.Body, b.at
		return nil
	case resp.StatusCode == http.StatusPartialContent && b.at > 0:
		if got := resp.Header.Get("Content-Range"); !startsAt(got, b.at, b.desc.Size) {
			resp.Body.Close()
			return badContent(opBlob, object, "Content-Range: got %q, want bytes %d-%d/%d", clip(sanitize(got)), b.at, b.desc.Size-1, b.desc.Size)
		}
		b.body = resp.Body
		return nil
	}
	return answerError(opBlob, object, resp)
}

// Read implements [io.Reader].
func (b *download) Read(p []byte) (int, error) {
	for {
		n, err := b.read(p)
		if n > 0 {
			b.at += int64(n)
			if b.came += int64(n); b.came >= worthwhile {
				b.try = 0
			}
		}
		switch {
		case err == nil, err == io.EOF:
			return n, err
		case b.at == b.desc.Size: // nothing is missing
			return n, io.EOF
		}
		b.body.Close()
		b.try++
		b.came = 0
		object := b.g.object(b.desc.Digest.String())
		if err := b.g.again(b.ctx, opBlob, object, b.try, err); err != nil {
			return n, err
		}
		if err := b.open(); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// read passes over what has been read already, where the registry sends the
// blob from its first byte, and reads on.
func (b *download) read(p []byte) (int, error) {
	for b.skip > 0 {
		n, err := b.body.Read(p[:min(int64(len(p)), b.skip)])
		b.skip -= int64(n)
		if err == io.EOF && b.skip > 0 {
			return 0, badContent(opBlob, b.g.object(b.desc.Digest.String()), "got fewer bytes than before")
		}
		if err != nil {
			return 0, err
		}
	}
	return b.body.Read(p)
}

// Close implements [io.Closer].
func (b *download) Close() error {
	defer b.cancel()
	return b.body.Close()
}

var contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)

// startsAt reports whether a Content-Range is that of all bytes of size from at on.
func startsAt(header string, at, size int64) bool {
	m := contentRange.FindStringSubmatch(header)
	if m == nil {
		return false
	}
	first, _ := strconv.ParseInt(m[1], 10, 64) // the pattern has seen to it that these are numbers
	last, _ := strconv.ParseInt(m[2], 10, 64)
	return first == at && last == size-1 && (m[3] == "*" || m[3] == strconv.FormatInt(size, 10))
}
