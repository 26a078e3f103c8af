package oci

import (
	"context"
	"sync"
)

// gate lets destinations through once every required one has come to it and
// enough of them without an error. It breaks as soon as that cannot happen any
// more, and at once when a tag of a required one points elsewhere.
type gate struct {
	done chan struct{} // closed when open or broken

	mu      sync.Mutex
	waiting int // required ones that have yet to come
	spare   int // that may still fail
	broken  bool
}

func newGate(required, quorum int) *gate {
	g := &gate{done: make(chan struct{}), waiting: required, spare: required - quorum}
	if required == 0 {
		close(g.done)
	}
	return g
}

// pass brings a destination with its result to the gate and waits for the
// others. It returns err if there is one, and errHeld if the gate is broken;
// what held a part up that did not fail is noted in its receipt.
func (g *gate) pass(ctx context.Context, s *stop, err error) error {
	g.arrive(s, err)
	if err == nil {
		err = g.wait(ctx)
		s.hold(err)
	} else {
		s.hold(errHeld)
	}
	return err
}

func (g *gate) wait(ctx context.Context) error {
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

// arrive counts a destination, if it is a required one.
func (g *gate) arrive(s *stop, err error) {
	if !s.required {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if err != nil {
		g.spare--
	}
	if g.broken {
		return
	}
	g.broken = g.spare < 0 || isChanged(err)
	if g.broken || g.waiting == 0 {
		close(g.done)
	}
}
