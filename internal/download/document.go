package download

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// document fetches a small document with the retries of a file, but whole each time.
func (c *Client) document(ctx context.Context, method, url, contentType string, body []byte, limit int64) ([]byte, error) {
	u, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	for try, address := 1, 0; ; try++ {
		data, err := c.documentOnce(ctx, method, u.String(), contentType, body, limit, address)
		if err == nil {
			return data, nil
		}
		pause, again := c.again(ctx, err, try)
		if again.address {
			address++
		}
		if !again.retry || try >= maxIdleTries {
			return nil, err
		}
		if err := c.wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (c *Client) documentOnce(ctx context.Context, method, url, contentType string, body []byte, limit int64, address int) ([]byte, error) {
	w := watch(ctx, c.stall())
	defer w.stop()
	req, err := http.NewRequestWithContext(dialAddress(w.ctx, address), method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.send(ctx, req, w)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if method == http.MethodHead {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(watched{resp.Body, w}, limit+1))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, &unreachable{fmt.Errorf("%s: cut after %d bytes: %w", redact(req.URL), len(data), w.cause(ctx, err))}
	}
	if isPage(data) {
		return nil, pageError(resp, "the document")
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: got more than %d bytes", redact(req.URL), limit)
	}
	return data, nil
}

// watched tells the watchdog what it reads.
type watched struct {
	r io.Reader
	w *watchdog
}

func (r watched) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.w.progress(n)
	return n, err
}

// sniffLen is how much of a body is looked at to tell a page from a file.
const sniffLen = 512

// isPage reports whether data starts as an HTML or XML page does: no file that
// imgctl fetches is one, but what captive portals, proxies and object stores
// answer with status 200 is.
func isPage(data []byte) bool {
	data = bytes.TrimPrefix(data[:min(len(data), sniffLen)], []byte("\xef\xbb\xbf"))
	data = bytes.ToLower(bytes.TrimLeft(data, " \t\r\n"))
	for _, start := range []string{"<!doctype", "<html", "<head", "<body", "<?xml", "<error", "<!--"} {
		if bytes.HasPrefix(data, []byte(start)) {
			return true
		}
	}
	return false
}

func pageError(resp *http.Response, name string) error {
	return &unreachable{fmt.Errorf("%s: got an HTML or XML page instead of %s", redact(resp.Request.URL), name)}
}
