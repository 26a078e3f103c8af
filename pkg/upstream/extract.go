package upstream

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/klauspost/compress/gzip"
)

const (
	maxMember   = 1 << 30   // bytes of one extracted file
	maxUnpacked = 8 << 30   // bytes of a whole tarball, unpacked
	maxTarFiles = 100 << 10 // entries of a tarball
)

// Extract is [Client.ExtractAll] of one member.
func (c *Client) Extract(ctx context.Context, b *Blob, member string) (string, error) {
	paths, err := c.ExtractAll(ctx, b, member)
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// ExtractAll unpacks members of the .tar.gz in b into the cache, in one pass, and
// returns their paths in the order of the names. The base name of a path is the
// sha256 of the file, which is read-only and not executable.
//
// Each name must be that of exactly one entry, a regular file. The tarball is
// hashed while it is read, and nothing is kept unless it still is the one that b
// is about. b.Members learns the digests: a pin that has them lets the next call
// take the files from the cache without reading the tarball, and any other
// bytes are a *download.Mismatch. Do not use b for something else meanwhile.
func (c *Client) ExtractAll(ctx context.Context, b *Blob, members ...string) ([]string, error) {
	found := make(map[string]string, len(members))
	var rest []string
	for _, m := range members {
		file, err := c.member(ctx, b, m)
		if err != nil {
			return nil, err
		}
		if file != "" {
			found[m] = file
		} else if !slices.Contains(rest, m) {
			rest = append(rest, m)
		}
	}
	if len(rest) > 0 {
		if err := c.unpack(ctx, b, rest, found); err != nil {
			return nil, fmt.Errorf("extract from %s: %w", path.Base(b.Path), err)
		}
	}
	paths := make([]string, len(members))
	for i, m := range members {
		paths[i] = found[m]
	}
	return paths, nil
}

// member returns the cached file of a member whose digest is known, else "".
func (c *Client) member(ctx context.Context, b *Blob, name string) (string, error) {
	if b.Members[name] == "" {
		return "", nil
	}
	f, err := c.Download.Cached(ctx, name, download.Want{SHA256: b.Members[name]})
	if f == nil || err != nil {
		return "", err
	}
	return f.Path, nil
}

// unpack reads the tarball once and puts the named members into found.
func (c *Client) unpack(ctx context.Context, b *Blob, names []string, found map[string]string) error {
	raw, err := os.Open(b.File)
	if err != nil {
		return err
	}
	defer raw.Close()
	hash := sha256.New()
	tee := io.TeeReader(interruptible{ctx, raw}, hash)
	temps, err := c.untar(ctx, tee, names)
	defer func() {
		for _, t := range temps {
			os.Remove(t.Name()) // fails for those that went into the cache
			t.Close()
		}
	}()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != b.SHA256 {
		return &download.Mismatch{Object: path.Base(b.Path), What: "sha256", Got: got, Want: b.SHA256}
	}
	for _, name := range names {
		if temps[name] == nil {
			return fmt.Errorf("got no %s in it", name)
		}
		f, err := c.Download.Add(ctx, temps[name].Name())
		if err != nil {
			return err
		}
		if want := b.Members[name]; want != "" && want != f.SHA256 {
			return &download.Mismatch{Object: name, What: "sha256", Got: f.SHA256, Want: want}
		}
		if b.Members == nil {
			b.Members = make(map[string]string)
		}
		b.Members[name], found[name] = f.SHA256, f.Path
	}
	return nil
}

// untar writes the named members to temporary files, by name. They are the
// caller's also when there is an error.
func (c *Client) untar(ctx context.Context, r io.Reader, names []string) (temps map[string]*os.File, err error) {
	temps = make(map[string]*os.File)
	gz, err := gzip.NewReader(r)
	if err != nil {
		return temps, err
	}
	defer gz.Close()
	capped := &capped{r: gz, left: maxUnpacked}
	tr := tar.NewReader(capped)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, capped) // up to gzip's own checksum
			return temps, err
		}
		if err != nil {
			return temps, err
		}
		if n >= maxTarFiles {
			return temps, fmt.Errorf("got more than %d entries", maxTarFiles)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if !slices.Contains(names, name) {
			continue
		}
		if temps[name] != nil {
			return temps, fmt.Errorf("got %s twice", name)
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxMember {
			return temps, fmt.Errorf("%s: got type %q of %d bytes, want a regular file of at most %d", name, h.Typeflag, h.Size, maxMember)
		}
		if temps[name], err = c.Download.Temp(ctx); err != nil {
			delete(temps, name)
			return temps, err
		}
		if _, err := io.Copy(temps[name], tr); err != nil {
			return temps, err
		}
	}
}

// capped fails when more than left bytes are read.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, fmt.Errorf("got more than %d bytes unpacked", int64(maxUnpacked))
	}
	return n, err
}

// interruptible stops reading when its context ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
