package peers

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestWhatListensInTheNamespaceIsReachedByForwardingAlone(t *testing.T) {
	n := namespace(t)
	inside, err := n.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	go echo(inside)
	addr := inside.Addr().String()
	if c, err := net.Dial("tcp", addr); err == nil { // it may be anybody's on this machine, but not ours
		defer c.Close()
		if got := exchange(c); got == "HELLO" {
			t.Errorf("%s is reached from outside", addr)
		}
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	go forward(outside, n.dial, addr)
	c, err := net.Dial("tcp", outside.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := exchange(c); got != "HELLO" {
		t.Errorf("got %q through the forwarder, want HELLO", got)
	}
}

func TestAProgramInTheNamespaceSeesLoopbackAlone(t *testing.T) {
	n := namespace(t)
	out, err := n.command("cat", "/proc/net/dev").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lo:") || strings.Count(string(out), ":") != 1 {
		t.Errorf("got %v and %s, want lo alone", err, out)
	}
}

func TestForwardToNobodyEndsTheConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	go Forward(l, nobody.Addr().String())
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := exchange(c); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

// namespace makes one, which takes root and nsenter.
func namespace(t *testing.T) *network {
	t.Helper()
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip(err)
	}
	n, err := newNetwork()
	if errors.Is(err, syscall.EPERM) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	return n
}

// echo answers each connection with what it was sent, in capitals.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		data, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(data))
		c.Close()
	}
}

// exchange says hello and returns the answer.
func exchange(c net.Conn) string {
	io.WriteString(c, "hello")
	c.(*net.TCPConn).CloseWrite()
	data, _ := io.ReadAll(c)
	return string(data)
}
