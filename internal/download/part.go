package download

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// maxPartInfo is the most bytes that the file beside a partial file may have.
const maxPartInfo = 16 << 10

// part is an unfinished file on disk, held by whoever holds its lock.
type part struct {
	path string
	f    *os.File
	w    io.Writer // f, or what a test puts in front of it
	size int64     // bytes in the file; all of them count
	info partInfo
}

// partInfo says where the bytes of a partial file came from.
type partInfo struct {
	Source string `json:"source"`         // sha256 of the URL, which may hold credentials
	ETag   string `json:"etag,omitempty"` // strong, else ""
}

// partKey names the partial file. Transfers of the same pinned bytes share one,
// whatever the mirror; else only those from the same URL do.
func partKey(url string, w Want) string {
	switch {
	case w.SHA256 != "":
		return "sha256-" + w.SHA256
	case w.SHA512 != "":
		return "sha512-" + w.SHA512
	}
	return "url-" + hashText(url)
}

func hashText(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// openPart opens the partial file at path, or creates an empty one.
func openPart(path string, disk func(io.Writer) io.Writer) (*part, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &part{path: path, f: f, w: f, size: size, info: readPartInfo(path + ".json")}
	if disk != nil {
		p.w = disk(f)
	}
	return p, nil
}

// readPartInfo returns the zero value for a file that is absent or unreadable:
// then nothing is known about the part.
func readPartInfo(path string) (info partInfo) {
	f, err := os.Open(path)
	if err != nil {
		return partInfo{}
	}
	defer f.Close()
	if json.NewDecoder(io.LimitReader(f, maxPartInfo)).Decode(&info) != nil {
		return partInfo{}
	}
	return info
}

// Write appends. What was written before an error counts.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.size += int64(n)
	return n, err
}

// reset empties the file.
func (p *part) reset() error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	p.size = 0
	return err
}

// validator returns the value for If-Range, and whether the part may be
// continued from u at all. Pinned bytes may be continued from anywhere, because
// the digest of the whole decides; then the value may be "".
func (p *part) validator(u *url.URL, pinned bool) (string, bool) {
	if p.info.Source == hashText(u.String()) && p.info.ETag != "" {
		return p.info.ETag, true
	}
	return "", pinned
}

// remember records where the bytes that follow come from.
func (p *part) remember(u *url.URL, h http.Header) error {
	info := partInfo{Source: hashText(u.String())}
	// A weak ETag must not be used with If-Range (RFC 9110, 13.1.5).
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) && len(tag) < 1024 {
		info.ETag = tag
	}
	if info == p.info {
		return nil
	}
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(p.path+".json", 0o600, data); err != nil {
		return err
	}
	p.info = info
	return nil
}

// Close closes the file and keeps it.
func (p *part) Close() error { return p.f.Close() }

// diskFull says what a full disk means for the user.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("disk full: %w (free some space and run it again: it goes on where it stopped)", err)
	}
	return err
}
