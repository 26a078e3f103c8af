package oci

import (
	"io"
	"sync"
	"sync/atomic"
)

// bodySource opens the body of a request as often as it is sent, and keeps the
// first error that reading it gave: the HTTP client may report another one.
type bodySource struct {
	open func() (io.ReadCloser, error)
	skip int64 // bytes that the registry has already; they are read, and hashed, all the same

	mu  sync.Mutex
	err error
}

// body opens the body once more.
func (s *bodySource) body() (io.ReadCloser, error) {
	rc, err := s.open()
	if err == nil && s.skip > 0 {
		if _, err = io.CopyN(io.Discard, rc, s.skip); err != nil {
			rc.Close()
		}
	}
	if err != nil {
		s.fail(err)
		return nil, err
	}
	return &watchedBody{ReadCloser: rc, source: s}, nil
}

func (s *bodySource) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *bodySource) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watchedBody reports errors to its source, except those that come from its
// having been closed: that is how the HTTP client stops reading.
type watchedBody struct {
	io.ReadCloser
	source *bodySource
	closed atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.source.fail(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}
