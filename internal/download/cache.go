package download

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/filelock"
)

// check refuses a Want that could name a path or nothing.
func (w Want) check(name string) error {
	for _, d := range []struct {
		what, hex string
		size      int
	}{{"sha256", w.SHA256, sha256.Size}, {"sha512", w.SHA512, sha512.Size}} {
		if d.hex != "" && !IsDigest(d.hex, d.size) {
			return fmt.Errorf("get %s: wanted %s: got %.140q, want %d lower-case hex digits", name, d.what, d.hex, 2*d.size)
		}
	}
	if w.Size < 0 || w.Max < 0 {
		return fmt.Errorf("get %s: wanted size: got %d (max %d), want none below 0", name, w.Size, w.Max)
	}
	return nil
}

// IsDigest reports whether s is a digest of size bytes in lower-case hex.
func IsDigest(s string, size int) bool {
	return len(s) == 2*size && strings.Trim(s, "0123456789abcdef") == ""
}

// Cached returns the wanted file when the cache has it, hashed again. One that
// is not what its name says is removed, and not an error: it can be fetched.
// Both results are nil when there is none, or w names no digest.
func (c *Client) Cached(ctx context.Context, name string, w Want) (*File, error) {
	digest, err := c.lookup(w)
	if err != nil || digest == "" {
		return nil, err
	}
	path := c.entry("sha256", digest)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, remove(path)
	}
	f, err := hashFile(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if f.SHA256 != digest {
		return nil, remove(path)
	}
	err = w.matches(name, f)
	if err != nil && w.SHA256 == "" {
		return nil, remove(c.entry("sha512", w.SHA512)) // the link led to the wrong file
	}
	if err != nil {
		// The bytes that have the one digest do not have the other, or the size:
		// what is wanted does not exist, and no server could send it.
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return f, nil
}

// lookup returns the sha256 of the wanted file as far as it is known, else "".
func (c *Client) lookup(w Want) (string, error) {
	if w.SHA256 != "" || w.SHA512 == "" {
		return w.SHA256, nil
	}
	link := c.entry("sha512", w.SHA512)
	target, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	digest := filepath.Base(target)
	if err != nil || target != linkTarget(digest) || !IsDigest(digest, sha256.Size) {
		return "", remove(link) // not one of ours; never follow it
	}
	return digest, nil
}

// remove takes a damaged entry out of the cache. Another process may have done so.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove damaged cache entry: %w", err)
	}
	return nil
}

// matches compares a hashed file with what was wanted.
func (w Want) matches(name string, f *File) error {
	if w.Size > 0 && f.Size != w.Size {
		return &Mismatch{name, "size", strconv.FormatInt(f.Size, 10), strconv.FormatInt(w.Size, 10)}
	}
	if w.SHA256 != "" && f.SHA256 != w.SHA256 {
		return &Mismatch{name, "sha256", f.SHA256, w.SHA256}
	}
	if w.SHA512 != "" && f.SHA512 != w.SHA512 {
		return &Mismatch{name, "sha512", f.SHA512, w.SHA512}
	}
	return nil
}

// Add moves the file at path, which must be in the cache's file system and
// nobody else's, into the cache under the digests of its bytes. Use [Client.Temp]
// to make one.
func (c *Client) Add(ctx context.Context, path string) (*File, error) {
	f, err := hashFile(ctx, path)
	if err != nil {
		return nil, err
	}
	return f, c.store(f)
}

// Temp creates a new file in the cache's directory for unfinished ones, and
// removes those of processes that were killed. For as long as it is open it is the
// caller's, who removes it, or hands its name to [Client.Add], before closing it.
func (c *Client) Temp(ctx context.Context) (*os.File, error) {
	dir := filepath.Join(c.Dir(), "part")
	unlock, err := filelock.Lock(ctx, filepath.Join(dir, "tmp.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock() // nobody takes a new file for an abandoned one before it is locked
	if err := removeAbandoned(dir); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	if _, err := filelock.Try(f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// tempPrefix begins the names of temporary files.
const tempPrefix = "tmp-"

// removeAbandoned removes the temporary files in dir that nobody holds a lock on.
func removeAbandoned(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is done
		}
		if err != nil {
			return err
		}
		free, err := filelock.Try(f)
		if free {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// store renames the file into the cache and sets f.Path to its place there.
func (c *Client) store(f *File) error {
	if err := syncFile(f.Path); err != nil {
		return err
	}
	for _, kind := range []string{"sha256", "sha512"} {
		if err := os.MkdirAll(filepath.Join(c.Dir(), kind), 0o755); err != nil {
			return err
		}
	}
	dst := c.entry("sha256", f.SHA256)
	if err := os.Rename(f.Path, dst); err != nil {
		return err
	}
	f.Path = dst
	if err := atomicfile.SyncDir(filepath.Dir(dst)); err != nil {
		return err
	}
	return atomicfile.Symlink(linkTarget(f.SHA256), c.entry("sha512", f.SHA512))
}

// linkTarget is what an entry of sha512 says, seen from there.
func linkTarget(sha256 string) string { return filepath.Join("..", "sha256", sha256) }

func (c *Client) entry(kind, digest string) string { return filepath.Join(c.Dir(), kind, digest) }

// syncFile makes the file durable and readable by all, but writable by nobody:
// cached bytes never change.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o444), f.Sync(), f.Close())
}

// hashFile reads the whole regular file at path and computes its digests.
func hashFile(ctx context.Context, path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("hash %s: not a regular file", path)
	}
	h256, h512 := sha256.New(), sha512.New()
	buf := make([]byte, 256<<10)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(h256, h512)}, &ctxReader{ctx, f}, buf)
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", path, err)
	}
	return &File{Path: path, SHA256: sum(h256), SHA512: sum(h512), Size: n}, nil
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// onlyWriter hides every method but Write, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }

// ctxReader ends with the context's cause, so that hashing a large file stops when asked to.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
