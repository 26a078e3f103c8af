package oci

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// maxIdle bounds the windows that are held while nobody reads them.
	maxIdle = 8 << 20
	// patience is how long, in all, those in front wait in one pass for those
	// who would fall out of its window. It keeps destinations that are about
	// equally fast together, and costs the others two seconds a blob at most.
	patience = 2 * time.Second
)

// source is a blob and where its bytes come from.
type source struct {
	desc v1.Descriptor
	open func(ctx context.Context) (io.ReadCloser, error)
}

// hub lets all destinations that want a blob at about the same time read it
// together: its bytes are read and hashed once, and copied to each. See [pass]
// for how. The memory it takes is one window for each blob under way, and
// [maxIdle] for those that a slower destination has yet to ask for.
type hub struct {
	ctx      context.Context // of the whole push: a pass outlives the destination that began it
	patience time.Duration

	mu    sync.Mutex
	blobs map[v1.Hash]*shared
	idle  int64 // bytes in windows without a reader
}

// shared is a blob that destinations want.
type shared struct {
	src    source
	wanted int // tickets that are not settled
	passes []*pass
	late   atomic.Int64 // tickets that were never opened; passes wait for them
}

func newHub(ctx context.Context) *hub {
	return &hub{ctx: ctx, patience: patience, blobs: make(map[v1.Hash]*shared)}
}

// ticket is one destination's claim to a blob.
type ticket struct {
	hub             *hub
	blob            *shared
	opened, settled bool // guarded by hub.mu
}

// expect says that one more destination will want the blob.
func (h *hub) expect(s source) *ticket {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.blobs[s.desc.Digest]
	if !ok {
		b = &shared{src: s}
		h.blobs[s.desc.Digest] = b
	}
	b.wanted++
	b.late.Add(1)
	return &ticket{hub: h, blob: b}
}

// settle says that the destination has the blob, or has given up. Only the
// first call counts.
func (t *ticket) settle() {
	h, b := t.hub, t.blob
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.settled {
		return
	}
	t.settled = true
	t.appear()
	if b.wanted--; b.wanted > 0 {
		return
	}
	delete(h.blobs, b.src.desc.Digest)
	for _, p := range b.passes {
		if p.drop() {
			h.idle -= p.held()
		}
	}
}

// appear ends the wait for this ticket. hub.mu is held.
func (t *ticket) appear() {
	if !t.opened {
		t.opened = true
		t.blob.late.Add(-1)
		for _, p := range t.blob.passes {
			p.wake()
		}
	}
}

// open returns a reader of the blob. Its last Read returns a [*DigestError]
// instead of io.EOF when the source is not what it should be.
func (t *ticket) open() (io.ReadCloser, error) {
	h := t.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.settled {
		return nil, errClosed
	}
	r := &shareReader{hub: h, blob: t.blob}
	r.pass = h.join(r)
	t.appear()
	return r, nil
}

// join returns a pass that has the reader's next byte, or is about to read it.
// h.mu is held.
func (h *hub) join(r *shareReader) *pass {
	b := r.blob
	for _, p := range b.passes {
		if joined, first := p.join(r); joined {
			if first {
				h.idle -= p.held()
			}
			return p
		}
	}
	p := newPass(h.ctx, b, h.patience, r)
	b.passes = append(b.passes, p)
	return p
}

// leave takes a reader out of its pass. A pass without readers ends, unless it
// still holds the whole blob for somebody who is to come. h.mu is held.
func (h *hub) leave(r *shareReader) {
	b, p := r.blob, r.pass
	worth := b.wanted > 1 && p.held() == b.src.desc.Size && h.idle+p.held() <= maxIdle
	if p.leave(r, worth) {
		h.idle += p.held()
		return
	}
	if p.drop() {
		b.passes = slices.DeleteFunc(b.passes, func(q *pass) bool { return q == p })
	}
}

var (
	// errClosed is what reading from a closed reader gives.
	errClosed = errors.New("read after close")
	// errBehind is for a reader whose next byte has left the window.
	errBehind = errors.New("fell out of the window")
)

// shareReader is one destination's view of a blob.
type shareReader struct {
	hub    *hub
	blob   *shared
	pos    int64 // used by Read, and by others only before Read is called
	pass   *pass // changed by Read, under hub.mu
	closed atomic.Bool
}

// Read implements [io.Reader].
func (r *shareReader) Read(p []byte) (int, error) {
	for {
		n, err := r.pass.read(r, p)
		r.pos += int64(n)
		if err != errBehind {
			return n, err
		}
		if err := r.change(); err != nil {
			return 0, err
		}
	}
}

// change goes over to another pass: one that others who fell behind have
// begun, or a new one.
func (r *shareReader) change() error {
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.closed.Load() {
		return errClosed
	}
	h.leave(r)
	r.pass = h.join(r)
	return nil
}

// Close implements [io.Closer]. It may be called while another goroutine is in
// Read, as HTTP clients do.
func (r *shareReader) Close() error {
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !r.closed.Swap(true) {
		h.leave(r)
	}
	return nil
}
