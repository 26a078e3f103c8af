package imgtest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Link is a TCP proxy that is as slow as a real line: every byte arrives a
// delay later, and all connections together share a bandwidth, in each direction.
type Link struct {
	listener net.Listener
	to       string
	delay    time.Duration
	up, down lane

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

// NewLink starts a proxy on addr ("127.0.0.1:0") to another address. delay is
// for one way; rate is in bits per second, each way. The caller closes it.
func NewLink(addr, to string, delay time.Duration, rate int64) (*Link, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start link: %w", err)
	}
	k := &Link{listener: l, to: to, delay: delay, up: lane{rate: rate}, down: lane{rate: rate}, conns: make(map[net.Conn]bool)}
	go k.accept()
	return k, nil
}

// Host is the address of the near end.
func (k *Link) Host() string { return k.listener.Addr().String() }

// Close stops the proxy and cuts its connections.
func (k *Link) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		c.Close()
	}
	k.conns = nil
	return k.listener.Close()
}

func (k *Link) accept() {
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			time.Sleep(2 * k.delay) // the handshake of a connection takes one round trip
			far, err := net.Dial("tcp", k.to)
			if err != nil {
				near.Close()
				return
			}
			if !k.track(near) || !k.track(far) {
				near.Close()
				far.Close()
				return
			}
			var g sync.WaitGroup
			g.Go(func() { k.up.carry(far, near, k.delay) })
			g.Go(func() { k.down.carry(near, far, k.delay) })
			g.Wait()
			k.forget(near, far)
		}()
	}
}

// track remembers a connection for Close. It is false when that has been called.
func (k *Link) track(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns == nil {
		return false
	}
	k.conns[c] = true
	return true
}

func (k *Link) forget(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(k.conns, c)
	}
}

// lane is one direction of a link.
type lane struct {
	rate int64 // bits per second

	mu   sync.Mutex
	free time.Time // when what was sent so far has left
}

// frame is a piece of data and when it arrives.
type frame struct {
	data []byte
	at   time.Time
}

// carry moves bytes until the source ends, then closes that direction.
func (l *lane) carry(to, from net.Conn, delay time.Duration) {
	queue := make(chan frame, 256) // 4 MiB on their way: more than 400 Mbit/s times 40 ms
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			if n > 0 {
				queue <- frame{data: buf[:n], at: l.send(n).Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range queue {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil {
			from.Close() // ends the reader
			for range queue {
			}
			return
		}
	}
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		c.CloseWrite() // an error means that it is closed already
	}
}

var _ io.Closer = (*Link)(nil)

// buffer is how much a lane takes before it holds the sender back. It also
// makes up for a sleep that lasted too long: without it the rate would sink.
const buffer = 5 * time.Millisecond

// send takes its turn for n bytes and returns when the last will have left.
// The sender is held back to the lane's rate.
func (l *lane) send(n int) time.Time {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * 8 * int64(time.Second) / l.rate))
	free := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(free) - buffer)
	return free
}
