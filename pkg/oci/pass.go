package oci

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	passWindow = 1 << 20   // bytes of a blob that are held for readers that are behind
	passChunk  = 128 << 10 // bytes read from the source at once
)

// pass is one reading of a blob that several readers take part in.
//
// Readers pull: the one in front reads the next chunk, and hashes it, while
// the others copy from a window of what was read last. Before somebody would
// fall out of the window those in front wait a little; who does fall out has to
// find another pass.
type pass struct {
	ctx  context.Context
	blob *shared

	mu         sync.Mutex
	changed    *sync.Cond // what follows, or a reader, has changed
	ring       []byte     // made at the first read; of fixed size
	start, end int64      // the ring holds these bytes of the blob
	in         io.ReadCloser
	filling    bool // a reader is at the source, without holding mu
	dropped    bool // nobody may join
	err        error
	readers    map[*shareReader]int64 // and the next byte of each

	patience time.Duration // that is left
	timer    *time.Timer   // wakes those in front when there is none left
	waiting  time.Time     // since when those in front wait; zero: they do not
}

// newPass returns a pass that begins where r is.
func newPass(ctx context.Context, b *shared, patience time.Duration, r *shareReader) *pass {
	p := &pass{ctx: ctx, blob: b, patience: patience, start: r.pos, end: r.pos, readers: map[*shareReader]int64{r: r.pos}}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// held is the size of the window.
func (p *pass) held() int64 { return max(1, min(p.blob.src.desc.Size, passWindow)) }

// join takes a reader in, if its next byte is in the window or next.
func (p *pass) join(r *shareReader) (joined, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped || r.pos < p.start || r.pos > p.end || p.err != nil && p.err != io.EOF {
		return false, false
	}
	p.readers[r] = r.pos
	return true, len(p.readers) == 1
}

// leave takes a reader out. It reports whether nobody is left and the pass is
// worth keeping: it is sound and holds the blob from its first byte.
func (p *pass) leave(r *shareReader, worth bool) (kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, r)
	p.changed.Broadcast()
	return worth && len(p.readers) == 0 && p.start == 0 && (p.err == nil || p.err == io.EOF)
}

// drop ends the pass if nobody reads it, and reports whether it did.
func (p *pass) drop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.readers) > 0 || p.dropped {
		return false
	}
	p.dropped = true
	if !p.filling { // else who fills sees to it
		p.release()
	}
	return true
}

// release frees what the pass holds. p.mu is held.
func (p *pass) release() {
	if p.in != nil {
		p.in.Close() // read only: there is nothing to lose
	}
	p.in, p.ring, p.err = nil, nil, errClosed
}

// wake makes readers look again at why they wait.
func (p *pass) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}

// read copies bytes from the reader's position on into b.
func (p *pass) read(r *shareReader, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case r.closed.Load():
			return 0, errClosed
		case r.pos < p.start:
			return 0, errBehind
		case r.pos < p.end && p.ring != nil:
			n := copy(b[:min(int64(len(b)), p.end-r.pos)], p.ring[r.pos%int64(len(p.ring)):])
			p.readers[r] = r.pos + int64(n)
			if !p.waiting.IsZero() {
				p.changed.Broadcast()
			}
			return n, nil
		case p.err != nil:
			return 0, p.err
		case p.filling || p.holdsBack():
			p.changed.Wait()
		default:
			p.fill()
		}
	}
}

// next returns the part of the ring that the next chunk goes to, and where the
// window will then begin.
func (p *pass) next() (chunk []byte, start int64) {
	if p.ring == nil {
		p.ring = make([]byte, p.held())
	}
	size := int64(len(p.ring))
	at := p.end % size
	chunk = p.ring[at:min(size, at+min(passChunk, p.blob.src.desc.Size-p.end))]
	return chunk, max(p.start, p.end+int64(len(chunk))-size)
}

// holdsBack reports whether those in front should wait before the next chunk: it
// would push somebody out of the window, or close it for somebody who has not
// begun, and there is patience left.
func (p *pass) holdsBack() bool {
	_, start := p.next()
	behind := start > p.start && p.start == 0 && p.blob.late.Load() > 0
	for _, pos := range p.readers {
		behind = behind || pos < start
	}
	now := time.Now()
	if !p.waiting.IsZero() {
		p.patience -= now.Sub(p.waiting)
		p.waiting = time.Time{}
	}
	if !behind || p.patience <= 0 {
		return false
	}
	p.waiting = now
	if p.timer == nil {
		p.timer = time.AfterFunc(p.patience, p.wake)
	} else {
		p.timer.Reset(p.patience)
	}
	return true
}

// fill reads the next chunk into the oldest part of the ring. p.mu is held
// when it is called and when it returns, but not while it reads: others may
// copy from the rest of the ring meanwhile.
func (p *pass) fill() {
	chunk, start := p.next()
	p.start, p.filling = start, true
	p.mu.Unlock()
	in, err := p.pull(chunk)
	p.mu.Lock()
	p.filling, p.in, p.err = false, in, err
	if err == nil || err == io.EOF {
		p.end += int64(len(chunk))
	}
	if p.dropped {
		p.release()
	}
	p.changed.Broadcast()
}

// pull reads a chunk, opening the source first if need be. The chunk that ends
// the blob is good only together with io.EOF, which says that the whole is.
func (p *pass) pull(chunk []byte) (io.ReadCloser, error) {
	in, src := p.in, p.blob.src
	if in == nil {
		rc, err := src.open(p.ctx)
		if err != nil {
			return nil, err
		}
		in = newVerifier(rc, src.desc, "blob "+src.desc.Digest.String()+" as it was read")
		// A pass that begins in the middle hashes the beginning, too: the
		// source may have changed since somebody read it.
		if _, err := io.CopyN(io.Discard, in, p.end); err != nil {
			return in, err
		}
	}
	if _, err := io.ReadFull(in, chunk); err != nil {
		return in, err
	}
	if p.end+int64(len(chunk)) < src.desc.Size {
		return in, nil
	}
	_, err := in.Read(nil) // the verdict
	in.Close()             // read only: there is nothing to lose
	return nil, err
}
