package oci

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is a repository behind the HTTP API of distribution-spec 1.1.
type registry struct {
	name    string // canonical
	repo    name.Repository
	wire    *wire
	auth    *authorizer
	http    *http.Client
	overall time.Duration // [Timeouts.Overall]

	writes  atomic.Bool // ask for the right to push at once
	writers sync.Map    // tag → *sync.Mutex: who changes it by reading and writing
}

// newRegistry returns the repository; nothing is asked yet.
func newRegistry(canonical string, repo name.Repository, c *Client, w *wire) *registry {
	g := &registry{name: canonical, repo: repo, wire: w, overall: c.Timeouts.Overall}
	g.auth = &authorizer{
		wire: w, host: repo.RegistryStr(), repo: repo.RepositoryStr(),
		find: func(ctx context.Context) (authn.AuthConfig, error) { return login(ctx, c.Keychain, repo) }, first: make(chan struct{}, 1),
	}
	g.http = &http.Client{Transport: g.auth, CheckRedirect: redirectRule(repo.RegistryStr())}
	return g
}

// begin starts an operation, unless ctx is part of one: its retries have one
// budget and one deadline.
func (g *registry) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Value(effortKey{}) != nil {
		return ctx, func() {}
	}
	ctx = withEffort(ctx)
	if g.overall <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, g.overall, &overallError{g.overall})
}

// overallError is an operation that took longer than [Timeouts.Overall].
type overallError struct{ limit time.Duration }

func (e *overallError) Error() string { return fmt.Sprintf("not done after %s", e.limit) }

// do sends a request to this repository's API. An answer of any status is an
// answer; the error says why there was none.
func (g *registry) do(ctx context.Context, op, object string, req *http.Request) (*http.Response, error) {
	ctx, cancel := g.begin(ctx)
	push := g.writes.Load() || req.Method != http.MethodGet && req.Method != http.MethodHead
	resp, err := g.http.Do(req.WithContext(context.WithValue(ctx, wantsPush{}, push)))
	if err != nil {
		defer cancel()
		return nil, networkError(ctx, op, object, err)
	}
	resp.Body = &answerBody{ctx: ctx, op: op, object: object, body: resp.Body, cancel: cancel}
	return resp, nil
}

// answerBody gives the errors of a body the form of all others.
type answerBody struct {
	ctx        context.Context
	op, object string
	body       io.ReadCloser
	cancel     context.CancelFunc
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		err = networkError(b.ctx, b.op, b.object, err)
	}
	return n, err
}

func (b *answerBody) Close() error {
	defer b.cancel()
	return b.body.Close()
}

// url returns the address of something in this repository.
func (g *registry) url(parts ...string) *url.URL {
	return &url.URL{Scheme: g.wire.scheme(g.repo.RegistryStr()), Host: g.repo.RegistryStr(), Path: "/v2/" + g.repo.RepositoryStr() + "/" + strings.Join(parts, "/")}
}

// object names a tag or digest of this repository in errors.
func (g *registry) object(ref string) string { return object(g.name, ref) }

// acceptManifests asks for what [ParseManifest] takes. Without it Quay may
// convert an image to schema 1.
func acceptManifests(h http.Header) {
	for _, t := range []types.MediaType{types.OCIImageIndex, types.OCIManifestSchema1, types.DockerManifestList, types.DockerManifestSchema2} {
		h.Add("Accept", string(t))
	}
}

// head implements [backend]. The header of the answer is believed for now:
// what it names is computed from the bytes when they are read.
func (g *registry) head(ctx context.Context, ref string) (v1.Descriptor, error) {
	const op = "look up manifest"
	req, err := http.NewRequest(http.MethodHead, g.url("manifests", ref).String(), nil)
	if err != nil {
		return v1.Descriptor{}, err
	}
	acceptManifests(req.Header)
	resp, err := g.do(ctx, op, g.object(ref), req)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return v1.Descriptor{}, answerError(op, g.object(ref), resp)
	}
	resp.Body.Close()
	d := v1.Descriptor{MediaType: types.MediaType(resp.Header.Get("Content-Type")), Size: resp.ContentLength}
	if d.Digest, err = ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && d.Size > 0 {
		return d, nil
	}
	doc, err := g.manifest(ctx, ref) // the header is optional: distribution-spec, "Pulling manifests"
	if err != nil {
		return v1.Descriptor{}, err
	}
	m, err := ParseManifest(doc.body, doc.contentType)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("%s: %w", g.object(ref), err)
	}
	return m.Descriptor, nil
}

// manifest implements [backend].
func (g *registry) manifest(ctx context.Context, ref string) (*document, error) {
	const op = "get manifest"
	req, err := http.NewRequest(http.MethodGet, g.url("manifests", ref).String(), nil)
	if err != nil {
		return nil, err
	}
	acceptManifests(req.Header)
	resp, body, err := g.document(ctx, op, g.object(ref), req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, answerError(op, g.object(ref), resp)
	}
	return &document{body: body, contentType: resp.Header.Get("Content-Type"), etag: resp.Header.Get("ETag")}, nil
}

// hasBlob implements [backend].
func (g *registry) hasBlob(ctx context.Context, d v1.Descriptor) (bool, error) {
	const op = "look up blob"
	req, err := http.NewRequest(http.MethodHead, g.url("blobs", d.Digest.String()).String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := g.do(ctx, op, g.object(d.Digest.String()), req)
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		resp.Body.Close()
		return true, nil
	case http.StatusNotFound:
		resp.Body.Close()
		return false, nil
	}
	return false, answerError(op, g.object(d.Digest.String()), resp)
}

// putManifest implements [backend].
func (g *registry) putManifest(ctx context.Context, ref string, m *Manifest) error {
	return g.replaceManifest(ctx, ref, m, "")
}

// replaceManifest implements [backend].
func (g *registry) replaceManifest(ctx context.Context, ref string, m *Manifest, etag string) error {
	const op = "put manifest"
	req, err := http.NewRequest(http.MethodPut, g.url("manifests", ref).String(), bytes.NewReader(m.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(m.Descriptor.MediaType))
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	resp, err := g.do(ctx, op, g.object(ref), req)
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return answerError(op, g.object(ref), resp)
	}
	drain(resp.Body)
	got := resp.Header.Get("Docker-Content-Digest")
	if want := m.Descriptor.Digest.String(); got != "" && got != want {
		return &DigestError{Object: g.object(ref) + ", as the registry stored it", What: "sha256", Got: clip(sanitize(got)), Want: want}
	}
	return nil
}

// place implements [backend].
func (g *registry) place() string { return g.repo.RegistryStr() }

// remote implements [backend].
func (g *registry) remote() bool { return true }

// pause implements [backend].
func (g *registry) pause(ctx context.Context, d time.Duration) error {
	return g.wire.retry.wait(ctx, d)
}

// willWrite implements [backend]: one token for asking and writing saves a
// second handshake.
func (g *registry) willWrite() { g.writes.Store(true) }

// keep implements [backend]: a registry keeps manifests without a tag.
func (g *registry) keep(context.Context, *Manifest) error { return nil }

// exclusive implements [backend]. The API has no lock: only writers of this
// process take turns.
func (g *registry) exclusive(tag string, change func() error) error {
	mu, _ := g.writers.LoadOrStore(tag, new(sync.Mutex))
	mu.(*sync.Mutex).Lock()
	defer mu.(*sync.Mutex).Unlock()
	return change()
}

// object names what ref means in a repository.
func object(repository, ref string) string {
	if strings.Contains(ref, ":") {
		return repository + "@" + ref
	}
	return repository + ":" + ref
}
