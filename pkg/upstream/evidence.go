package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/download"
)

const (
	maxSignature   = 8 << 10
	maxCertificate = 64 << 10
	maxEvidence    = 256 << 10
	maxSearch      = 64 << 10
	// maxEntries is how many log entries of one file are looked at. Anybody may
	// log a signature of any file, so there may be more than the one that counts.
	maxEntries = 64
)

// ErrNoSignature says that nobody claims to have signed the file in the way that
// is asked for: signature, certificate or log entry does not exist.
var ErrNoSignature = errors.New("no signature published")

// gather brings what is published beside the file and what the log says about it.
// Nothing of it is verified. An error is one of package download, or wraps
// [ErrNoSignature], or says what is malformed.
func (c *Client) gather(ctx context.Context, path, sha256 string) (*Evidence, error) {
	sig, err := c.readProof(ctx, path+".sig", maxSignature)
	if err != nil {
		return nil, err
	}
	cert, err := c.readProof(ctx, path+".cert", maxCertificate)
	if err != nil {
		return nil, err
	}
	e := &Evidence{}
	if e.Signature, err = parseSignature(sig); err != nil {
		return nil, fmt.Errorf("%s.sig: %w", path, err)
	}
	if e.Certificate, err = parseCertificate(cert); err != nil {
		return nil, fmt.Errorf("%s.cert: %w", path, err)
	}
	entry, err := c.search(ctx, sha256, e.Signature)
	if err != nil {
		return nil, err
	}
	if e.LogEntry, err = json.Marshal(entry); err != nil {
		return nil, err
	}
	return e, nil
}

func (c *Client) readProof(ctx context.Context, path string, max int64) ([]byte, error) {
	data, err := c.read(ctx, path, max)
	if download.NotFound(err) {
		return nil, fmt.Errorf("%w: %w", ErrNoSignature, err)
	}
	return data, err
}

// parseSignature reads a .sig file: base64, with white space around it.
func parseSignature(data []byte) ([]byte, error) {
	sig, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(data)))
	if err != nil || len(sig) == 0 {
		return nil, fmt.Errorf("got %.40q, want a signature in base64", data)
	}
	return sig, nil
}

// parseCertificate reads a .cert file: one certificate in PEM, which dl.k8s.io
// wraps in base64 once more.
func parseCertificate(data []byte) ([]byte, error) {
	data = bytes.TrimSpace(data)
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		decoded, err := base64.StdEncoding.DecodeString(string(data))
		if err != nil {
			return nil, fmt.Errorf("got %.40q, want a certificate in PEM, or that in base64", data)
		}
		data = bytes.TrimSpace(decoded)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		return nil, fmt.Errorf("got %.40q, want one certificate in PEM", data)
	}
	return pem.EncodeToMemory(block), nil
}

// search finds the log's entry for this signature of the file.
func (c *Client) search(ctx context.Context, sha256 string, sig []byte) (*LogEntry, error) {
	query, err := json.Marshal(map[string]string{"hash": "sha256:" + sha256})
	if err != nil {
		return nil, err
	}
	data, err := c.Download.Post(ctx, c.rekor()+"/api/v1/index/retrieve", "application/json", query, maxSearch)
	if err != nil {
		return nil, err
	}
	var uuids []string
	if err := decodeOne(data, &uuids); err != nil {
		return nil, fmt.Errorf("search the log at %s: %w", c.rekor(), err)
	}
	if len(uuids) > maxEntries {
		return nil, fmt.Errorf("search the log at %s: got %d entries for sha256:%s, want at most %d", c.rekor(), len(uuids), sha256, maxEntries)
	}
	for _, uuid := range uuids {
		if !isHex(uuid, 64) && !isHex(uuid, 80) {
			return nil, fmt.Errorf("search the log at %s: UUID: got %.100q", c.rekor(), uuid)
		}
		data, err := c.Download.Read(ctx, c.rekor()+"/api/v1/log/entries/"+uuid, maxLogEntry)
		if err != nil {
			return nil, err
		}
		e, err := ParseLogEntry(data)
		if err != nil {
			return nil, fmt.Errorf("the log at %s: %w", c.rekor(), err)
		}
		h, err := e.HashedRekord()
		if err != nil {
			continue // of another kind: somebody else's
		}
		if h.SHA256 == sha256 && bytes.Equal(h.Signature, sig) {
			return e, nil
		}
	}
	return nil, fmt.Errorf("%w: the log at %s has %d entries for sha256:%s, none with this signature", ErrNoSignature, c.rekor(), len(uuids), sha256)
}

// evidencePath is where the evidence for a cached file is kept.
func (c *Client) evidencePath(sha256 string) string {
	return filepath.Join(c.Download.Dir(), "evidence", sha256+".json")
}

// stored returns the evidence that the cache has; nil when it has none or what
// it has is damaged.
func (c *Client) stored(sha256 string) (*Evidence, error) {
	f, err := os.Open(c.evidencePath(sha256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEvidence+1))
	if err != nil {
		return nil, err
	}
	e, err := ParseEvidence(data)
	if err != nil {
		return nil, c.forget(sha256)
	}
	return e, nil
}

// ParseEvidence reads evidence as the cache and a lock hold it. Unknown members
// are errors, and so is anything that is not there. Nothing is verified.
func ParseEvidence(data []byte) (*Evidence, error) {
	if len(data) > maxEvidence {
		return nil, fmt.Errorf("parse evidence: got more than %d bytes", maxEvidence)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var e Evidence
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("parse evidence: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("parse evidence: more than one JSON value")
	}
	if len(e.Signature) == 0 || len(e.Certificate) == 0 {
		return nil, errors.New("parse evidence: no signature or no certificate")
	}
	if _, err := ParseLogEntry(e.LogEntry); err != nil {
		return nil, fmt.Errorf("parse evidence: %w", err)
	}
	return &e, nil
}

// keep stores verified evidence beside the cached file.
func (c *Client) keep(sha256 string, e *Evidence) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	path := c.evidencePath(sha256)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, 0o644, append(data, '\n'))
}

func (c *Client) forget(sha256 string) error {
	if err := os.Remove(c.evidencePath(sha256)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// verify asks the verifier about the file with the given sha256.
func (c *Client) verify(ctx context.Context, sha256 string, e *Evidence) error {
	if c.Verifier == nil {
		return errors.New("no trust root: no verifier for signatures was set up")
	}
	digest, err := hex.DecodeString(sha256)
	if err != nil {
		return err
	}
	return c.Verifier.VerifyBlob(ctx, digest, *e)
}
