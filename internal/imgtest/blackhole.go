package imgtest

import (
	"net"
	"os"
	"syscall"
	"testing"
)

// BlackHole returns the address on loopback of somebody who listens and never
// accepts, with as many connections waiting as the kernel holds: another
// connection does not come about and is not refused either, as behind a firewall
// that swallows packets.
func BlackHole(t testing.TB) string {
	t.Helper()
	fd := socket(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(syscall.Listen(fd, 0))
	at, err := syscall.Getsockname(fd)
	check(err)
	const enough = 4 // Linux keeps one more than was asked for
	for range enough {
		waiting := socket(t)
		check(syscall.SetNonblock(waiting, true))
		if err := syscall.Connect(waiting, at); err != nil && err != syscall.EINPROGRESS {
			t.Fatal(os.NewSyscallError("connect", err))
		}
	}
	port := at.(*syscall.SockaddrInet4).Port
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
}

func socket(t testing.TB) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}
