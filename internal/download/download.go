// Package download brings files from HTTP servers into a content-addressed
// cache, and is the only HTTP client of imgctl besides the registry client.
//
// It trusts nobody: a transfer is capped, must make progress, may be cut and is
// resumed, may be redirected within limits, and whatever arrived is hashed whole
// from the disk before it gets its final name. A caller that knows a digest gets
// exactly those bytes, or an error of one of these kinds:
//
//   - [*Mismatch]: a server answered with other bytes than wanted
//   - [NotFound]: every server answered that there is no such file
//   - [Unreachable]: some server could not be asked; the file may well be there
//
// Other errors are the caller's own (a bad URL, a full disk, a cancelled context).
//
// # Cache
//
//	sha256/<hex>   the files, by their sha256
//	sha512/<hex>   relative links to them, by their sha512
//	part/<key>     unfinished transfers, with a .json and a .lock beside them
//
// Entries appear by rename, so that one that exists is whole; it is nevertheless
// hashed again each time before it is used, and removed when it does not match
// its name. Any number of processes may share a cache: a lock per wanted file
// makes the second one wait and then find what the first one brought.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/imgctl/imgctl/internal/filelock"
)

// DefaultMax is the most bytes that a file may have when [Want] does not say.
const DefaultMax = 1 << 30

// DefaultStall is how long a transfer may go without progress.
const DefaultStall = 30 * time.Second

// Want says which bytes are wanted. With at least one digest, or a size, the
// result is exactly that or an error. Digests are lower-case hex.
type Want struct {
	Size   int64  // bytes; 0: not known
	Max    int64  // most bytes to accept when Size is not known; 0: [DefaultMax]
	SHA256 string // "" when not known
	SHA512 string // "" when not known
}

// pinned reports whether the wanted bytes are named by a digest.
func (w Want) pinned() bool { return w.SHA256 != "" || w.SHA512 != "" }

// limit is the most bytes that may arrive.
func (w Want) limit() int64 {
	switch {
	case w.Size > 0:
		return w.Size
	case w.Max > 0:
		return w.Max
	}
	return DefaultMax
}

// File is a file in the cache, whose digests were computed from the bytes on disk.
type File struct {
	Path   string // in the cache; its base name is SHA256
	URL    string // where it came from, without credentials; "" when it was in the cache
	SHA256 string // lower-case hex
	SHA512 string // lower-case hex
	Size   int64  // bytes
}

// Client downloads. Its zero value works, with the cache at [Dir]. Fields must
// not change once it is in use; methods may be called concurrently. Do not copy one.
type Client struct {
	// HTTP sends the requests; nil means a client of our own that uses the
	// proxies of the environment and refuses to dial link-local addresses. Its
	// CheckRedirect is replaced by ours and its Timeout is not used.
	HTTP *http.Client
	// Cache is the directory of the cache; "" means [Dir].
	Cache string
	// Stall ends a transfer that makes no progress for so long; 0 means
	// [DefaultStall]. A trickle of a few bytes is not progress.
	Stall time.Duration
	// Offline makes every request an [Unreachable] error. The cache still serves.
	Offline bool
	// Progress, when set, is told what has arrived: total is 0 when not known.
	// Transfers call it concurrently, many times a second.
	Progress func(name string, done, total int64)

	// Now is the clock that Retry-After dates are compared with; nil means [time.Now].
	Now func() time.Time
	// Wait pauses between two tries, until d has passed or ctx ends; nil means a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// Lookup resolves hosts, when HTTP is nil; nil means the system's resolver.
	// After a failure the next of a host's addresses is asked: one edge of a
	// delivery network may lack what the others have.
	Lookup func(ctx context.Context, host string) ([]string, error)

	once sync.Once
	http *http.Client
	// disk stands before each partial file; tests fill the disk with it.
	disk func(io.Writer) io.Writer
}

// Dir returns the default cache: $IMGCTL_CACHE, else $XDG_CACHE_HOME/imgctl,
// else ~/.cache/imgctl. XDG_CACHE_HOME is ignored when it is not absolute, as
// the XDG base directory specification asks. Without a home it is below [os.TempDir].
func Dir() string {
	if d := os.Getenv("IMGCTL_CACHE"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "imgctl")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("imgctl-cache-%d", os.Getuid()))
	}
	return filepath.Join(home, ".cache", "imgctl")
}

// Dir returns the directory of the client's cache.
func (c *Client) Dir() string {
	if c.Cache != "" {
		return c.Cache
	}
	return Dir()
}

// Get returns the wanted file: from the cache when w names a digest and it is
// there, else from the first of urls that has it. name is what messages and
// Progress call it. A transfer that was cut earlier, also by the end of the
// process, goes on where it stopped. When no URL serves, the error joins what
// each one did, and its kind is that of the package comment.
func (c *Client) Get(ctx context.Context, name string, urls []string, w Want) (*File, error) {
	if err := w.check(name); err != nil {
		return nil, err
	}
	if f, err := c.Cached(ctx, name, w); f != nil || err != nil {
		return f, err
	}
	if c.Offline {
		return nil, &unreachable{fmt.Errorf("get %s: offline, and not in the cache at %s", name, c.Dir())}
	}
	if len(urls) == 0 {
		return nil, fmt.Errorf("get %s: no URL", name)
	}
	var errs []error
	for _, u := range urls {
		f, err := c.getOne(ctx, name, u, w)
		if err == nil {
			return f, nil
		}
		var local *localError
		if ctx.Err() != nil || errors.As(err, &local) {
			return nil, fmt.Errorf("get %s: %w", name, err) // another URL would not help
		}
		errs = append(errs, err)
	}
	return nil, Join("get "+name, errs)
}

// getOne fetches the file from one URL, alone among all processes.
func (c *Client) getOne(ctx context.Context, name, url string, w Want) (*File, error) {
	u, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	key := partKey(url, w)
	unlock, err := filelock.Lock(ctx, filepath.Join(c.Dir(), "part", key+".lock"))
	if err != nil {
		return nil, &localError{err}
	}
	defer unlock()
	// Somebody else may have brought it while this process waited.
	if f, err := c.Cached(ctx, name, w); f != nil || err != nil {
		return f, err
	}
	t := &transfer{client: c, name: name, url: u, want: w, path: filepath.Join(c.Dir(), "part", key)}
	return t.run(ctx)
}

// Read returns the document at url, which may have at most max bytes. It is for
// small ones: nothing is cached or resumed. Errors are of the kinds that the
// package comment lists; a larger document is none of them.
func (c *Client) Read(ctx context.Context, url string, max int64) ([]byte, error) {
	return c.document(ctx, http.MethodGet, url, "", nil, max)
}

// Post sends body to url and returns the answer, under the rules of
// [Client.Read]. The request may be sent more than once.
func (c *Client) Post(ctx context.Context, url, contentType string, body []byte, max int64) ([]byte, error) {
	return c.document(ctx, http.MethodPost, url, contentType, body, max)
}

// Exists asks whether there is something at url: nil when there is, else an
// error of the kinds that the package comment lists.
func (c *Client) Exists(ctx context.Context, url string) error {
	_, err := c.document(ctx, http.MethodHead, url, "", nil, 0)
	return err
}
