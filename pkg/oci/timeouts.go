package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	defaultConnect = 5 * time.Second
	defaultIdle    = 30 * time.Second
)

// Timeouts says how long a registry may take. The zero value is the default.
type Timeouts struct {
	// Connect is for a connection; 0: 5 s. It is used where [Client.Transport] is nil.
	Connect time.Duration
	// Idle is how long not a single byte may move, in either direction; 0: 30 s.
	// The answer to a request with a body may take twice as long: what was sent
	// has to be stored.
	Idle time.Duration
	// Overall is for one operation (a manifest or a blob, read or written) with
	// all its tries and pauses; 0: as long as bytes move.
	Overall time.Duration
	// AfterFunc is the clock of Idle; nil: [time.AfterFunc].
	AfterFunc func(d time.Duration, f func()) Timer
}

// Timer is a timer that calls a function, such as a [*time.Timer].
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

func (t Timeouts) connect() time.Duration {
	if t.Connect > 0 {
		return t.Connect
	}
	return defaultConnect
}

func (t Timeouts) idle() time.Duration {
	if t.Idle > 0 {
		return t.Idle
	}
	return defaultIdle
}

// stallError is a connection on which nothing moved.
type stallError struct{ idle time.Duration }

func (e *stallError) Error() string { return fmt.Sprintf("no byte for %s", e.idle) }

// watch cuts a connection on which no byte has moved for too long. Time that
// is spent waiting for ourselves, for the bytes of an upload or for somebody
// to read an answer, does not count.
type watch struct {
	next     http.RoundTripper
	timeouts Timeouts
}

// RoundTrip implements [http.RoundTripper].
func (w *watch) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	d := &dog{ctx: ctx, cancel: cancel, idle: w.timeouts.idle()}
	after := w.timeouts.AfterFunc
	if after == nil {
		after = func(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
	}
	r := req.WithContext(ctx)
	first := d.idle
	if req.Body != nil && req.Body != http.NoBody {
		first *= 2
		r.Body = &sending{ReadCloser: req.Body, dog: d}
		r.GetBody = d.again(req.GetBody)
	}
	d.mu.Lock() // a body may be read before there is a timer
	d.timer = after(first, func() { cancel(&stallError{first}) })
	d.mu.Unlock()
	resp, err := w.next.RoundTrip(r)
	d.answered()
	if err != nil {
		err = d.explain(err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &receiving{body: resp.Body, dog: d}
	return resp, nil
}

// dog watches one exchange.
type dog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration

	mu    sync.Mutex
	timer Timer
	done  bool // the answer is there: what is still sent does not matter
}

// again is for the network itself, which sends a body once more when a
// connection that it had kept turns out to be closed.
func (d *dog) again(body func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
	if body == nil {
		return nil
	}
	return func() (io.ReadCloser, error) {
		rc, err := body()
		if err != nil {
			return nil, err
		}
		return &sending{ReadCloser: rc, dog: d}, nil
	}
}

// answered ends the watch over what is sent.
func (d *dog) answered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = true
	d.timer.Stop()
}

// send starts the timer for what is sent, or with 0 stops it.
func (d *dog) send(wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.done:
	case wait == 0:
		d.timer.Stop()
	default:
		d.timer.Reset(wait)
	}
}

// explain says that it was the dog who cut the connection, if it was.
func (d *dog) explain(err error) error {
	var stall *stallError
	if err != nil && err != io.EOF && errors.As(context.Cause(d.ctx), &stall) {
		return stall
	}
	return err
}

// sending is the body of a request. Between two reads its bytes are on their way.
type sending struct {
	io.ReadCloser
	dog *dog
}

func (s *sending) Read(p []byte) (int, error) {
	s.dog.send(0)
	n, err := s.ReadCloser.Read(p)
	wait := s.dog.idle
	if err != nil { // all is sent: the registry has to store it
		wait *= 2
	}
	s.dog.send(wait)
	return n, err
}

// receiving is the body of an answer. During a read its bytes are on their way.
type receiving struct {
	body io.ReadCloser
	dog  *dog
}

func (r *receiving) Read(p []byte) (int, error) {
	r.dog.timer.Reset(r.dog.idle)
	n, err := r.body.Read(p)
	r.dog.timer.Stop()
	return n, r.dog.explain(err)
}

func (r *receiving) Close() error {
	r.dog.timer.Stop()
	err := r.body.Close()
	r.dog.cancel(nil)
	return err
}
