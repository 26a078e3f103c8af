package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// delivery is a shipment on its way to one repository: first what is missing
// there (survey.go), then bringing it (deliver.go).
type delivery struct {
	*common
	client    *Client
	repo      *Repository
	ship      *shipment
	tags      []tagging // in the order in which they move
	overwrite string    // why those that point elsewhere are moved; "": they are not
	thorough  bool      // nothing vouches for anything
	// fallbackTags is that of [Destination].
	fallbackTags bool

	// Filled by survey.
	missing []source              // blobs
	puts    map[v1.Hash]bool      // manifests that are missing
	attach  map[v1.Hash][]*parcel // attachments that their subject does not list, by subject
	sign    map[string]*parcel    // legacy tags that lack a signature
	move    []tagging             // tags that are not in place
	early   bool                  // attachments may come before what they refer to
	steps   []Step
	tickets map[v1.Hash]*ticket // for the missing blobs; from claim on

	aside    *errgroup.Group // what goes on beside all else until the check has passed; from bring on
	asideCtx context.Context
	giveUp   context.CancelFunc

	overwritten atomic.Bool // others wrote over a tag while it settled

	mu      sync.Mutex // guards what follows, while something is brought
	receipt Receipt
}

// common is what the deliveries of a transaction share.
type common struct {
	hub    *hub
	commit func() error // comes before the first tag that moves
}

// tagging is a tag and where it should point.
type tagging struct {
	tag    string
	parcel *parcel
}

// deliveries resolves the destinations of a release.
func (c *Client) deliveries(r Release, shared *common, to []Destination) ([]*delivery, error) {
	ship, err := pack(r)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("publish %s: no destination", ship.root.digest())
	}
	if r.From != nil {
		for _, b := range sources(slices.Concat(ship.content...)) {
			c.shelf.note(r.From, b.desc.Digest)
		}
	}
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
		ds[i] = c.newDelivery(repo, ship, shared)
		ds[i].tags, ds[i].overwrite, ds[i].thorough = ship.tags, r.Overwrite, r.Thorough
		ds[i].fallbackTags = dest.FallbackTags && !r.Thorough
	}
	return ds, nil
}

func (c *Client) newDelivery(repo *Repository, ship *shipment, shared *common) *delivery {
	return &delivery{
		common: shared, client: c, repo: repo, ship: ship,
		tickets: make(map[v1.Hash]*ticket), receipt: Receipt{Repository: repo.name, Digest: ship.root.digest()},
	}
}

// packTags sorts the tags of a release: those of its parts come before its own.
func packTags(r Release, root *parcel, parts map[v1.Hash]*parcel) ([]tagging, error) {
	var all []tagging
	seen := make(map[string]bool)
	add := func(p *parcel, tags []string) error {
		for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
			if !tagPattern.MatchString(tag) {
				return fmt.Errorf("tag: got %q, want letters, digits and ._- (at most 128)", clip(tag))
			}
			if seen[tag] {
				return fmt.Errorf("tag %s: it is for two manifests", tag)
			}
			seen[tag] = true
			all = append(all, tagging{tag, p})
		}
		return nil
	}
	byDigest := func(a, b v1.Hash) int { return cmp.Compare(a.Hex, b.Hex) }
	for _, h := range slices.SortedFunc(maps.Keys(r.PartTags), byDigest) {
		if parts[h] == nil || h == root.digest() {
			return nil, fmt.Errorf("tags %v: %s is no part of the release", r.PartTags[h], h)
		}
		if err := add(parts[h], r.PartTags[h]); err != nil {
			return nil, err
		}
	}
	return all, add(root, r.Tags)
}

// plan turns what a survey found into what is missing, and into steps in the
// order of deliver.go.
func (s *survey) plan() {
	legacy := make([]*parcel, 0, len(s.legacy))
	for _, tag := range slices.Sorted(maps.Keys(s.legacy)) {
		legacy = append(legacy, s.legacy[tag])
	}
	asked := sources(s.unsure())
	for _, b := range sources(append(slices.Concat(s.ship.stages()...), legacy...)) {
		done := s.blobs[b.desc.Digest] || !slices.ContainsFunc(asked, func(a source) bool { return a.desc.Digest == b.desc.Digest })
		if done {
			s.client.shelf.note(s.repo, b.desc.Digest)
		} else {
			s.missing = append(s.missing, b)
		}
		s.step(Step{Verb: "upload", Object: string(b.desc.MediaType), Digest: b.desc.Digest, Size: b.desc.Size, Done: done})
	}
	s.planManifests()
	s.planTags()
}

func (s *survey) planManifests() {
	s.puts = make(map[v1.Hash]bool)
	s.attach = make(map[v1.Hash][]*parcel)
	for _, p := range slices.Concat(s.ship.content...) {
		m := p.manifest.Descriptor
		s.puts[m.Digest] = !s.there[m.Digest]
		s.step(Step{Verb: "put", Object: string(m.MediaType), Digest: m.Digest, Size: m.Size, Done: s.there[m.Digest]})
	}
	for _, p := range slices.Concat(s.ship.attached...) {
		m := p.listed
		s.puts[m.Digest] = !s.there[m.Digest]
		done := s.there[m.Digest]
		if p.subject != (v1.Hash{}) && !(done && lists(s.listings[p.subject], m.Digest)) {
			s.attach[p.subject] = append(s.attach[p.subject], p)
			done = false
		}
		s.step(Step{Verb: "attach", Object: m.ArtifactType, Digest: m.Digest, Size: m.Size, Done: done})
	}
}

func (s *survey) planTags() {
	s.sign = make(map[string]*parcel)
	for _, tag := range slices.Sorted(maps.Keys(s.legacy)) {
		m := s.legacy[tag].manifest.Descriptor
		if !s.tagged[tag] {
			s.sign[tag] = s.legacy[tag]
		}
		s.step(Step{Verb: "sign", Object: tag, Digest: m.Digest, Size: m.Size, Done: s.tagged[tag]})
	}
	for _, t := range s.tags {
		m := t.parcel.manifest.Descriptor
		if !s.tagged[t.tag] {
			s.move = append(s.move, t)
		}
		s.step(Step{Verb: "tag", Object: t.tag, Digest: m.Digest, Size: m.Size, Done: s.tagged[t.tag]})
	}
}

func (d *delivery) step(s Step) {
	s.Repository = d.repo.name
	d.steps = append(d.steps, s)
	if s.Done && s.Verb != "tag" {
		d.receipt.Present++
	}
}

// nothingToDo reports whether the destination has all of it, the tags too. What
// was checked before its tags moved is not checked again while they stay.
func (d *delivery) nothingToDo() bool {
	undone := func(s Step) bool { return !s.Done }
	return len(d.tags) > 0 && !slices.ContainsFunc(d.steps, undone)
}

// Plan returns what [Client.Publish] would do at each destination, in order,
// including what it would find done. It changes nothing.
//
// Destinations that could not be asked, or have a tag that points elsewhere,
// are in the error; the steps of the others are complete.
func (c *Client) Plan(ctx context.Context, r Release, to ...Destination) ([]Step, error) {
	ds, err := c.deliveries(r, &common{}, to)
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
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", d.repo, errs[i])
			continue
		}
		steps = append(steps, d.steps...)
	}
	return steps, errors.Join(errs...)
}
