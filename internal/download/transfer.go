package download

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	// maxIdleTries is how often in a row a request may fail without bringing bytes.
	maxIdleTries = 4
	// maxTries bounds the requests of one transfer, also of one that is cut again
	// and again after a little progress.
	maxTries = 64
	// chunk is how much is read at once, and the least that counts as progress.
	chunk = 32 << 10
)

// transfer is the fetching of one file from one URL.
type transfer struct {
	client *Client
	name   string
	url    *url.URL
	want   Want
	path   string // of the partial file; path+".json" is about it
}

// maxRestarts is how often the transfer may begin again from the first byte.
const maxRestarts = 2

// restart asks for one more try from the first byte.
type restart struct{ why string }

func (e *restart) Error() string { return e.why }

// run tries until the file is whole, and moves it into the cache.
func (t *transfer) run(ctx context.Context) (*File, error) {
	for again := false; ; again = true {
		resumed, err := t.fill(ctx)
		if err != nil {
			t.tidy(ctx, err)
			return nil, err
		}
		f, err := hashFile(ctx, t.path)
		if err != nil {
			return nil, &localError{err}
		}
		mismatch := t.want.matches(t.name, f)
		if mismatch == nil {
			return t.finish(f)
		}
		t.discard()
		// The first bytes may have come from another server or another day: the
		// whole is only this server's fault when all of it was fetched now.
		if !resumed || again {
			return nil, fmt.Errorf("%s: %w", redact(t.url), mismatch)
		}
	}
}

func (t *transfer) finish(f *File) (*File, error) {
	if err := t.client.store(f); err != nil {
		return nil, &localError{diskFull(err)}
	}
	t.discard()
	f.URL = redact(t.url)
	return f, nil
}

// tidy removes a partial file that must not or need not be resumed.
func (t *transfer) tidy(ctx context.Context, err error) {
	_, local := errors.AsType[*localError](err)
	fi, serr := os.Stat(t.path)
	empty := serr == nil && fi.Size() == 0
	if empty || !local && ctx.Err() == nil && !Unreachable(err) {
		t.discard()
	}
}

// fill brings the partial file to its full length. resumed tells that some of
// it was there before.
func (t *transfer) fill(ctx context.Context) (resumed bool, err error) {
	p, err := openPart(t.path, t.client.disk)
	if err != nil {
		return false, &localError{diskFull(err)}
	}
	defer p.Close()
	if t.want.Size > 0 && p.size == t.want.Size {
		return true, nil // the process ended between the last byte and the rename
	}
	resumed = p.size > 0
	n := tries{}
	for {
		before := p.size
		err := t.once(ctx, p, n.address)
		if err == nil {
			return resumed, nil
		}
		if r, ok := errors.AsType[*restart](err); ok {
			if n.restarts++; n.restarts > maxRestarts {
				return false, &unreachable{fmt.Errorf("%s: %w", redact(t.url), r)}
			}
			if err := p.reset(); err != nil {
				return false, &localError{diskFull(err)}
			}
			resumed = false
			continue
		}
		if err := t.pause(ctx, &n, p.size > before, err); err != nil {
			return resumed, err
		}
	}
}

// tries counts the requests of a transfer.
type tries struct {
	all      int
	idle     int // in a row that brought nothing
	restarts int
	address  int // which of the host's addresses comes next
}

// pause waits for the right moment to repeat a request that ended with err, and
// returns err, or why it stopped waiting, when there is none.
func (t *transfer) pause(ctx context.Context, n *tries, progress bool, err error) error {
	n.all++
	if n.idle++; progress {
		n.idle = 0
	}
	wait, again := t.client.again(ctx, err, n.idle)
	if !again.retry || n.idle >= maxIdleTries || n.all >= maxTries {
		return err
	}
	if again.address {
		n.address++
	}
	return t.client.wait(ctx, wait)
}

// once makes one request for what is still missing and writes what arrives.
func (t *transfer) once(ctx context.Context, p *part, address int) error {
	w := watch(ctx, t.client.stall())
	defer w.stop()
	req, err := http.NewRequestWithContext(dialAddress(w.ctx, address), http.MethodGet, t.url.String(), nil)
	if err != nil {
		return err
	}
	validator, ok := p.validator(t.url, t.want.pinned())
	if p.size > 0 && !ok {
		return &restart{"nothing tells that the file is still the same"}
	}
	if p.size > 0 {
		req.Header.Set("Range", rangeFrom(p.size))
		if validator != "" {
			req.Header.Set("If-Range", validator)
		}
	}
	resp, err := t.client.send(ctx, req, w)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	total, err := t.begin(p, resp)
	if err != nil || total == p.size && total > 0 {
		return err
	}
	return t.copy(ctx, p, resp, total, w)
}

