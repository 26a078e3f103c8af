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
// caller, with [Repository.Tag], once Copy has returned. [Client.PrepareCopies]
// is for several destinations.
//
// What dst has is not sent again, so a copy that was interrupted goes on where
// it stopped. A source that cannot say what its referrers are is an error.
func (c *Client) Copy(ctx context.Context, src *Repository, h v1.Hash, dst *Repository, o CopyOptions) (Receipt, error) {
	start := time.Now()
	copies, err := c.PrepareCopies(ctx, src, h, o, dst)
	if err != nil {
		err = fmt.Errorf("to %s: %w", dst, err)
		return Receipt{Repository: dst.name, Digest: h, Err: err}, err
	}
	r := copies.Run(ctx, func(int) bool { return true })[0]
	r.Took = time.Since(start)
	return r, r.Err
}

// Copies are copies of one thing that have been planned and not yet made. The
// context of [Client.PrepareCopies] must outlive them.
type Copies struct {
	src        *Repository
	digest     v1.Hash
	deliveries []*delivery // one for each destination, in order
	errs       []error     // why it could not be asked what it has
}

// PrepareCopies reads once what belongs to h, and asks each destination what it
// lacks of that. It changes nothing. A destination that cannot be asked does not
// hold up the others: see [Copies.Steps].
func (c *Client) PrepareCopies(ctx context.Context, src *Repository, h v1.Hash, o CopyOptions, dst ...*Repository) (*Copies, error) {
	ship, err := c.loadShipment(ctx, src, h, dst)
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", object(src.name, h.String()), err)
	}
	ship.check = o.Check
	if o.WithoutSignatureTags {
		ship.dropSignatureTags()
	}
	all := &Copies{src: src, digest: h, errs: make([]error, len(dst))}
	shared := &common{hub: newHub(ctx)}
	var g errgroup.Group
	for i, to := range dst {
		d := c.newDelivery(to, ship, shared)
		d.thorough = o.Thorough
		all.deliveries = append(all.deliveries, d)
		g.Go(func() error { all.errs[i] = all.explain(d, d.survey(ctx)); return nil })
	}
	g.Wait() // a failure is one of errs
	return all, nil
}

// loadShipment reads what belongs to h.
func (c *Client) loadShipment(ctx context.Context, src *Repository, h v1.Hash, dst []*Repository) (*shipment, error) {
	for _, to := range dst {
		if src.name == to.name {
			return nil, fmt.Errorf("to %s: source and destination are the same", to)
		}
	}
	if err := checkDigest(h); err != nil {
		return nil, err
	}
	l := &loader{client: c, src: src, slots: make(chan struct{}, lookups)}
	ship, err := l.load(ctx, h)
	if err != nil {
		return nil, err
	}
	for _, b := range sources(slices.Concat(ship.stages()...)) {
		c.shelf.note(src, b.desc.Digest)
	}
	return ship, nil
}

// explain says which copy an error is about.
func (cs *Copies) explain(d *delivery, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copy %s to %s: %w", object(cs.src.name, cs.digest.String()), d.repo, err)
}

// Steps returns what the copy to the nth destination would do, in order,
// including what it found done; or why that is not known.
func (cs *Copies) Steps(n int) ([]Step, error) { return cs.deliveries[n].steps, cs.errs[n] }

// Run makes those copies that only agrees to, side by side: each blob is read
// once for all. It returns a receipt for each destination; that of one which
// was left out says what is there. It may be called once.
func (cs *Copies) Run(ctx context.Context, only func(n int) bool) []Receipt {
	for n, d := range cs.deliveries {
		if cs.errs[n] == nil && only(n) {
			d.repo.back.willWrite()
			d.claim()
		}
	}
	var g errgroup.Group
	for n := range cs.deliveries {
		if only(n) {
			g.Go(func() error { cs.run(ctx, n); return nil })
		}
	}
	g.Wait() // a failure is a receipt
	receipts := make([]Receipt, len(cs.deliveries))
	for n, d := range cs.deliveries {
		receipts[n] = d.receipt
	}
	return receipts
}

// run makes the copy to the nth destination.
func (cs *Copies) run(ctx context.Context, n int) {
	d, err, start := cs.deliveries[n], cs.errs[n], time.Now()
	defer d.settleAll()
	for _, do := range []func(context.Context) error{d.bring, d.check, d.tag} {
		if err == nil {
			err = cs.explain(d, do(ctx))
		}
	}
	d.receipt.Took, d.receipt.Err = time.Since(start), err
}

// Tag makes tag point at what was copied to the nth destination: as
// [Repository.Tag], or with overwrite as [Repository.Retag].
func (cs *Copies) Tag(ctx context.Context, n int, tag string, overwrite bool) error {
	d := cs.deliveries[n]
	_, _, err := d.repo.moveTo(ctx, tag, d.ship.root.manifest, overwrite)
	return err
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
	m, err := l.src.Tagged(ctx, tag)
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
