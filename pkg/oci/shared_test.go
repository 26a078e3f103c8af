package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pool is a blob of random bytes whose source counts.
type pool struct {
	body   []byte
	src    source
	opened atomic.Int64
	open   atomic.Int64 // sources that are not closed
}

func newPool(size int) *pool {
	p := &pool{body: make([]byte, size)}
	rand.NewChaCha8([32]byte{1}).Read(p.body)
	p.src = source{desc: v1.Descriptor{MediaType: "a/b", Size: int64(size), Digest: digestOf(p.body)}, open: p.reader(p.body)}
	return p
}

func (p *pool) reader(body []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		p.opened.Add(1)
		p.open.Add(1)
		return &pooled{Reader: bytes.NewReader(body), pool: p}, nil
	}
}

type pooled struct {
	io.Reader
	pool *pool
	once sync.Once
}

func (r *pooled) Close() error { r.once.Do(func() { r.pool.open.Add(-1) }); return nil }

// share makes a hub from which n destinations expect the blob.
func share(t *testing.T, p *pool, n int) (*hub, []*ticket) {
	t.Helper()
	h := newHub(t.Context())
	h.patience = 0 // nobody waits, so that who falls behind does at once
	tickets := make([]*ticket, n)
	for i := range tickets {
		tickets[i] = h.expect(p.src)
	}
	return h, tickets
}

