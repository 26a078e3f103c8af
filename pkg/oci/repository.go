package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Repository holds manifests, blobs and tags: in a registry, or in an OCI
// layout directory. [Client.Repository] makes one. Its methods may be called
// concurrently.
type Repository struct {
	name string
	back backend
}

// backend is a place that stores content. A ref is a tag or a digest. Nothing
// that it returns has been checked, except that it is bounded; [Repository]
// does the checking.
type backend interface {
	head(ctx context.Context, ref string) (v1.Descriptor, error)
	manifest(ctx context.Context, ref string) (*document, error)
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	hasBlob(ctx context.Context, d v1.Descriptor) (bool, error)
	referrers(ctx context.Context, h v1.Hash) (list []v1.Descriptor, api referrersAPI, err error)
	tags(ctx context.Context) ([]string, error)

	place() string // what repositories share their blobs in: the registry, or the directory
	remote() bool  // a registry: it takes no manifest without what that names, and others write there
	willWrite()    // the questions that follow are for the sake of writing
	pause(ctx context.Context, d time.Duration) error
	putBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	mountBlob(ctx context.Context, d v1.Descriptor, from backend) (bool, error)
	putManifest(ctx context.Context, ref string, m *Manifest) error
	replaceManifest(ctx context.Context, tag string, m *Manifest, etag string) error // etag: what is replaced; "": anything
	keep(ctx context.Context, m *Manifest) error                                     // what no tag points at must stay

	// exclusive calls change while no other writer of this backend changes tag.
	exclusive(tag string, change func() error) error
}

// document is a manifest as it came.
type document struct {
	body        []byte
	contentType string // "": nobody said
	etag        string // of what a tag points at; "": none
}

// String returns the canonical name: "docker.io/psdn/kubelet", "oci:DIR".
func (r *Repository) String() string { return r.name }

// Resolve returns what the tag points at now. The descriptor is a claim of the
// repository until [Repository.Manifest] has read it.
func (r *Repository) Resolve(ctx context.Context, tag string) (v1.Descriptor, error) {
	if !tagPattern.MatchString(tag) {
		return v1.Descriptor{}, fmt.Errorf("resolve %s: tag: got %q, want letters, digits and ._- (at most 128)", r, clip(tag))
	}
	return r.back.head(ctx, tag)
}

// Manifest reads the manifest whose digest is h: at most [MaxManifest] bytes,
// the digest computed from them. Other bytes are a [*DigestError], what is no
// manifest is [Malformed].
func (r *Repository) Manifest(ctx context.Context, h v1.Hash) (*Manifest, error) {
	if err := checkDigest(h); err != nil {
		return nil, fmt.Errorf("get manifest of %s: %w", r, err)
	}
	doc, err := r.back.manifest(ctx, h.String())
	if err != nil {
		return nil, err
	}
	if got := digestOf(doc.body); got != h {
		return nil, &DigestError{Object: "manifest " + object(r.name, h.String()), What: "sha256", Got: got.String(), Want: h.String()}
	}
	return r.parse(doc, h.String())
}

// Tagged reads the manifest that a tag points at, in one request. Its digest is
// that of what came: a tag is bound to nothing.
func (r *Repository) Tagged(ctx context.Context, tag string) (*Manifest, error) {
	if !tagPattern.MatchString(tag) {
		return nil, fmt.Errorf("get manifest of %s: tag: got %q, want letters, digits and ._- (at most 128)", r, clip(tag))
	}
	doc, err := r.back.manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	return r.parse(doc, tag)
}

func (r *Repository) parse(doc *document, ref string) (*Manifest, error) {
	m, err := parseManifest(doc.body, doc.contentType)
	if err != nil {
		return nil, &fault{kind: malformed, op: "parse manifest", object: object(r.name, ref), err: err}
	}
	return m, nil
}

// Blob opens the blob that d describes, for the caller to close. Size and
// digest are checked while it is read: the last Read returns a [*DigestError]
// instead of io.EOF when they differ, and not a byte beyond d.Size is returned.
// The URLs in d are never used.
func (r *Repository) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptors([]v1.Descriptor{d}, 1); err != nil {
		return nil, &fault{kind: malformed, op: "get blob of", object: r.name, err: err}
	}
	rc, err := r.back.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	return newVerifier(rc, d, "blob "+object(r.name, d.Digest.String())), nil
}

