package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Taggable is what a release is about: a v1.Image or a v1.ImageIndex.
type Taggable interface {
	MediaType() (types.MediaType, error)
	RawManifest() ([]byte, error)
}

// Attachment is a referrer: an image whose manifest has a subject, such as a
// signature or an SBOM.
type Attachment struct {
	Subject v1.Hash // must be the subject in the manifest: the release itself or a part of it
	Image   v1.Image
}

// Release is everything that [Client.Publish] brings to each destination. It
// is complete before the first byte leaves.
type Release struct {
	Subject     Taggable
	From        *Repository // that Subject was loaded from: its registry has the blobs, and can mount them; nil: none
	Attachments []Attachment
	Tags        []string             // set last; none: the release is reachable by digest only
	PartTags    map[v1.Hash][]string // tags of parts, such as the image of one platform; set before Tags
	Overwrite   string               // why tags that point at another digest are moved; "": they are not, that is a [*Changed]
	Thorough    bool                 // ask for every blob, also where the manifest that names it is there

	// Signatures makes the images for the legacy tags ("sha256-<hex>.sig", ".att")
	// of the release and its parts, by tag. It is asked for each repository,
	// because such a signature names it. nil: none.
	Signatures func(ctx context.Context, repository string) (map[string]v1.Image, error)

	// Check decides whether the release, read back from r, may get its tags.
	// nil: all manifests must read back as they are and list their attachments.
	Check func(ctx context.Context, r *Repository, h v1.Hash) error
}

// Destination is where a release goes.
type Destination struct {
	Repository string // as [Client.Repository] takes it
	BestEffort bool   // its failure holds nothing up and is only in its receipt
	// FallbackTags is that of an earlier receipt: the registry had no referrers
	// API. Whether everything is there is then asked at the fallback tags alone,
	// which saves a question; before anything is listed it is found out again.
	FallbackTags bool
}

// Receipt says what happened at one destination.
type Receipt struct {
	Repository string
	Digest     v1.Hash
	Tags       []string // that point at Digest, or at a part of it, now
	Replaced   []Replaced
	Uploaded   int   // blobs and manifests that were sent
	Present    int   // that were there already
	Mounted    int   // blobs that the registry took from another of its repositories
	Bytes      int64 // of what was sent
	Took       time.Duration
	// FallbackTags: what refers to the release is listed under fallback tags
	// alone, since the registry has no referrers API.
	FallbackTags bool
	Err          error // nil: everything is there, checked and tagged
}

// Replaced is a tag that was moved although it pointed elsewhere.
type Replaced struct {
	Tag string
	Was v1.Hash
}

// Step is one thing that [Client.Publish] does, or has found done.
type Step struct {
	Repository string
	Verb       string // "upload" a blob, "put" a manifest, "attach" a referrer, "sign" by a legacy tag, "tag"
	Object     string // the tag, or else the media type
	Digest     v1.Hash
	Size       int64
	Done       bool // it is there already
}

// parcel is a manifest and the blobs that it needs.
type parcel struct {
	manifest *Manifest
	blobs    []source
	subject  v1.Hash       // what it refers to; zero: nothing
	listed   v1.Descriptor // how a referrers list describes it
}

func (p *parcel) digest() v1.Hash { return p.manifest.Descriptor.Digest }

// shipment is what goes to every destination. In each stage the parcels need
// only what earlier stages brought.
type shipment struct {
	root     *parcel
	content  [][]*parcel // images, indexes of them, … and last the root
	attached [][]*parcel // referrers, in the same way
	tags     []tagging
	// legacy returns the parcels for signature tags in r, by tag.
	legacy func(ctx context.Context, r *Repository) (map[string]*parcel, error)
	// check is that of [Release].
	check func(ctx context.Context, r *Repository, h v1.Hash) error
}

// stages returns content and attachments in the order in which they may be put.
func (s *shipment) stages() [][]*parcel { return slices.Concat(s.content, s.attached) }

// sources returns each blob of the shipment once.
func sources(parcels []*parcel) []source {
	seen := make(map[v1.Hash]bool)
	var all []source
	for _, p := range parcels {
		for _, b := range p.blobs {
			if !seen[b.desc.Digest] {
				seen[b.desc.Digest] = true
				all = append(all, b)
			}
		}
	}
	return all
}

// pack turns a release into a shipment. It refuses what a registry would, or
// should: manifests above 4 MiB, layers that must not be distributed,
// attachments of something else.
func pack(r Release) (*shipment, error) {
	s := &shipment{check: r.Check}
	var err error
	if s.content, err = packTree(r.Subject, 0); err != nil {
		return nil, err
	}
	s.root = s.content[len(s.content)-1][0]
	parts := make(map[v1.Hash]*parcel)
	for _, p := range slices.Concat(s.content...) {
		parts[p.digest()] = p
	}
	var attached []*parcel
	for i, a := range r.Attachments {
		p, err := packImage(a.Image)
		if err != nil {
			return nil, fmt.Errorf("attachment %d: %w", i, err)
		}
		if p.subject != a.Subject || parts[a.Subject] == nil {
			return nil, fmt.Errorf("attachment %d: subject: got %s, want %s, a part of the release", i, p.subject, a.Subject)
		}
		attached = append(attached, p)
	}
	if len(attached) > 0 {
		s.attached = [][]*parcel{attached}
	}
	if s.tags, err = packTags(r, s.root, parts); err != nil {
		return nil, err
	}
	s.legacy = func(ctx context.Context, to *Repository) (map[string]*parcel, error) {
		return packSignatures(ctx, r, parts, to)
	}
	return s, nil
}

