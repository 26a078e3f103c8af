package peers

import (
	"context"
	"io"
	"net"
	"sync"
)

// Forward joins each connection that l accepts with one to addr, until l is closed.
func Forward(l net.Listener, addr string) {
	forward(l, func(ctx context.Context, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}, addr)
}

// dialer connects to an address.
type dialer func(ctx context.Context, addr string) (net.Conn, error)

// forward is [Forward] by way of dial.
func forward(l net.Listener, dial dialer, addr string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go join(in, dial, addr)
	}
}

// join copies in both directions until both sides are done.
func join(in net.Conn, dial dialer, addr string) {
	defer in.Close()
	out, err := dial(context.Background(), addr)
	if err != nil {
		return
	}
	defer out.Close()
	var g sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		g.Go(func() {
			io.Copy(pair[0], pair[1])
			pair[0].(*net.TCPConn).CloseWrite()
		})
	}
	g.Wait()
}