// ReadBlob reads the whole blob that d describes. One that claims more than
// most bytes is refused before anything is fetched, as [Malformed].
func (r *Repository) ReadBlob(ctx context.Context, d v1.Descriptor, most int64) ([]byte, error) {
	if d.Size > most {
		return nil, badContent("get blob", object(r.name, d.Digest.String()), "it has %d bytes, want at most %d", d.Size, most)
	}
	rc, err := r.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// Referrers lists the manifests whose subject is h, sorted by digest: what the
// referrers API says and what the fallback tag lists. An error means that the
// list is not known; an empty list means that both sources have answered.
//
// Nothing is filtered: the artifactType of a descriptor is a hint that some
// writers leave empty or set to [artifact.EmptyMediaType].
func (r *Repository) Referrers(ctx context.Context, h v1.Hash) ([]v1.Descriptor, error) {
	l, err := r.listings(ctx, h)
	if err != nil {
		return nil, err
	}
	list := mergeReferrers(l.fromAPI, l.fromTag)
	if len(list) > MaxEntries {
		return nil, badContent("list referrers of", object(r.name, h.String()), "got %d, want at most %d", len(list), MaxEntries)
	}
	return list, nil
}

// listings is what the two places say that list referrers.
type listings struct {
	api              referrersAPI
	fromAPI, fromTag []v1.Descriptor
}

// listings asks both.
func (r *Repository) listings(ctx context.Context, h v1.Hash) (*listings, error) {
	if err := checkDigest(h); err != nil {
		return nil, fmt.Errorf("list referrers in %s: %w", r, err)
	}
	l := &listings{}
	var g errgroup.Group // not WithContext: of two errors the one that came first would be chance
	g.Go(func() (err error) { l.fromAPI, l.api, err = r.back.referrers(ctx, h); return err })
	g.Go(func() (err error) { l.fromTag, err = r.fallback(ctx, h); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return l, nil
}

// fallback reads the fallback tag of h. None is an empty list.
func (r *Repository) fallback(ctx context.Context, h v1.Hash) ([]v1.Descriptor, error) {
	m, err := r.Tagged(ctx, fallbackTag(h))
	if NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ix, err := m.Index()
	if err != nil {
		return nil, fmt.Errorf("fallback tag in %s: %w", r, err)
	}
	return ix.Manifests, nil
}

// Tag makes tag point at the manifest h, which must be there. A tag that
// points there already is left alone; one that points elsewhere is a
// [*Changed], and stays.
func (r *Repository) Tag(ctx context.Context, tag string, h v1.Hash) error {
	return r.move(ctx, tag, h, false)
}

// Retag is [Repository.Tag] that also moves a tag from another digest.
func (r *Repository) Retag(ctx context.Context, tag string, h v1.Hash) error {
	return r.move(ctx, tag, h, true)
}

func (r *Repository) move(ctx context.Context, tag string, h v1.Hash, overwrite bool) error {
	m, err := r.Manifest(ctx, h)
	if err != nil {
		return err
	}
	_, _, err = r.moveTo(ctx, tag, m, overwrite)
	return err
}

// moveTo makes tag point at m, and returns when the repository shows it. It
// looks right before it writes, so that of two releases at once the second sees
// the first. moved is false when it was there; was is where it pointed else.
func (r *Repository) moveTo(ctx context.Context, tag string, m *Manifest, overwrite bool) (was v1.Hash, moved bool, err error) {
	want := m.Descriptor.Digest
	at, err := r.Resolve(ctx, tag)
	switch {
	case NotFound(err):
	case err != nil:
		return was, false, err
	case at.Digest == want:
		return was, false, nil
	case !overwrite:
		return was, false, &Changed{Repository: r.name, Tag: tag, Got: at.Digest, Want: want}
	}
	was = at.Digest
	err = r.back.putManifest(ctx, tag, m)
	if err == nil {
		return was, true, r.shows(ctx, tag, was, want)
	}
	if Unreachable(err) || ctx.Err() != nil {
		return was, false, err
	}
	// An immutable tag is refused with 400, 403 or 409, also when it already
	// points where it should: somebody may have been faster.
	if at, again := r.Resolve(ctx, tag); again == nil {
		if at.Digest == want {
			return was, false, nil
		}
		err = errors.Join(&Changed{Repository: r.name, Tag: tag, Got: at.Digest, Want: want}, err)
	}
	return was, false, err
}