// packSignatures asks for the signatures that name the repository.
func packSignatures(ctx context.Context, r Release, parts map[v1.Hash]*parcel, to *Repository) (map[string]*parcel, error) {
	if r.Signatures == nil {
		return nil, nil
	}
	images, err := r.Signatures(ctx, to.String())
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", to, err)
	}
	tags := make(map[string]*parcel, len(images))
	for tag, img := range images {
		if !isLegacyTag(tag, parts) {
			return nil, fmt.Errorf("sign for %s: tag %q is no signature of a part of the release", to, tag)
		}
		if tags[tag], err = packImage(img); err != nil {
			return nil, fmt.Errorf("sign for %s: %w", to, err)
		}
	}
	return tags, nil
}

// isLegacyTag reports whether the tag is where signatures or attestations of one
// of the parts are.
func isLegacyTag(tag string, parts map[v1.Hash]*parcel) bool {
	for h := range parts {
		if tag == fallbackTag(h)+".sig" || tag == fallbackTag(h)+".att" {
			return true
		}
	}
	return false
}

// maxDepth is how deep indexes may hold indexes, and referrers referrers.
const maxDepth = 4

// packTree returns the stages of an image or index.
func packTree(t Taggable, depth int) ([][]*parcel, error) {
	switch t := t.(type) {
	case v1.Image:
		p, err := packImage(t)
		return [][]*parcel{{p}}, err
	case v1.ImageIndex:
		return packIndex(t, depth)
	}
	return nil, fmt.Errorf("publish %T: want an image or an index", t)
}

func packIndex(ix v1.ImageIndex, depth int) ([][]*parcel, error) {
	if depth >= maxDepth {
		return nil, fmt.Errorf("indexes nested deeper than %d", maxDepth)
	}
	m, err := ownManifest(ix)
	if err != nil {
		return nil, err
	}
	list, err := m.Index()
	if err != nil {
		return nil, err
	}
	var stages [][]*parcel
	for _, d := range list.Manifests {
		var child Taggable
		if d.MediaType.IsIndex() {
			child, err = ix.ImageIndex(d.Digest)
		} else {
			child, err = ix.Image(d.Digest)
		}
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", m.Descriptor.Digest, err)
		}
		below, err := packTree(child, depth+1)
		if err != nil {
			return nil, err
		}
		if got := below[len(below)-1][0].manifest.Descriptor; !sameContent(got, d) {
			return nil, fmt.Errorf("index %s: entry: got %s of %d bytes, want %s of %d", m.Descriptor.Digest, got.Digest, got.Size, d.Digest, d.Size)
		}
		stages = joinStages(stages, below)
	}
	p, err := newParcel(m, nil)
	return append(stages, []*parcel{p}), err
}

// joinStages puts two trees side by side, each manifest once.
func joinStages(a, b [][]*parcel) [][]*parcel {
	for i, stage := range b {
		if i == len(a) {
			a = append(a, nil)
		}
		for _, p := range stage {
			if !slices.ContainsFunc(a[i], func(q *parcel) bool { return q.digest() == p.digest() }) {
				a[i] = append(a[i], p)
			}
		}
	}
	return a
}

func packImage(img v1.Image) (*parcel, error) {
	if img == nil {
		return nil, errors.New("no image")
	}
	m, err := ownManifest(img)
	if err != nil {
		return nil, err
	}
	im, err := m.Image()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image %s: configuration: %w", m.Descriptor.Digest, err)
	}
	blobs := []source{{desc: im.Config, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(config)), nil
	}}}
	for _, d := range im.Layers {
		if !d.MediaType.IsDistributable() {
			return nil, fmt.Errorf("image %s: layer %s is %s, which must not be distributed", m.Descriptor.Digest, d.Digest, d.MediaType)
		}
		blobs = append(blobs, source{desc: d, open: func(context.Context) (io.ReadCloser, error) {
			l, err := img.LayerByDigest(d.Digest)
			if err != nil {
				return nil, err
			}
			return l.Compressed()
		}})
	}
	return newParcel(m, blobs)
}

func newParcel(m *Manifest, blobs []source) (*parcel, error) {
	subject, listed, err := m.subject()
	if err != nil {
		return nil, err
	}
	p := &parcel{manifest: m, blobs: blobs, listed: listed}
	if subject != nil {
		p.subject = subject.Digest
	}
	return p, nil
}

// ownManifest is as strict with what we made as with what we read.
func ownManifest(t Taggable) (*Manifest, error) {
	body, err := t.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	mediaType, err := t.MediaType()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return ParseManifest(body, string(mediaType))
}
