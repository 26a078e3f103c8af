package imgtest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Trouble is what a [Proxy] does to a connection. Positions count the bytes of
// one direction from 1; 0: never.
type Trouble struct {
	Up    bool          // of what the client sends; else of what it gets
	Delay time.Duration // before the first byte
	Cut   int64         // close the connection instead of passing on this byte
	Reset bool          // … with RST
	Stall int64         // pass on nothing from this byte on, and keep the connection
	Flip  int64         // invert a bit of this byte
	Skip  int           // let so many connections through first
	Times int           // then happen to so many; 0: to all
}

// Proxy passes TCP connections on to a server, and harms some of them.
type Proxy struct {
	listener net.Listener
	to       string

	mu       sync.Mutex
	troubles []*Trouble
	conns    []net.Conn
	accepted int
	closed   bool
}

// StartProxy starts a proxy at addr ("127.0.0.1:0") for a test, which closes it.
func StartProxy(t testing.TB, addr, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, to: to}
	go p.accept()
	t.Cleanup(p.close)
	return p
}

// Host is the proxy's address.
func (p *Proxy) Host() string { return p.listener.Addr().String() }

// On adds a trouble. Of several that fit a connection, the first added happens.
func (p *Proxy) On(t Trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, &t)
}

// Heal removes all troubles. Connections that have one keep it.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = nil
}

// Connections is how many there have been.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *Proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.listener.Close()
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			near.Close()
			continue
		}
		t := p.admit(near, far)
		go p.carry(far, near, t, t != nil && t.Up)
		go p.carry(near, far, t, t != nil && !t.Up)
	}
}

// admit remembers a connection and picks its trouble.
func (p *Proxy) admit(conns ...net.Conn) *Trouble {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	p.conns = append(p.conns, conns...)
	if p.closed {
		for _, c := range conns {
			c.Close()
		}
	}
	for _, t := range p.troubles {
		switch {
		case t.Skip > 0:
			t.Skip--
		case t.Times >= 0:
			if t.Times == 1 {
				t.Times = -2 // used up after this one
			} else if t.Times > 1 {
				t.Times--
			}
			picked := *t
			return &picked
		}
	}
	return nil
}

// carry passes on one direction of a connection until it ends or is ended.
func (p *Proxy) carry(to, from net.Conn, t *Trouble, harm bool) {
	defer func() {
		if c, ok := to.(*net.TCPConn); ok {
			c.CloseWrite() // an error means that it is closed already
		}
	}()
	if !harm {
		io.Copy(to, from) // an error is the end of the connection
		return
	}
	time.Sleep(t.Delay)
	buf := make([]byte, 16<<10)
	for at := int64(0); ; {
		n, err := from.Read(buf)
		out, ended := t.harm(buf[:n], at)
		at += int64(n)
		if _, werr := to.Write(out); werr != nil || err != nil {
			return
		}
		if ended {
			p.end(t, to, from)
			return
		}
	}
}

// harm changes bytes that follow the first at, and says whether the connection ends.
func (t *Trouble) harm(b []byte, at int64) (out []byte, ended bool) {
	if i := t.Flip - 1 - at; t.Flip > 0 && i >= 0 && i < int64(len(b)) {
		b[i] ^= 1
	}
	for _, position := range []int64{t.Cut, t.Stall} {
		if i := position - 1 - at; position > 0 && i < int64(len(b)) {
			return b[:max(0, i)], true
		}
	}
	return b, false
}

// end closes the connection or, where it is to stall, keeps it and reads nothing more.
func (p *Proxy) end(t *Trouble, conns ...net.Conn) {
	if t.Cut == 0 {
		io.Copy(io.Discard, conns[1]) // until somebody else ends it
		return
	}
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok && t.Reset {
			tcp.SetLinger(0) // an error means that it is closed already
		}
		c.Close()
	}
}