func mustOpen(t *testing.T, k *ticket) io.ReadCloser {
	t.Helper()
	r, err := k.open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadersInStepShareOnePass(t *testing.T) {
	for _, size := range []int{0, 1, passChunk, passChunk + 1, passWindow, passWindow + 1, 3*passWindow + 12345} {
		p := newPool(size)
		_, k := share(t, p, 3)
		readers := []io.Reader{mustOpen(t, k[0]), mustOpen(t, k[1]), mustOpen(t, k[2])}
		got := make([][]byte, len(readers))
		buf := make([]byte, 100_000) // no divisor of a chunk
		for open := len(readers); open > 0; {
			for i, r := range readers {
				if r == nil {
					continue
				}
				n, err := r.Read(buf)
				got[i] = append(got[i], buf[:n]...)
				if err == io.EOF {
					readers[i], open = nil, open-1
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range got {
			if !bytes.Equal(got[i], p.body) {
				t.Errorf("size %d, reader %d: got %d bytes, not those of the blob", size, i, len(got[i]))
			}
		}
		if n := p.opened.Load(); n != 1 {
			t.Errorf("size %d: opened %d times, want once", size, n)
		}
	}
}

func TestReaderKeepsToTheContract(t *testing.T) {
	p := newPool(2*passWindow + 7)
	_, k := share(t, p, 1)
	if err := iotest.TestReader(mustOpen(t, k[0]), p.body); err != nil {
		t.Error(err)
	}
}

// Two that fall behind share a second pass; the one in front never waits.
func TestReadersThatFallBehindShareAnotherPass(t *testing.T) {
	p := newPool(4 * passWindow)
	_, k := share(t, p, 3)
	front, a, b := mustOpen(t, k[0]), mustOpen(t, k[1]), mustOpen(t, k[2])
	first := make([]byte, 1000)
	for _, r := range []io.Reader{a, b} {
		if _, err := io.ReadFull(r, first); err != nil || !bytes.Equal(first, p.body[:1000]) {
			t.Fatal("the first bytes differ", err)
		}
	}
	if got, err := io.ReadAll(front); err != nil || !bytes.Equal(got, p.body) {
		t.Fatalf("front: got %d bytes, %v", len(got), err)
	}
	front.Close()
	k[0].settle()
	for {
		x, y := make([]byte, 50_000), make([]byte, 50_000)
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x, y) || errA != errB {
			t.Fatalf("got %d and %d bytes, %v and %v", n, m, errA, errB)
		}
		if errA != nil {
			if errA != io.EOF && errA != io.ErrUnexpectedEOF {
				t.Error(errA)
			}
			break
		}
	}
	if n := p.opened.Load(); n != 2 {
		t.Errorf("opened %d times, want one pass for the front and one for the others", n)
	}
}

func TestLateReaderOfASmallBlobNeedsNoSecondPass(t *testing.T) {
	p := newPool(passWindow)
	h, k := share(t, p, 2)
	for i := range k {
		r := mustOpen(t, k[i])
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, p.body) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		r.Close()
		k[i].settle()
		k[i].settle() // only the first counts
	}
	if n := p.opened.Load(); n != 1 {
		t.Errorf("opened %d times, want once", n)
	}
	if len(h.blobs) != 0 || h.idle != 0 {
		t.Errorf("left: %d blobs, %d idle bytes", len(h.blobs), h.idle)
	}
}

func TestIdleWindowsAreBounded(t *testing.T) {
	h := newHub(t.Context())
	var pools []*pool
	var later []*ticket
	for i := range 20 {
		p := newPool(passWindow - i)
		pools = append(pools, p)
		first := h.expect(p.src)
		later = append(later, h.expect(p.src))
		r := mustOpen(t, first)
		io.Copy(io.Discard, r)
		r.Close()
		first.settle()
		if h.idle > maxIdle {
			t.Fatalf("%d bytes are held", h.idle)
		}
	}
	for i, p := range pools {
		later[i].settle()
		if p.open.Load() != 0 {
			t.Error("a source was left open")
		}
	}
	if h.idle != 0 {
		t.Errorf("%d bytes are held in the end", h.idle)
	}
}

// Those in front wait for one who is slow to begin, and give up in the end.
func TestThoseInFrontWaitALittle(t *testing.T) {
	for name, tt := range map[string]struct {
		begins bool
		opened int64
	}{
		"he begins":      {true, 1},
		"he never does":  {false, 1},
		"he begins late": {false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(2 * passWindow)
			h, k := share(t, p, 2)
			h.patience = 24 * time.Hour
			if name != "he begins" {
				h.patience = time.Millisecond
			}
			front := mustOpen(t, k[0])
			if tt.begins {
				// The first window can be read before he begins, and not a byte more.
				if _, err := io.CopyN(io.Discard, front, passWindow); err != nil {
					t.Fatal(err)
				}
				go func() {
					slow := mustOpen(t, k[1])
					defer k[1].settle()
					if got, err := io.ReadAll(slow); err != nil || !bytes.Equal(got, p.body) {
						t.Errorf("got %d bytes, %v", len(got), err)
					}
					slow.Close()
				}()
			}
			if _, err := io.Copy(io.Discard, front); err != nil {
				t.Error(err)
			}
			if name == "he begins late" {
				if got, err := io.ReadAll(mustOpen(t, k[1])); err != nil || !bytes.Equal(got, p.body) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			}
			if n := p.opened.Load(); n != tt.opened {
				t.Errorf("opened %d times, want %d", n, tt.opened)
			}
		})
	}
}

// B11: not a byte of the end of a blob that is not what it should be is
// shown, to nobody, and each reader hears of it.
func TestBadSourceIsFoundByEveryReader(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, tt := range map[string]struct {
		open func(p *pool) func(context.Context) (io.ReadCloser, error)
		want string
	}{
		"last bit": {func(p *pool) func(context.Context) (io.ReadCloser, error) {
			b := bytes.Clone(p.body)
			b[len(b)-1] ^= 1
			return p.reader(b)
		}, "sha256"},
		"shorter": {func(p *pool) func(context.Context) (io.ReadCloser, error) { return p.reader(p.body[:len(p.body)-1]) }, "size"},
		"longer": {func(p *pool) func(context.Context) (io.ReadCloser, error) {
			return p.reader(append(bytes.Clone(p.body), 0))
		}, "size"},
		"an error": {func(p *pool) func(context.Context) (io.ReadCloser, error) {
			return func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(p.body[:10]), iotest.ErrReader(broken))), nil
			}
		}, ""},
		"not opened": {func(p *pool) func(context.Context) (io.ReadCloser, error) {
			return func(context.Context) (io.ReadCloser, error) { return nil, broken }
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(passWindow + 5)
			p.src.open = tt.open(p)
			_, k := share(t, p, 2)
			for _, r := range []io.ReadCloser{mustOpen(t, k[0]), mustOpen(t, k[1])} {
				got, err := io.ReadAll(r)
				var de *DigestError
				if tt.want != "" && (!errors.As(err, &de) || de.What != tt.want) || tt.want == "" && !errors.Is(err, broken) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if len(got) >= len(p.body) {
					t.Errorf("got all %d bytes", len(got))
				}
				r.Close()
			}
			// A second try begins a new pass, and may succeed.
			p.src.open = p.reader(p.body)
			k[0].blob.src = p.src
			if got, err := io.ReadAll(mustOpen(t, k[0])); err != nil || !bytes.Equal(got, p.body) {
				t.Errorf("again: got %d bytes, %v", len(got), err)
			}
		})
	}
}

// Readers that come, go, stop halfway and are closed from outside, all at
// once: whoever reads to the end has the blob, and no source is left open.
func TestReadersInAnyOrder(t *testing.T) {
	p := newPool(2*passWindow + 99)
	const n = 12
	h, k := share(t, p, n)
	h.patience = time.Millisecond
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			defer k[i].settle()
			r, err := k[i].open()
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			switch i % 3 {
			case 0:
				io.CopyN(io.Discard, r, int64(i)*500_000)
			case 1:
				go r.Close()
				io.Copy(io.Discard, r)
			default:
				got, err := io.ReadAll(iotest.HalfReader(r))
				if err != nil || !bytes.Equal(got, p.body) {
					t.Errorf("reader %d: got %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
	g.Wait()
	if p.open.Load() != 0 || len(h.blobs) != 0 || h.idle != 0 {
		t.Errorf("left: %d sources, %d blobs, %d bytes", p.open.Load(), len(h.blobs), h.idle)
	}
}
