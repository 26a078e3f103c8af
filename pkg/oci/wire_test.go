package oci_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// answering serves on a TCP port of loopback: each connection in turn is for the
// next of serve, all later ones for the last.
func answering(t *testing.T, serve ...func(net.Conn)) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var g sync.WaitGroup
	g.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.Go(func() {
				defer c.Close()
				serve[min(n, len(serve)-1)](c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); g.Wait() })
	return l.Addr().String()
}

// raw answers one request with the bytes of text.
func raw(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, text)
		}
	}
}

// R20: Docker Hub's abuse limit ends its lines with a bare LF. It is waited for,
// like any other, and named where it does not end.
func TestR20LimitWithBareLineFeedsIsObeyed(t *testing.T) {
	const limit = "HTTP/1.1 429 Too Many Requests\nRetry-After: 60\nContent-Type: text/plain\nContent-Length: 27\nConnection: close\n\nToo Many Requests (HAP429)."
	const found = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 400\r\nConnection: close\r\n" +
		"Docker-Content-Digest: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n\r\n"
	for name, tt := range map[string]struct {
		serve []func(net.Conn)
		want  string
	}{
		"for a while": {[]func(net.Conn){raw(limit), raw(found)}, ""},
		"for good":    {[]func(net.Conn){raw(limit)}, "Retry-After: 60"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var longest time.Duration
			c := &oci.Client{Retry: oci.Retry{Wait: func(ctx context.Context, d time.Duration) error {
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, d)
				return ctx.Err()
			}}}
			repo, err := c.Repository(answering(t, tt.serve...) + "/k")
			check(t, err)
			_, err = repo.Resolve(t.Context(), "v1")
			if tt.want != "" && (!oci.Unreachable(err) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want it unreachable, and %s named", err, tt.want)
			}
			if tt.want == "" && err != nil {
				t.Errorf("got %v, want the answer after the limit", err)
			}
			if longest < 30*time.Second {
				t.Errorf("waited %s at most, want what Retry-After wishes, capped at 30 s", longest)
			}
		})
	}
}

// R23: a registry that says GOAWAY on HTTP/2 and hangs up is asked on another connection.
func TestR23GoAwayIsFollowedByAnotherConnection(t *testing.T) {
	registry := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f := newFixture(t, 100)
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: registry.Host() + "/k"})
	check(t, err)
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", registry.Host(), ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for key, values := range resp.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	refuseOne := &refusesOne{Listener: proxy.Listener, t: t, server: proxy}
	proxy.Listener, proxy.EnableHTTP2 = refuseOne, true
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	network := dialing(proxy.Listener.Addr().String())
	network.TLSClientConfig = proxy.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	t.Cleanup(network.CloseIdleConnections)
	c := newClient()
	c.Transport = network
	repo, err := c.Repository("example.com/k")
	check(t, err)
	m, err := repo.Manifest(t.Context(), f.digest(t))
	if err != nil || m.Descriptor.Digest != f.digest(t) {
		t.Fatalf("got %v", err)
	}
	if n := refuseOne.accepted.Load(); n != 2 {
		t.Errorf("got %d connections, want the second to be asked", n)
	}
}

// refusesOne is a listener that keeps the first connection for itself, to go away on it.
type refusesOne struct {
	net.Listener
	t        *testing.T
	server   *httptest.Server
	accepted atomic.Int64
}

func (l *refusesOne) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.accepted.Add(1) > 1 {
		return c, err
	}
	goAway(l.t, tls.Server(c, l.server.TLS))
	c.Close()
	return l.Accept()
}

// goAway takes a request on HTTP/2, refuses it, and hangs up.
func goAway(t *testing.T, c *tls.Conn) {
	if err := c.Handshake(); err != nil {
		t.Error(err)
		return
	}
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Error(err)
		return
	}
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Error(err)
			return
		}
		if frame.Header().Type == http2.FrameHeaders {
			f.WriteGoAway(0, http2.ErrCodeNo, nil)
			return
		}
	}
}

// A host that takes no connection is given up after the time for connecting.
func TestConnectingHasItsOwnTimeOut(t *testing.T) {
	host := neverAccepting(t)
	c := newClient()
	c.Timeouts.Connect = 20 * time.Millisecond
	repo, err := c.Repository(host + "/k")
	check(t, err)
	_, err = repo.Resolve(t.Context(), "v1")
	if !oci.Unreachable(err) || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v, want it unreachable by a time-out", err)
	}
}

// neverAccepting is a port whose queue of connections is full.
func neverAccepting(t *testing.T) (host string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	check(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 9}}))
	check(t, syscall.Listen(fd, 0))
	at, err := syscall.Getsockname(fd)
	check(t, err)
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9), Port: at.(*syscall.SockaddrInet4).Port}
	for { // until one is left waiting
		c, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr.String()
		}
		t.Cleanup(func() { c.Close() })
	}
}

// What takes longer than an operation may is ended, however patient Idle is.
func TestAnOperationHasATimeOutOfItsOwn(t *testing.T) {
	slow := func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		c.Read(make([]byte, 1)) // until the client hangs up
	}
	c := newClient()
	c.Timeouts = oci.Timeouts{Overall: 100 * time.Millisecond, Idle: time.Minute}
	repo, err := c.Repository(answering(t, slow) + "/k")
	check(t, err)
	_, err = repo.Manifest(t.Context(), digestOf([]byte("any")))
	if !oci.Unreachable(err) || !strings.Contains(err.Error(), "100ms") {
		t.Errorf("got %v, want it unreachable, and the limit named", err)
	}
}
