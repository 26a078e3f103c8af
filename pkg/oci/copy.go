package oci

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// maxGraph is how many bytes of manifests one copy may consist of.
const maxGraph = 64 << 20

// CopyOptions are the choices of [Client.Copy].
type CopyOptions struct {
	// Check is that of [Release]: it decides whether the copy, read back from
	// the destination, is good. nil: all manifests must read back as they are.
	Check func(ctx context.Context, r *Repository, h v1.Hash) error
	// Thorough is that of [Release].
	Thorough bool
	// WithoutSignatureTags leaves the ".sig" tags out: what they sign names the
	// repository that it was made for.
	WithoutSignatureTags bool
}

// Copy brings the manifest h with everything that belongs to it from src to
// dst: its children, every referrer of it and of them, referrers of those, and
// the legacy tags ("sha256-<hex>.sig", ".att", ".sbom") of h and its children.
// Every manifest arrives byte for byte. It moves no other tag: that is for the
// caller, with [Repository.Tag], once Copy has returned.
//
// What dst has is not sent again, so a copy that was interrupted goes on where
// it stopped. A source that cannot say what its referrers are is an error.
func (c *Client) Copy(ctx context.Context, src *Repository, h v1.Hash, dst *Repository, o CopyOptions) (Receipt, error) {
	start := time.Now()
	d, err := c.copying(ctx, src, h, dst)
	if err != nil {
		return Receipt{Repository: dst.name, Digest: h, Err: err}, err
	}
	d.ship.check, d.thorough = o.Check, o.Thorough
	if o.WithoutSignatureTags {
		d.ship.dropSignatureTags()
	}
	if err = d.alone(ctx); err != nil {
		err = fmt.Errorf("copy %s to %s: %w", object(src.name, h.String()), dst, err)
	}
	d.receipt.Took, d.receipt.Err = time.Since(start), err
	return d.receipt, err
}

// dropSignatureTags leaves out what names the repository that it was made for.
func (s *shipment) dropSignatureTags() {
	all := s.legacy
	s.legacy = func(ctx context.Context, r *Repository) (map[string]*parcel, error) {
		tags, err := all(ctx, r)
		maps.DeleteFunc(tags, func(tag string, _ *parcel) bool { return strings.HasSuffix(tag, ".sig") })
		return tags, err
	}
}

