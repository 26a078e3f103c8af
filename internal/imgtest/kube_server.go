package imgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// KubeServer serves a directory as dl.k8s.io does: with strong ETags and
// ranges, straight from the disk. Each path can be scripted. Methods may be
// called while clients read.
type KubeServer struct {
	URL string // such as "http://127.0.0.1:39017"

	dir  string
	api  http.Handler
	http *http.Server

	mu       sync.Mutex
	scripts  map[string]http.HandlerFunc
	requests []string
}

// ServeKube serves dir, as [Kube.Write] fills it, on addr until Close is called;
// "" means a free port of 127.0.0.1. rekor, which may be nil, answers below
// /api/, so that URL is also the log's. Nothing of it needs a test.
func ServeKube(dir, addr string, rekor http.Handler) (*KubeServer, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", dir, err)
	}
	if rekor == nil {
		rekor = http.NotFoundHandler()
	}
	s := &KubeServer{URL: "http://" + l.Addr().String(), dir: dir, api: rekor, scripts: make(map[string]http.HandlerFunc)}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go s.http.Serve(l) // ends with Close
	return s, nil
}

// Close stops serving and cuts the connections that are open.
func (s *KubeServer) Close() error { return s.http.Close() }

// Script lets h answer requests for path, such as "release/stable.txt"; nil
// undoes it. h may call [KubeServer.Original].
func (s *KubeServer) Script(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil {
		delete(s.scripts, path)
		return
	}
	s.scripts[path] = h
}

// Missing answers 404 for path.
func (s *KubeServer) Missing(path string) { s.Script(path, http.NotFound) }

// Status answers code for path.
func (s *KubeServer) Status(path string, code int) {
	s.Script(path, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(code), code) })
}

// Replace answers body for path.
func (s *KubeServer) Replace(path string, body []byte) {
	s.Script(path, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
}

// Flip serves path with the lowest bit of the byte at offset flipped.
func (s *KubeServer) Flip(path string, offset int64) {
	s.Script(path, func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(s.file(path))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, &flipped{f, offset})
	})
}

// Original serves what is on the disk, whatever the scripts say.
func (s *KubeServer) Original(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(s.file(strings.TrimPrefix(r.URL.Path, "/")))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, fi.Size(), fi.ModTime().UnixNano()))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", fi.ModTime(), f)
}

// file returns the path below the directory; the request cannot leave it.
func (s *KubeServer) file(path string) string {
	return filepath.Join(s.dir, filepath.FromSlash(filepath.Clean("/"+path)))
}

// ServeHTTP answers a request and records it.
func (s *KubeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	line := r.Method + " " + path
	if v := r.Header.Get("Range"); v != "" {
		line += " " + v
	}
	s.mu.Lock()
	s.requests = append(s.requests, line)
	script := s.scripts[path]
	s.mu.Unlock()
	switch {
	case script != nil:
		script(w, r)
	case strings.HasPrefix(path, "api/"):
		s.api.ServeHTTP(w, r)
	default:
		s.Original(w, r)
	}
}

// Requests returns what was asked for since the last call, in order: method,
// path and, if there was one, the range.
func (s *KubeServer) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.requests = nil }()
	return s.requests
}

// flipped is a file with one bit changed.
type flipped struct {
	f  *os.File
	at int64
}

func (f *flipped) Seek(offset int64, whence int) (int64, error) { return f.f.Seek(offset, whence) }

func (f *flipped) Read(p []byte) (int, error) {
	pos, err := f.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := f.f.Read(p)
	if i := f.at - pos; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}

// CutAfter returns a script that serves the first n bytes of what was asked for,
// announces all, and cuts the connection.
func (s *KubeServer) CutAfter(n int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.Original(&limitedWriter{ResponseWriter: w, left: n}, r)
		panic(http.ErrAbortHandler)
	}
}

// limitedWriter stops writing after some bytes of the body.
type limitedWriter struct {
	http.ResponseWriter
	left int64
}

var errCut = errors.New("cut")

func (w *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) <= w.left {
		w.left -= int64(len(p))
		return w.ResponseWriter.Write(p)
	}
	n, err := w.ResponseWriter.Write(p[:w.left])
	w.left = 0
	http.NewResponseController(w.ResponseWriter).Flush()
	return n, errors.Join(err, errCut)
}
