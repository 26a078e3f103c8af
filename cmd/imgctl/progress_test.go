package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newTestPrinter(tty bool) (*printer, *bytes.Buffer, *clock) {
	var b bytes.Buffer
	c := &clock{time.Unix(1000, 0)}
	return &printer{w: &b, tty: tty, now: c.now}, &b, c
}

func TestATerminalShowsTransfersBelowWhatIsDone(t *testing.T) {
	p, b, c := newTestPrinter(true)
	p.moved("fetch", "kubelet", 0, 100)
	c.t = c.t.Add(time.Second)
	p.moved("fetch", "kubelet", 50, 100)
	if !strings.Contains(b.String(), "██████████··········  50 %  50 B/s") {
		t.Errorf("got %q, want half a bar and the rate", b)
	}
	b.Reset()
	p.line("done", "something")
	if want := "\x1b[1A\x1b[Jdone    something\nfetch   kubelet"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("got %q, want the live line below the finished one", b)
	}
	b.Reset()
	p.moved("fetch", "kubelet", 100, 100)
	if b.String() != "\x1b[1A\x1b[J" {
		t.Errorf("got %q, want the live line gone", b)
	}
}

func TestFailedTransfersDoNotStay(t *testing.T) {
	p, b, _ := newTestPrinter(true)
	p.moved("push", "a", 1, 0)
	b.Reset()
	p.close()
	p.line("done", "x")
	if b.String() != "\x1b[1A\x1b[Jdone    x\n" {
		t.Errorf("got %q, want no trace of the transfer", b)
	}
}

func TestAPipeGetsLinesOnly(t *testing.T) {
	p, b, _ := newTestPrinter(false)
	p.moved("fetch", "kubelet", 50, 100)
	p.line("fetch", "kubelet %s", "with\x1b[31m escape\nand newline")
	if b.String() != "fetch   kubelet with[31m escape and newline\n" {
		t.Errorf("got %q", b)
	}
}

func TestSizesAndTimesAreForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.0 KiB", 3 << 19: "1.5 MiB", 5 << 30: "5.0 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Millisecond: "0.1 s", 12400 * time.Millisecond: "12s", 100 * time.Second: "1m40s"} {
		if got := tookText(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	if got := shortDigest("sha256:0123456789abcdef"); got != "sha256:0123456789ab" {
		t.Errorf("got %q", got)
	}
}
