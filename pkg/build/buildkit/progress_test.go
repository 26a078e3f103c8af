package buildkit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
)

func TestDisplayShowsPlatformsSideBySide(t *testing.T) {
	var out bytes.Buffer
	d := &display{Progress: Progress{Out: &out, Mode: "plain"}}
	began := time.Now()
	both := make(chan struct{}, 2)
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		if err := d.join(); err != nil {
			t.Fatal(err)
		}
		w := newWatch("["+platform+"] ", d.status)
		from := make(chan *client.SolveStatus)
		go func() {
			w.follow(from)
			both <- struct{}{}
		}()
		step := digest.FromString(platform)
		from <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: step, Name: "install", Started: &began}}}
		from <- &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: step, Data: []byte("hello \x1b[2Jfrom " + platform + "\n"), Timestamp: began}}}
		from <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: step, Name: "install", Started: &began, Completed: &began}}}
		close(from)
	}
	<-both
	<-both
	d.leave()
	if d.solves != 1 {
		t.Fatalf("got %d solves, want the other one still there", d.solves)
	}
	d.leave()
	for _, want := range []string{"[linux/amd64] install", "[linux/arm64] install", "hello [2Jfrom linux/amd64\n", "hello [2Jfrom linux/arm64\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", &out, want)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("got %q, want no escape sequence", &out)
	}
}

func TestDisplayBeginsAgainAfterItsEnd(t *testing.T) {
	var out bytes.Buffer
	d := &display{Progress: Progress{Out: &out, Mode: "plain"}}
	now := time.Now()
	for i := range 2 {
		if err := d.join(); err != nil {
			t.Fatal(err)
		}
		d.status <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString("x"), Name: fmt.Sprint("build ", i), Started: &now, Completed: &now}}}
		d.leave()
	}
	if !strings.Contains(out.String(), "build 0") || !strings.Contains(out.String(), "build 1") {
		t.Errorf("got %q, want both builds", &out)
	}
}

func TestDisplayThatCannotBeShownIsAnError(t *testing.T) {
	for mode, want := range map[string]string{"tty": "console", "colours": "invalid progress mode"} {
		d := &display{Progress: Progress{Out: &bytes.Buffer{}, Mode: mode}}
		has(t, d.join(), want)
		if d.solves != 0 {
			t.Errorf("%s: got %d solves, want none", mode, d.solves)
		}
	}
	quiet := &display{}
	if err := quiet.join(); err != nil {
		t.Fatal(err)
	}
	quiet.status <- &client.SolveStatus{}
	quiet.leave()
}

func TestLostStepsAreShownAsEnded(t *testing.T) {
	shown := make(chan *client.SolveStatus, 10)
	w := newWatch("", shown)
	now, later := time.Now(), time.Now().Add(time.Second)
	from := make(chan *client.SolveStatus, 1)
	from <- &client.SolveStatus{Vertexes: []*client.Vertex{
		{Digest: digest.FromString("done"), Name: "done", Started: &now, Completed: &now},
		{Digest: digest.FromString("second"), Name: "second", Started: &later},
		{Digest: digest.FromString("first"), Name: "first", Started: &now},
		{Digest: digest.FromString("waits"), Name: "waits"},
	}}
	close(from)
	w.follow(from)
	<-shown
	if got := w.running(); got != "second" {
		t.Errorf("running: got %q, want the step that began last", got)
	}
	w.abandon("worker lost")
	var got []string
	for _, v := range (<-shown).Vertexes {
		got = append(got, v.Name+": "+v.Error)
		if v.Completed == nil {
			t.Errorf("%s: has no end", v.Name)
		}
	}
	if strings.Join(got, ", ") != "second: worker lost, first: worker lost" {
		t.Errorf("got %q", got)
	}
}

func TestLogIsRememberedWithinBounds(t *testing.T) {
	s := &step{}
	for i := range 1000 {
		s.add([]byte(strings.Repeat("x", 100)))
		s.add([]byte(strings.Repeat("y", 1000) + fmt.Sprint(i)))
		s.add([]byte("\n\n"))
	}
	s.add([]byte("the end"))
	tail := s.tail()
	if len(tail) != logLines || tail[logLines-1] != "the end" {
		t.Errorf("got %q, want the last %d lines", tail, logLines)
	}
	for _, line := range tail {
		if len(line) > lineSize {
			t.Errorf("got a line of %d bytes, want at most %d", len(line), lineSize)
		}
	}
	w := newWatch("", nil)
	for i := range 2 * maxSteps {
		w.step(digest.FromString(fmt.Sprint(i))).add([]byte("x"))
	}
	if len(w.steps) != maxSteps || len(w.order) != maxSteps {
		t.Errorf("got %d steps, want at most %d", len(w.steps), maxSteps)
	}
	if len(s.log) > logLines || cap(s.part) > 2*lineSize {
		t.Errorf("got %d lines kept", len(s.log))
	}
}

func TestTextsAreSafeForATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31mb\x7f\u009b":  "a[31mb",
		"two\nlines\tand\rmore": "two lines and more",
		"grüße \xff":            "grüße \uFFFD",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := string(clean([]byte("a\x1b[1mb\r\n\tc\x00"))); got != "a[1mb\n\tc" {
		t.Errorf("got %q", got)
	}
}
