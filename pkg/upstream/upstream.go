// Package upstream answers one question: is this the file that Kubernetes published?
//
// It knows where dl.k8s.io and its mirrors keep things, turns a channel
// ("stable-1.36") into a version, brings files into the cache, and gathers what
// proves them:
//
//   - [Pinned]: the bytes have the digest that a lock names
//   - [Signature]: the cosign blob signature beside the file is one of
//     Kubernetes' release identity, made while its certificate was valid
//   - [Checksum]: the bytes have the digest that the same server publishes
//
// A checksum proves that a transfer went well and nothing about who made the
// file: it never counts as one of the other two, and nothing falls back to it.
//
// The signing certificate lives ten minutes. What proves later that the
// signature was made in them is the entry in Rekor, the public log: it is looked
// up once, kept with signature and certificate as [Evidence] in the lock and
// beside the cached file, and checked from then on without any network.
//
// What it means for a signature to be good is not decided here but by a
// [BlobVerifier], so that this package needs no Sigstore library.
package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/imgctl/imgctl/internal/download"
)

const (
	// DefaultBase is where Kubernetes publishes its releases.
	DefaultBase = "https://dl.k8s.io"
	// DefaultRekor is the transparency log of the public-good Sigstore.
	DefaultRekor = "https://rekor.sigstore.dev"

	// Identity is who signs Kubernetes' release files, and Issuer who vouches for
	// that name (kubernetes.io, "Verify Signed Kubernetes Artifacts").
	Identity = "krel-staging@k8s-releng-prod.iam.gserviceaccount.com"
	Issuer   = "https://accounts.google.com"
)

// MaxFile is the most bytes that a release file may have. The largest node
// tarball of 2026 has 130 MB.
const MaxFile = 2 << 30

// NodeTarball returns the path of the tarball with the node's binaries, such as
// "v1.36.2/kubernetes-node-linux-amd64.tar.gz".
func NodeTarball(version, arch string) string {
	return version + "/kubernetes-node-linux-" + arch + ".tar.gz"
}

// Binary returns the path of one binary on its own, such as
// "release/v1.36.2/bin/linux/amd64/kubelet".
func Binary(version, arch, name string) string {
	return "release/" + version + "/bin/linux/" + arch + "/" + name
}

// Proof is something that speaks for a file.
type Proof string

// The proofs, as the field "require" of an image's upstream spells them.
const (
	Checksum  Proof = "checksum"
	Pinned    Proof = "pin"
	Signature Proof = "signature"
)

// Pin names a file so exactly that only one can meet it, and carries the
// evidence for it. It is what a lock holds. All but Path may be unknown.
type Pin struct {
	// Path is relative to a base URL, as [NodeTarball] and [Binary] make it.
	Path   string `json:"path"`
	Size   int64  `json:"size,omitempty"`   // bytes
	SHA256 string `json:"sha256,omitempty"` // lower-case hex
	SHA512 string `json:"sha512,omitempty"` // lower-case hex
	// Members are the sha256 of files that were extracted from this one, by name.
	Members  map[string]string `json:"members,omitempty"`
	Evidence *Evidence         `json:"evidence,omitempty"`
}

// pinned reports whether p names its bytes by a digest.
func (p Pin) pinned() bool { return p.SHA256 != "" || p.SHA512 != "" }

// Evidence is what a signature can be checked with when nobody can be asked.
type Evidence struct {
	Signature   []byte `json:"signature"`   // as published, base64 decoded: ASN.1 DER
	Certificate []byte `json:"certificate"` // as published, in PEM
	// LogEntry is the entry of the transparency log in the form in which Rekor's
	// API returns it: one member, the entry by its UUID. See [ParseLogEntry].
	LogEntry json.RawMessage `json:"logEntry"`
}

// BlobVerifier decides whether evidence proves that the file with the given
// sha256, 32 bytes, was signed by who should have. It asks nobody.
type BlobVerifier interface {
	VerifyBlob(ctx context.Context, sha256 []byte, e Evidence) error
}

// Blob is a file that has met what was required of it.
type Blob struct {
	Pin           // complete: Size and both digests, and Evidence when there is a signature
	File   string // path in the cache
	URL    string // where it was fetched from; "" when it was in the cache
	Proofs []Proof
	// Unsigned says why Signature is not among the proofs when it was looked for
	// without being required; else nil.
	Unsigned error
}

// Client fetches release files. Fields must not change once it is in use;
// methods may be called concurrently.
type Client struct {
	// Download does the transfers; its cache is where everything ends up.
	Download *download.Client
	// Bases are the URLs that have the layout of dl.k8s.io, in the order in which
	// they are asked; none means [DefaultBase].
	Bases []string
	// Rekor is the URL of the transparency log; "" means [DefaultRekor].
	Rekor string
	// Verifier judges signatures. With none, no file is ever called signed.
	Verifier BlobVerifier
}

func (c *Client) bases() []string {
	if len(c.Bases) == 0 {
		return []string{DefaultBase}
	}
	return c.Bases
}

func (c *Client) rekor() string {
	if c.Rekor == "" {
		return DefaultRekor
	}
	return strings.TrimRight(c.Rekor, "/")
}

// urls returns where a path may be, in the order of the bases.
func (c *Client) urls(p string) []string {
	urls := make([]string, len(c.bases()))
	for i, b := range c.bases() {
		urls[i] = strings.TrimRight(b, "/") + "/" + p
	}
	return urls
}

// read returns a small document from the first base that has it. The error is
// of the kinds of package download: not found only when every base said so.
func (c *Client) read(ctx context.Context, p string, max int64) ([]byte, error) {
	return first(c.urls(p), p, func(url string) ([]byte, error) { return c.Download.Read(ctx, url, max) })
}

// exists asks whether some base has the path.
func (c *Client) exists(ctx context.Context, p string) error {
	_, err := first(c.urls(p), p, func(url string) ([]byte, error) { return nil, c.Download.Exists(ctx, url) })
	return err
}

// first returns what the first URL that does not fail gives.
func first(urls []string, what string, ask func(url string) ([]byte, error)) ([]byte, error) {
	var errs []error
	for _, u := range urls {
		data, err := ask(u)
		if err == nil {
			return data, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, download.Join(what, errs)
}

// checkPath refuses a path that could leave the base.
func checkPath(p string) error {
	if p == "" || strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.HasPrefix(p, "..") || strings.ContainsAny(p, "?#%\\ \t\r\n") {
		return fmt.Errorf("path of upstream file: got %q, want a clean relative one", p)
	}
	return nil
}
