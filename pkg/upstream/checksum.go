package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"path"
	"strings"

	"github.com/imgctl/imgctl/internal/download"
)

// maxChecksum is the most bytes that a checksum file may have.
const maxChecksum = 1 << 10

// parseChecksum reads the file beside a release file that holds its digest of
// size bytes. The forms that exist are accepted, and nothing else: the digest
// alone, or as sha512sum writes it, followed by two spaces, or a space and an
// asterisk, and the file's name; upper or lower case; with a line end (LF or
// CRLF) or none. A second line makes it ambiguous, whatever it says.
func parseChecksum(data []byte, name string, size int) (string, error) {
	line := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("checksum of %s: ambiguous: got more than one line, want one", name)
	}
	digest, rest, named := line, "", false
	if len(line) > 2*size {
		digest, rest, named = line[:2*size], line[2*size:], true
	}
	digest = strings.ToLower(digest)
	if !download.IsDigest(digest, size) {
		return "", fmt.Errorf("checksum of %s: got %.150q, want %d hex digits", name, line, 2*size)
	}
	if named && rest != "  "+name && rest != " *"+name {
		return "", fmt.Errorf("checksum of %s: got it for %.80q", name, rest)
	}
	return digest, nil
}

// published fills in the digests that are published beside the file. They
// need not both exist, but where both do the file has to match both.
func (c *Client) published(ctx context.Context, p Pin) (Pin, error) {
	name := path.Base(p.Path)
	var missing []error
	for _, k := range []struct {
		ext  string
		size int
		into *string
	}{{".sha512", sha512.Size, &p.SHA512}, {".sha256", sha256.Size, &p.SHA256}} {
		data, err := c.read(ctx, p.Path+k.ext, maxChecksum)
		if download.NotFound(err) {
			missing = append(missing, err)
			continue
		}
		if err != nil {
			return Pin{}, err
		}
		if *k.into, err = parseChecksum(data, name, k.size); err != nil {
			return Pin{}, err
		}
	}
	if p.pinned() {
		return p, nil
	}
	if c.exists(ctx, p.Path) == nil {
		return Pin{}, &Incomplete{Path: p.Path, Missing: "its checksums", Err: missing[0]}
	}
	return Pin{}, missing[0]
}

// Incomplete says that a release has one half of what belongs together: it is
// being published or cleaned up right now, and may be whole in some minutes.
type Incomplete struct {
	Path    string // of the file
	Missing string // what is not there
	Err     error  // how that was seen
}

// Error is one line.
func (e *Incomplete) Error() string {
	return fmt.Sprintf("upstream release incomplete: %s is there, %s not yet: %v", e.Path, e.Missing, e.Err)
}

// Unwrap returns how it was seen.
func (e *Incomplete) Unwrap() error { return e.Err }

// absent tells a file that is missing from a release from a release that does
// not exist, after the file was not found.
func (c *Client) absent(ctx context.Context, p string, notFound error) error {
	for _, ext := range []string{".sha512", ".sha256"} {
		if c.exists(ctx, p+ext) == nil {
			return &Incomplete{Path: p + ext, Missing: "the file itself", Err: notFound}
		}
	}
	return notFound
}