// alone is a delivery that waits for no other.
func (d *delivery) alone(ctx context.Context) error {
	defer d.settleAll()
	for _, do := range []func(context.Context) error{d.prepare, d.bring, d.check, d.tag} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// PlanCopy returns what [Client.Copy] would do, in order, including what it
// would find done. It changes nothing.
func (c *Client) PlanCopy(ctx context.Context, src *Repository, h v1.Hash, dst *Repository) ([]Step, error) {
	d, err := c.copying(ctx, src, h, dst)
	if err != nil {
		return nil, err
	}
	if err := d.survey(ctx); err != nil {
		return nil, fmt.Errorf("copy %s to %s: %w", object(src.name, h.String()), dst, err)
	}
	return d.steps, nil
}

// copying reads the graph of h.
func (c *Client) copying(ctx context.Context, src *Repository, h v1.Hash, dst *Repository) (*delivery, error) {
	fail := func(err error) (*delivery, error) {
		return nil, fmt.Errorf("copy %s to %s: %w", object(src.name, h.String()), dst, err)
	}
	if src.name == dst.name {
		return fail(fmt.Errorf("source and destination are the same"))
	}
	if err := checkDigest(h); err != nil {
		return fail(err)
	}
	l := &loader{client: c, src: src, slots: make(chan struct{}, lookups)}
	ship, err := l.load(ctx, h)
	if err != nil {
		return fail(err)
	}
	for _, b := range sources(slices.Concat(ship.stages()...)) {
		c.shelf.note(src, b.desc.Digest)
	}
	return c.newDelivery(dst, ship, &common{hub: newHub(ctx)}), nil
}

// loader reads a graph of manifests.
type loader struct {
	client *Client
	src    *Repository
	slots  chan struct{} // as many manifests are read at once

	mu    sync.Mutex
	count int // manifests that were read
	bytes int64
}

// load reads what belongs to h into a shipment.
func (l *loader) load(ctx context.Context, h v1.Hash) (*shipment, error) {
	content, err := l.tree(ctx, h, 0)
	if err != nil {
		return nil, err
	}
	s := &shipment{root: content[len(content)-1][0], content: content}
	legacy := make(map[string]*parcel)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		s.attached, err = l.attached(gctx, slices.Concat(content...), 0)
		return err
	})
	for _, p := range slices.Concat(content...) {
		for _, suffix := range []string{".sig", ".att", ".sbom"} {
			g.Go(func() error { return l.legacyTag(gctx, fallbackTag(p.digest())+suffix, legacy) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	s.legacy = func(context.Context, *Repository) (map[string]*parcel, error) { return legacy, nil }
	return s, nil
}

// tree reads a manifest and what it is an index of, as stages.
func (l *loader) tree(ctx context.Context, h v1.Hash, depth int) ([][]*parcel, error) {
	m, err := l.manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		p, err := l.image(m)
		return [][]*parcel{{p}}, err
	}
	if depth >= maxDepth {
		return nil, m.malformed(fmt.Errorf("indexes nested deeper than %d", maxDepth))
	}
	ix, err := m.Index()
	if err != nil {
		return nil, err
	}
	below := make([][][]*parcel, len(ix.Manifests))
	g, gctx := errgroup.WithContext(ctx)
	for i, d := range ix.Manifests {
		g.Go(func() (err error) {
			if below[i], err = l.tree(gctx, d.Digest, depth+1); err != nil {
				return err
			}
			if got := below[i][len(below[i])-1][0].manifest.Descriptor; !sameContent(got, d) {
				err = m.malformed(fmt.Errorf("entry %d: says %s of %d bytes, is %s of %d", i, d.MediaType, d.Size, got.MediaType, got.Size))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var stages [][]*parcel
	for _, b := range below {
		stages = joinStages(stages, b)
	}
	p, err := newParcel(m, nil)
	return append(stages, []*parcel{p}), err
}

// manifest reads one manifest and counts it.
func (l *loader) manifest(ctx context.Context, h v1.Hash) (*Manifest, error) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	m, err := l.src.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	l.bytes += m.Descriptor.Size
	if l.count > MaxEntries || l.bytes > maxGraph {
		return nil, m.malformed(fmt.Errorf("more than %d manifests or %d bytes of them belong together", MaxEntries, maxGraph))
	}
	return m, nil
}

// image makes a parcel whose blobs come from the source. Layers that must not
// be distributed are left where they are, as every other client does; the URLs
// that some of them have are not asked.
func (l *loader) image(m *Manifest) (*parcel, error) {
	im, err := m.Image()
	if err != nil {
		return nil, err
	}
	var blobs []source
	for _, d := range append([]v1.Descriptor{im.Config}, im.Layers...) {
		if d.MediaType.IsDistributable() {
			blobs = append(blobs, source{desc: d, open: func(ctx context.Context) (io.ReadCloser, error) { return l.src.back.blob(ctx, d) }})
		}
	}
	return newParcel(m, blobs)
}

// attached reads the referrers of parcels, and their referrers, as stages.
func (l *loader) attached(ctx context.Context, parcels []*parcel, depth int) ([][]*parcel, error) {
	if depth >= maxDepth {
		return nil, nil
	}
	below := make([][][]*parcel, len(parcels))
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range parcels {
		g.Go(func() (err error) {
			below[i], err = l.referrersOf(gctx, p.digest())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var stages [][]*parcel
	for _, b := range below {
		stages = joinStages(stages, b)
	}
	if len(stages) == 0 {
		return nil, nil
	}
	further, err := l.attached(ctx, slices.Concat(stages...), depth+1)
	return joinStages(stages, further), err
}

// referrersOf reads the referrers of one manifest. What is listed without
// being there, or without being a referrer, is left out: it is nothing that
// could be copied.
func (l *loader) referrersOf(ctx context.Context, subject v1.Hash) ([][]*parcel, error) {
	list, err := l.src.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	trees := make([][][]*parcel, len(list))
	g, gctx := errgroup.WithContext(ctx)
	for i, d := range list {
		g.Go(func() (err error) {
			trees[i], err = l.referrer(gctx, subject, d.Digest)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var stages [][]*parcel
	for _, t := range trees {
		stages = joinStages(stages, t)
	}
	return stages, nil
}

// referrer reads one referrer, nil when it is to be left out. What another
// list has named before is read again: that list may have been wrong.
func (l *loader) referrer(ctx context.Context, subject, h v1.Hash) ([][]*parcel, error) {
	tree, err := l.tree(ctx, h, 0)
	why := "it is listed, but not there"
	switch {
	case NotFound(err):
	case err != nil:
		return nil, err
	case tree[len(tree)-1][0].subject != subject:
		why = "it refers to something else"
	default:
		return tree, nil
	}
	l.client.log().Warn("referrer left out", "repo", l.src.name, "subject", subject, "digest", h, "why", why)
	return nil, nil
}

// legacyTag reads what a signature tag points at, if there is one.
func (l *loader) legacyTag(ctx context.Context, tag string, into map[string]*parcel) error {
	l.slots <- struct{}{}
	m, err := l.src.tagged(ctx, tag)
	<-l.slots
	if NotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := l.image(m)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	into[tag] = p
	return nil
}
