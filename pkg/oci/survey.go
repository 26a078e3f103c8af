package oci

import (
	"context"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// lookups is how many questions are asked of one destination at once. They are
// small, and each costs a round trip.
const lookups = 32

// tinyBlob is up to which size asking for a blob costs as much as sending it.
const tinyBlob = 16 << 10

// survey is what a destination has of a shipment.
//
// The fewest questions: registries refuse a manifest when they lack what it
// names, so that a tag which points where it should vouches for its manifest, a
// list of referrers for those, and a manifest for its blobs. The children of an
// index are asked for all the same: there registries are lax. Tiny blobs that
// nothing vouches for are not asked for, but sent. In a directory nobody has
// refused anything, and in a thorough delivery nothing is believed: everything
// is asked for.
type survey struct {
	*delivery
	legacy map[string]*parcel // that should be under the signature tags

	mu       sync.Mutex
	at       map[string]v1.Hash          // where the tags point that point elsewhere
	tagged   map[string]bool             // tags that are in place, legacy ones too
	there    map[v1.Hash]bool            // manifests
	blobs    map[v1.Hash]bool            // that are there
	noAPI    bool                        // the first list said so, or an earlier receipt
	listings map[v1.Hash][]v1.Descriptor // by subject
}

// survey asks the destination what it has, in three rounds of questions that
// are asked at once. It changes nothing, there or here.
//
// A tag that points elsewhere is found now, before anything is uploaded.
func (d *delivery) survey(ctx context.Context) error {
	legacy, err := d.ship.legacy(ctx, d.repo)
	if err != nil {
		return err
	}
	s := &survey{
		delivery: d, legacy: legacy, noAPI: d.fallbackTags, at: make(map[string]v1.Hash), tagged: make(map[string]bool),
		there: make(map[v1.Hash]bool), blobs: make(map[v1.Hash]bool), listings: make(map[v1.Hash][]v1.Descriptor),
	}
	for _, ask := range []func(context.Context, *errgroup.Group){s.askTags, s.askManifests, s.askRest} {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(lookups)
		ask(gctx, g)
		if err := g.Wait(); err != nil {
			return err
		}
	}
	s.receipt.FallbackTags = s.noAPI
	s.plan()
	return nil
}

// vouches reports whether what is there needs what it names.
func (s *survey) vouches() bool { return s.repo.back.remote() && !s.thorough }

// note records an answer.
func (s *survey) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// askTags asks for the tags, since what they say may end it all, and how this
// repository lists referrers.
func (s *survey) askTags(ctx context.Context, g *errgroup.Group) {
	for _, t := range s.tags {
		g.Go(func() error { return s.askTag(ctx, t) })
	}
	for tag, p := range s.legacy {
		g.Go(func() error {
			signed, err := s.isSigned(ctx, tag, p)
			s.note(func() { s.tagged[tag] = signed })
			return err
		})
	}
	root := s.ship.root.digest()
	if want := bySubject(s.ship.attached)[root]; len(want) > 0 && !s.noAPI {
		g.Go(func() error {
			list, api, err := s.repo.back.referrers(ctx, root)
			s.note(func() { s.noAPI, s.early, s.listings[root] = api != apiLists, api != apiRefuses, list })
			return err
		})
	}
}

// askTag finds out whether a tag points where it should.
func (s *survey) askTag(ctx context.Context, t tagging) error {
	at, err := s.repo.Resolve(ctx, t.tag)
	switch want := t.parcel.digest(); {
	case NotFound(err):
		return nil
	case err != nil:
		return err
	case at.Digest == want:
		s.note(func() { s.tagged[t.tag], s.there[want] = true, true })
	case s.overwrite == "":
		return &Changed{Repository: s.repo.name, Tag: t.tag, Got: at.Digest, Want: want}
	default:
		s.note(func() { s.at[t.tag] = at.Digest })
	}
	return nil
}

// isSigned reports whether the legacy tag has all signatures of p.
func (d *delivery) isSigned(ctx context.Context, tag string, p *parcel) (bool, error) {
	old, err := d.repo.Tagged(ctx, tag)
	if NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	missing, err := missingLayers(old, p)
	return len(missing) == 0, err
}

// askManifests asks for the images and indexes that no tag vouches for, and for
// the referrers of all.
func (s *survey) askManifests(ctx context.Context, g *errgroup.Group) {
	there, asked := maps.Clone(s.there), maps.Clone(s.listings) // of the round before: what is asked now changes them
	for _, p := range slices.Concat(s.ship.content...) {
		if !there[p.digest()] || !s.vouches() {
			g.Go(func() error { return s.askManifest(ctx, p) })
		}
	}
	for subject, want := range bySubject(s.ship.attached) {
		_, asked := asked[subject]
		g.Go(func() error { return s.askListed(ctx, subject, want, asked) })
	}
}

func (s *survey) askManifest(ctx context.Context, p *parcel) error {
	at, err := s.repo.back.head(ctx, p.digest().String())
	s.note(func() { s.there[p.digest()] = err == nil && at.Digest == p.digest() })
	if NotFound(err) {
		return nil
	}
	return err
}

// askListed finds out what subject lists: what the API says is enough, if that
// is everything.
func (s *survey) askListed(ctx context.Context, subject v1.Hash, want []*parcel, asked bool) error {
	s.mu.Lock()
	list, api := s.listings[subject], !s.noAPI
	s.mu.Unlock()
	if !asked && api {
		var err error
		if list, _, err = s.repo.back.referrers(ctx, subject); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(want, func(p *parcel) bool { return !lists(list, p.digest()) }) {
		fromTag, err := s.repo.fallback(ctx, subject)
		if err != nil {
			return err
		}
		list = mergeReferrers(list, fromTag)
	}
	s.note(func() { s.listings[subject] = list })
	return nil
}

// askRest asks for the attachments that no list vouches for, and for the blobs
// that no manifest does.
func (s *survey) askRest(ctx context.Context, g *errgroup.Group) {
	for _, p := range slices.Concat(s.ship.attached...) {
		if s.vouches() && lists(s.listings[p.subject], p.digest()) {
			s.note(func() { s.there[p.digest()] = true })
			continue
		}
		g.Go(func() error { return s.askManifest(ctx, p) })
	}
	for _, b := range sources(s.unsure()) {
		if b.desc.Size <= tinyBlob && s.vouches() {
			continue // what lacks its manifest is sent
		}
		g.Go(func() error {
			has, err := s.repo.back.hasBlob(ctx, b.desc)
			s.note(func() { s.blobs[b.desc.Digest] = has })
			return err
		})
	}
}

// unsure returns the parcels whose blobs have to be asked for.
func (s *survey) unsure() []*parcel {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ps []*parcel
	for _, p := range slices.Concat(s.ship.stages()...) {
		if !s.there[p.digest()] || !s.vouches() {
			ps = append(ps, p)
		}
	}
	for tag, p := range s.legacy {
		if !s.tagged[tag] || !s.vouches() {
			ps = append(ps, p)
		}
	}
	return ps
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
