package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// errHeld is in the receipt of a destination that was stopped by another one,
// or by another part of the release at the same destination.
var errHeld = errors.New("held back, since something that is required failed")

// Held reports whether err only says that something else failed.
func Held(err error) bool { return errors.Is(err, errHeld) }

// Transaction is what stands or falls together: one release, or several, such
// as an image and the bundles that are pinned to it.
type Transaction struct {
	Parts  []Consignment // all go to as many destinations, in the same order; their tags move in this order
	Quorum int           // how many of the required destinations must pass; 0: all

	// Commit is called once, when the transaction stands and before the first
	// tag moves anywhere; not at all when no tag has to. Its error moves none.
	Commit func(ctx context.Context) error
}

// Consignment is a release and where it goes.
type Consignment struct {
	Release Release
	To      []Destination
}

// Publish brings a release to all destinations side by side: a [Transaction]
// of one part that needs every required destination. See [Client.PublishAll].
func (c *Client) Publish(ctx context.Context, r Release, to ...Destination) ([]Receipt, error) {
	receipts, err := c.PublishAll(ctx, Transaction{Parts: []Consignment{{r, to}}})
	if receipts == nil {
		return nil, err
	}
	return receipts[0], err
}

// PublishAll brings every part of a transaction to all its destinations side by
// side. Each blob is read and hashed once, and sent only where it is missing.
//
// At each destination content, attachments and signatures come before the
// check, and last the tags. No destination begins to upload
// before every required one has said what it has, and no tag moves anywhere
// before enough required ones have passed the check with every part. A
// destination that has everything, its tags too, is only asked. Whatever ends
// it, a second call with the same parts goes on where it stopped.
//
// A tag that points elsewhere at a required destination ends it, whatever the
// quorum: that is no outage.
//
// The receipts, for each part those of its destinations, are always complete.
// The error joins what happened at required destinations, each named, when
// fewer than the quorum are done; it is a [*Changed] where a tag points
// elsewhere, a [*DigestError] where content was not what it should be. With
// more, what happened at the others is in their receipts alone.
func (c *Client) PublishAll(ctx context.Context, t Transaction) ([][]Receipt, error) {
	p, err := c.newPublication(ctx, t)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	for _, s := range p.stops {
		g.Go(func() error { p.run(ctx, s); return nil }) // a failure is a receipt
	}
	g.Wait() // the functions return no error
	receipts := make([][]Receipt, len(t.Parts))
	for i := range t.Parts {
		for _, s := range p.stops {
			receipts[i] = append(receipts[i], s.parts[i].receipt)
		}
	}
	return receipts, p.verdict()
}

// publication is a transaction on its way.
type publication struct {
	stops             []*stop
	quorum            int
	surveyed, checked *gate
}

// stop is a destination, with what goes there of each part.
type stop struct {
	parts    []*delivery
	required bool
}

// newPublication resolves the destinations of a transaction.
func (c *Client) newPublication(ctx context.Context, t Transaction) (*publication, error) {
	if len(t.Parts) == 0 {
		return nil, errors.New("publish: nothing to publish")
	}
	shared := &common{hub: newHub(ctx), commit: t.once(ctx)}
	p := &publication{}
	for i, part := range t.Parts {
		ds, err := c.deliveries(part.Release, shared, part.To)
		if err != nil {
			return nil, err
		}
		if i > 0 && len(ds) != len(p.stops) {
			return nil, fmt.Errorf("publish: part %d: got %d destinations, want %d as the first has", i, len(ds), len(p.stops))
		}
		for j, d := range ds {
			if i == 0 {
				p.stops = append(p.stops, &stop{required: !part.To[j].BestEffort})
			}
			p.stops[j].parts = append(p.stops[j].parts, d)
		}
	}
	required := 0
	for _, s := range p.stops {
		if s.required {
			required++
		}
	}
	if t.Quorum < 0 || t.Quorum > required {
		return nil, fmt.Errorf("publish: quorum: got %d, want at most %d, the required destinations", t.Quorum, required)
	}
	p.quorum = t.Quorum
	if p.quorum == 0 {
		p.quorum = required
	}
	p.surveyed, p.checked = newGate(required, p.quorum), newGate(required, p.quorum)
	return p, nil
}

// once makes Commit what every tag that has to move comes by first.
func (t *Transaction) once(ctx context.Context) func() error {
	if t.Commit == nil {
		return func() error { return nil }
	}
	return sync.OnceValue(func() error { return t.Commit(ctx) })
}

// run is one destination's way, from the first question to the last tag.
func (p *publication) run(ctx context.Context, s *stop) {
	start := time.Now()
	defer s.end(start)
	err := s.each(func(d *delivery) error { return d.prepare(ctx) })
	if p.surveyed.pass(ctx, s, err) != nil {
		p.checked.arrive(s, errHeld)
		return
	}
	err = s.each(func(d *delivery) error {
		if err := d.bring(ctx); err != nil {
			return err
		}
		return d.check(ctx)
	})
	if p.checked.pass(ctx, s, err) != nil {
		return
	}
	for _, d := range s.parts { // in order: an image before the bundle that names it
		if d.receipt.Err = d.tag(ctx); d.receipt.Err != nil {
			s.hold(errHeld)
			return
		}
	}
}

// each does something for every part side by side. None stops another: what
// one has brought serves the next run.
func (s *stop) each(do func(d *delivery) error) error {
	var g errgroup.Group
	for _, d := range s.parts {
		g.Go(func() error { d.receipt.Err = do(d); return nil })
	}
	g.Wait() // the functions return no error
	return s.err()
}

// err joins what happened to the parts.
func (s *stop) err() error {
	var all []error
	for _, d := range s.parts {
		if d.receipt.Err != nil && !Held(d.receipt.Err) {
			all = append(all, fmt.Errorf("%s: %w", d.repo, d.receipt.Err))
		}
	}
	return errors.Join(all...)
}

// hold notes why those parts that did not fail got no further.
func (s *stop) hold(why error) {
	if why == nil {
		return
	}
	for _, d := range s.parts {
		if d.receipt.Err == nil && d.receipt.Tags == nil {
			d.receipt.Err = why
		}
	}
}

// end completes the receipts.
func (s *stop) end(start time.Time) {
	for _, d := range s.parts {
		d.settleAll()
		d.receipt.Took = time.Since(start)
	}
}

// verdict is the error of the whole.
func (p *publication) verdict() error {
	done, changed := 0, false
	var all []error
	for _, s := range p.stops {
		err := s.err()
		switch {
		case !s.required:
			continue
		case err != nil:
			all = append(all, err)
			changed = changed || isChanged(err)
		case !slices.ContainsFunc(s.parts, func(d *delivery) bool { return d.receipt.Err != nil }):
			done++
		}
	}
	if done >= p.quorum && !changed {
		return nil
	}
	return errors.Join(all...)
}

// isChanged reports whether err is about a tag that points elsewhere.
func isChanged(err error) bool {
	var c *Changed
	return errors.As(err, &c)
}
