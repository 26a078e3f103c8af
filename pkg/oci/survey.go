package oci

import (
	"context"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// lookups is how many questions are asked of one destination at once. They are
// small, and each costs a round trip.
const lookups = 32

// delivery is a shipment on its way to one repository: first what is missing
// there (survey), then bringing it (deliver.go).
type delivery struct {
	client    *Client
	repo      *Repository
	ship      *shipment
	tags      []string
	overwrite bool
	hub       *hub

	// Filled by survey.
	blobs   []source              // that are missing
	puts    map[v1.Hash]bool      // manifests that are missing
	attach  map[v1.Hash][]*parcel // attachments that their subject does not list, by subject
	sign    map[string]*parcel    // legacy tags that lack a signature
	move    []string              // tags that do not point at the root
	steps   []Step
	tickets map[v1.Hash]*ticket // for the missing blobs; from prepare on

	mu      sync.Mutex // guards what follows
	receipt Receipt
}

// survey asks the destination what it has. It changes nothing, there or here.
//
// A tag that points elsewhere is found now, before anything is uploaded.
func (d *delivery) survey(ctx context.Context) error {
	legacy, err := d.ship.legacy(ctx, d.repo)
	if err != nil {
		return err
	}
	parcels := slices.Concat(d.ship.stages()...)
	wanted := sources(append(slices.Clone(parcels), sortedParcels(legacy)...))
	found, err := d.look(ctx, parcels, legacy, wanted)
	if err != nil {
		return err
	}
	for i, b := range wanted {
		if !found.blobs[i] {
			d.blobs = append(d.blobs, b)
		}
		d.step(Step{Verb: "upload", Object: string(b.desc.MediaType), Digest: b.desc.Digest, Size: b.desc.Size, Done: found.blobs[i]})
	}
	d.puts = make(map[v1.Hash]bool)
	for i, p := range parcels {
		d.puts[p.digest()] = !found.manifests[i]
	}
	if err := d.surveyListed(ctx); err != nil {
		return err
	}
	d.planManifests()
	d.planTags(legacy, found)
	return nil
}

// found is what a destination has, in the order of what was looked for.
type found struct{ blobs, manifests, signatures, tags []bool }

// look asks for everything at once: each question costs a round trip.
func (d *delivery) look(ctx context.Context, parcels []*parcel, legacy map[string]*parcel, wanted []source) (*found, error) {
	f := &found{
		blobs: make([]bool, len(wanted)), manifests: make([]bool, len(parcels)),
		signatures: make([]bool, len(legacy)), tags: make([]bool, len(d.tags)),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, tag := range d.tags { // first: what they say may end it all
		g.Go(func() (err error) { f.tags[i], err = d.pointsHere(ctx, tag); return err })
	}
	for i, p := range parcels {
		g.Go(func() (err error) { f.manifests[i], err = d.has(ctx, p); return err })
	}
	for i, tag := range sortedKeys(legacy) {
		g.Go(func() (err error) { f.signatures[i], err = d.isSigned(ctx, tag, legacy[tag]); return err })
	}
	for i, b := range wanted {
		g.Go(func() (err error) { f.blobs[i], err = d.repo.back.hasBlob(ctx, b.desc); return err })
	}
	return f, g.Wait()
}

// pointsHere reports whether the tag points at the root already.
func (d *delivery) pointsHere(ctx context.Context, tag string) (bool, error) {
	at, err := d.repo.Resolve(ctx, tag)
	switch want := d.ship.root.digest(); {
	case NotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case at.Digest == want:
		return true, nil
	case !d.overwrite:
		return false, &Changed{Repository: d.repo.name, Tag: tag, Got: at.Digest, Want: want}
	}
	return false, nil
}

// has reports whether the manifest is there.
func (d *delivery) has(ctx context.Context, p *parcel) (bool, error) {
	at, err := d.repo.back.head(ctx, p.digest().String())
	if NotFound(err) {
		return false, nil
	}
	return err == nil && at.Digest == p.digest(), err
}

// isSigned reports whether the legacy tag has all signatures of p.
func (d *delivery) isSigned(ctx context.Context, tag string, p *parcel) (bool, error) {
	old, err := d.repo.tagged(ctx, tag)
	if NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	missing, err := missingLayers(old, p)
	return len(missing) == 0, err
}

// surveyListed finds the attachments that their subject does not list. Those
// whose manifest is missing are not; for the others somebody has to be asked.
func (d *delivery) surveyListed(ctx context.Context) error {
	d.attach = bySubject(d.ship.attached)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for subject, all := range bySubject(d.ship.attached) {
		if !slices.ContainsFunc(all, func(p *parcel) bool { return !d.puts[p.digest()] }) {
			continue
		}
		g.Go(func() error {
			listed, err := d.repo.Referrers(gctx, subject)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			d.attach[subject] = slices.DeleteFunc(d.attach[subject], func(p *parcel) bool {
				return !d.puts[p.digest()] && lists(listed, p.digest())
			})
			return nil
		})
	}
	return g.Wait()
}

// planManifests turns what is missing into steps, in the order of deliver.
func (d *delivery) planManifests() {
	for _, p := range slices.Concat(d.ship.content...) {
		m := p.manifest.Descriptor
		d.step(Step{Verb: "put", Object: string(m.MediaType), Digest: m.Digest, Size: m.Size, Done: !d.puts[m.Digest]})
	}
	for _, p := range slices.Concat(d.ship.attached...) {
		m := p.listed
		unlisted := slices.ContainsFunc(d.attach[p.subject], func(q *parcel) bool { return q.digest() == m.Digest })
		d.step(Step{Verb: "attach", Object: m.ArtifactType, Digest: m.Digest, Size: m.Size, Done: !d.puts[m.Digest] && !unlisted})
	}
}

func (d *delivery) planTags(legacy map[string]*parcel, f *found) {
	d.sign = make(map[string]*parcel)
	for i, tag := range sortedKeys(legacy) {
		m := legacy[tag].manifest.Descriptor
		if !f.signatures[i] {
			d.sign[tag] = legacy[tag]
		}
		d.step(Step{Verb: "sign", Object: tag, Digest: m.Digest, Size: m.Size, Done: f.signatures[i]})
	}
	root := d.ship.root.manifest.Descriptor
	for i, tag := range d.tags {
		if !f.tags[i] {
			d.move = append(d.move, tag)
		}
		d.step(Step{Verb: "tag", Object: tag, Digest: root.Digest, Size: root.Size, Done: f.tags[i]})
	}
}

func (d *delivery) step(s Step) {
	s.Repository = d.repo.name
	d.steps = append(d.steps, s)
	if s.Done && s.Verb != "tag" {
		d.receipt.Present++
	}
}

// bySubject groups attachments by what they refer to.
func bySubject(stages [][]*parcel) map[v1.Hash][]*parcel {
	m := make(map[v1.Hash][]*parcel)
	for _, p := range slices.Concat(stages...) {
		if p.subject != (v1.Hash{}) { // the children of an index that is attached have none
			m[p.subject] = append(m[p.subject], p)
		}
	}
	return m
}

func lists(ds []v1.Descriptor, h v1.Hash) bool {
	return slices.ContainsFunc(ds, func(d v1.Descriptor) bool { return d.Digest == h })
}

func sortedKeys(m map[string]*parcel) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func sortedParcels(m map[string]*parcel) []*parcel {
	var ps []*parcel
	for _, k := range sortedKeys(m) {
		ps = append(ps, m[k])
	}
	return ps
}

// deliveries resolves the destinations of a release.
func (c *Client) deliveries(ctx context.Context, r Release, to []Destination) ([]*delivery, error) {
	ship, err := pack(r)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("publish %s: no destination", ship.root.digest())
	}
	h := newHub(ctx)
	ds := make([]*delivery, len(to))
	names := make(map[string]bool)
	for i, dest := range to {
		repo, err := c.Repository(dest.Repository)
		if err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
		if names[repo.name] {
			return nil, fmt.Errorf("publish: %s is a destination twice", repo)
		}
		names[repo.name] = true
		ds[i] = c.newDelivery(repo, ship, h)
		ds[i].tags, ds[i].overwrite = slices.Compact(slices.Sorted(slices.Values(r.Tags))), r.Overwrite
	}
	return ds, nil
}

func (c *Client) newDelivery(repo *Repository, ship *shipment, h *hub) *delivery {
	return &delivery{
		client: c, repo: repo, ship: ship, hub: h,
		tickets: make(map[v1.Hash]*ticket), receipt: Receipt{Repository: repo.name, Digest: ship.root.digest()},
	}
}

// Plan returns what [Client.Publish] would do at each destination, in order,
// including what it would find done. It changes nothing.
//
// Destinations that could not be asked, or have a tag that points elsewhere,
// are in the error; the steps of the others are complete.
func (c *Client) Plan(ctx context.Context, r Release, to ...Destination) ([]Step, error) {
	ds, err := c.deliveries(ctx, r, to)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(ds))
	var g errgroup.Group
	for i, d := range ds {
		g.Go(func() error { errs[i] = d.survey(ctx); return nil })
	}
	g.Wait() // the functions return no error
	var steps []Step
	for i, d := range ds {
		if errs[i] == nil {
			steps = append(steps, d.steps...)
		}
	}
	return steps, joinNamed(ds, errs)
}
