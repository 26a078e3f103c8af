package oci

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// errHeld is in the receipt of a destination that was stopped by another one.
var errHeld = errors.New("held back, since a required destination failed")

// Publish brings a release to all destinations side by side. Each blob is read
// and hashed once, and sent only where it is missing.
//
// At each destination the order is: blobs, manifests, attachments and
// signatures, the check, and last the tags. No destination begins to upload
// before every required one has said what it has, and no tag moves anywhere
// before every required one has passed the check. Whatever ends it, a second
// call with the same release goes on where it stopped; with nothing left to do
// it only asks.
//
// The receipts are in the order of to, and always complete. The error joins
// what happened at required destinations, each named; it is a [*Changed] where
// a tag points elsewhere, a [*DigestError] where content was not what it should be.
func (c *Client) Publish(ctx context.Context, r Release, to ...Destination) ([]Receipt, error) {
	ds, err := c.deliveries(ctx, r, to)
	if err != nil {
		return nil, err
	}
	required := 0
	for _, dest := range to {
		if !dest.BestEffort {
			required++
		}
	}
	surveyed, checked := newGate(required), newGate(required)
	errs := make([]error, len(ds))
	var g errgroup.Group
	for i, d := range ds {
		g.Go(func() error {
			start := time.Now()
			errs[i] = d.run(ctx, r.Check, surveyed.pass(!to[i].BestEffort), checked.pass(!to[i].BestEffort))
			d.receipt.Took, d.receipt.Err = time.Since(start), errs[i]
			return nil // a failure is a receipt
		})
	}
	g.Wait() // the functions return no error
	receipts := make([]Receipt, len(ds))
	for i, d := range ds {
		receipts[i] = d.receipt
		if to[i].BestEffort || errors.Is(errs[i], errHeld) {
			errs[i] = nil
		}
	}
	return receipts, joinNamed(ds, errs)
}

// run is one destination's way, from the first question to the last tag.
func (d *delivery) run(ctx context.Context, check func(context.Context, *Repository, v1.Hash) error, surveyed, checked turnstile) error {
	defer d.settleAll()
	if err := surveyed(ctx, d.prepare(ctx)); err != nil {
		checked(ctx, err)
		return err
	}
	err := d.bring(ctx)
	if err == nil {
		err = d.check(ctx, check)
	}
	if err := checked(ctx, err); err != nil {
		return err
	}
	return d.tag(ctx)
}

// joinNamed joins the errors that are not nil, each with its repository.
func joinNamed(ds []*delivery, errs []error) error {
	var all []error
	for i, err := range errs {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", ds[i].repo, err))
		}
	}
	return errors.Join(all...)
}

// gate opens when every required destination has come to it, and breaks as
// soon as one of them has failed.
type gate struct {
	done chan struct{} // closed when open or broken

	mu      sync.Mutex
	waiting int
	broken  bool
}

func newGate(required int) *gate {
	g := &gate{done: make(chan struct{}), waiting: required}
	if required == 0 {
		close(g.done)
	}
	return g
}

// turnstile brings a destination with its result to a gate and waits for the
// others. It returns err if there is one, and errHeld if the gate is broken.
type turnstile func(ctx context.Context, err error) error

func (g *gate) pass(required bool) turnstile {
	return func(ctx context.Context, err error) error {
		if required {
			g.arrive(err)
		}
		if err != nil {
			return err
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.broken {
			return errHeld
		}
		return nil
	}
}

func (g *gate) arrive(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.broken {
		return
	}
	g.broken = err != nil
	if g.broken || g.waiting == 0 {
		close(g.done)
	}
}