// begin decides by the header of an answer where its body belongs. total is the
// size of the whole file, 0 when the server does not say.
func (t *transfer) begin(p *part, resp *http.Response) (total int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		// Also the answer of a server without ranges, or with a file that has
		// changed since (If-Range): all of it comes again.
		if p.size > 0 {
			if err := p.reset(); err != nil {
				return 0, &localError{diskFull(err)}
			}
		}
		total = max(resp.ContentLength, 0)
	case http.StatusPartialContent:
		r, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return 0, &restart{err.Error()}
		}
		if r.first != p.size {
			return 0, &restart{fmt.Sprintf("Content-Range: got bytes from %d, want from %d", r.first, p.size)}
		}
		total = max(r.total, 0)
	case http.StatusRequestedRangeNotSatisfiable:
		r, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || r.first >= 0 || r.total != p.size {
			return 0, &restart{fmt.Sprintf("no bytes from %d on", p.size)}
		}
		return r.total, nil // it is all there; the digest decides
	}
	if err := t.sizeOK(total); err != nil {
		return 0, err
	}
	if err := p.remember(t.url, resp.Header); err != nil {
		return 0, &localError{diskFull(err)}
	}
	return total, nil
}

// sizeOK refuses a file by the size that the server announces, 0 for none.
func (t *transfer) sizeOK(total int64) error {
	if t.want.Size > 0 && total > 0 && total != t.want.Size {
		return &Mismatch{t.name, "size", strconv.FormatInt(total, 10), strconv.FormatInt(t.want.Size, 10)}
	}
	if total > t.want.limit() {
		return t.tooLarge(total)
	}
	return nil
}

func (t *transfer) tooLarge(got int64) error {
	if t.want.Size > 0 {
		return &Mismatch{t.name, "size", "more than " + strconv.FormatInt(t.want.Size, 10), strconv.FormatInt(t.want.Size, 10)}
	}
	return fmt.Errorf("%s: got %d bytes or more, want at most %d", redact(t.url), got, t.want.limit())
}

// copy appends the body to the partial file, up to the limit and one read more.
func (t *transfer) copy(ctx context.Context, p *part, resp *http.Response, total int64, w *watchdog) error {
	full := max(t.want.Size, total)
	body := io.Reader(watched{resp.Body, w})
	if p.size == 0 {
		head := make([]byte, sniffLen)
		n, err := io.ReadFull(body, head)
		if isPage(head[:n]) {
			return pageError(resp, t.name)
		}
		body = io.MultiReader(bytes.NewReader(head[:n]), ended{body, err})
	}
	buf := make([]byte, chunk)
	for {
		n, err := body.Read(buf)
		if p.size+int64(n) > t.want.limit() {
			return t.tooLarge(p.size + int64(n))
		}
		if _, werr := p.Write(buf[:n]); werr != nil {
			return &localError{fmt.Errorf("write %s: %d bytes of %s are kept: %w", t.path, p.size, t.name, diskFull(werr))}
		}
		if t.client.Progress != nil && n > 0 {
			t.client.Progress(t.name, p.size, full)
		}
		if err == io.EOF {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return &unreachable{fmt.Errorf("%s: cut after %d bytes: %w", redact(t.url), p.size, w.cause(ctx, err))}
		}
	}
	if p.size < full {
		return &unreachable{fmt.Errorf("%s: got %d bytes, want %d: %w", redact(t.url), p.size, full, io.ErrUnexpectedEOF)}
	}
	if total > 0 && p.size > total {
		return &restart{fmt.Sprintf("got %d bytes, want %d", p.size, total)}
	}
	return nil
}

// ended reads on from r, unless an earlier read of it has already failed.
type ended struct {
	r   io.Reader
	err error
}

func (e ended) Read(p []byte) (int, error) {
	switch e.err {
	case nil:
		return e.r.Read(p)
	case io.ErrUnexpectedEOF: // io.ReadFull says so of a body that is merely short
		return e.r.Read(p)
	}
	return 0, e.err
}

// discard removes the partial file and what is known about it. The lock file
// stays: a process may be waiting for it.
func (t *transfer) discard() {
	os.Remove(t.path)
	os.Remove(t.path + ".json")
}

func (c *Client) stall() time.Duration {
	if c.Stall > 0 {
		return c.Stall
	}
	return DefaultStall
}
