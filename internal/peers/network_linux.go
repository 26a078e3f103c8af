package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// network is a network namespace that has a loopback and nothing else: who runs
// in it takes no port of the machine's, whatever it listens on, and reaches
// nobody. It takes root.
type network struct{ namespace *os.File }

// newNetwork makes a namespace, which lives until close and what runs in it.
func newNetwork() (*network, error) {
	n := &network{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		n.namespace, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return n, nil
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and it is not unlocked, so that the thread is not used again
		done <- f()
	}()
	return <-done
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, up)
}

// do runs f in the namespace. A socket stays in the one that it was made in.
func (n *network) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// listen listens at an address of the namespace.
func (n *network) listen(addr string) (l net.Listener, err error) {
	err = n.do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	return l, err
}

// dial connects to an address of the namespace.
func (n *network) dial(ctx context.Context, addr string) (c net.Conn, err error) {
	err = n.do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return err
	})
	return c, err
}

// command prepares a program that runs in the namespace.
func (n *network) command(program string, args ...string) *exec.Cmd {
	namespace := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), n.namespace.Fd())
	return exec.Command("nsenter", append([]string{namespace, program}, args...)...)
}

func (n *network) close() error { return n.namespace.Close() }
