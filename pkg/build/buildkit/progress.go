package buildkit

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"
)

// Progress says how the work of the workers is shown.
type Progress struct {
	Out  io.Writer // a terminal, or anything; nil: nothing is shown
	Mode string    // of BuildKit's own display: "auto", "tty", "plain" or "quiet"; "" is auto
}

// display is BuildKit's display of all that the workers of one engine do at a
// time. Each solve joins it; the last one to leave ends it.
type display struct {
	Progress

	mu     sync.Mutex
	solves int
	status chan *client.SolveStatus
	done   chan struct{}
}

// join starts the display when nobody else has.
func (d *display) join() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.solves++; d.solves > 1 {
		return nil
	}
	mode := progressui.DisplayMode(d.Mode)
	if d.Out == nil {
		mode = progressui.QuietMode
	}
	ui, err := progressui.NewDisplay(d.Out, mode)
	if err != nil {
		d.solves--
		return err
	}
	status, done := make(chan *client.SolveStatus), make(chan struct{})
	d.status, d.done = status, done
	go func() {
		defer close(done)
		ui.UpdateFrom(context.Background(), status) // ends with the channel: what is shown last is how things ended
	}()
	return nil
}

// leave waits until everything has been shown, when nobody else works.
func (d *display) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.solves--; d.solves == 0 {
		close(d.status)
		<-d.done
	}
}

// Bounds of what is remembered.
const (
	maxSteps = 1000
	logLines = 5   // of each step
	lineSize = 200 // bytes
)

// step is what is known about one step of a solve.
type step struct {
	client.Vertex
	log  [][]byte // complete lines, the last ones
	part []byte   // the line that has no end yet
}

// watch follows one solve: it passes on what the display shows, and remembers
// what an error message needs.
type watch struct {
	prefix string // of the steps' names: "[linux/arm64] "
	steps  map[digest.Digest]*step
	order  []digest.Digest // as they came
	shown  chan<- *client.SolveStatus
}

func newWatch(prefix string, shown chan<- *client.SolveStatus) *watch {
	return &watch{prefix: prefix, steps: make(map[digest.Digest]*step), shown: shown}
}

// follow reads until the solve has ended.
func (w *watch) follow(from <-chan *client.SolveStatus) {
	for s := range from {
		for _, v := range s.Vertexes {
			v.Name = w.prefix + printable(v.Name)
			v.Error = printable(v.Error)
			w.step(v.Digest).Vertex = *v
		}
		for _, l := range s.Logs {
			l.Data = clean(l.Data)
			w.step(l.Vertex).add(l.Data)
		}
		w.shown <- s
	}
}

// abandon shows that the steps under way will not end: their worker is lost.
func (w *watch) abandon(why string) {
	now := time.Now()
	var s client.SolveStatus
	for _, d := range w.order {
		if v := w.steps[d].Vertex; v.Started != nil && v.Completed == nil {
			v.Completed, v.Error = &now, why
			s.Vertexes = append(s.Vertexes, &v)
		}
	}
	w.shown <- &s
}

func (w *watch) step(d digest.Digest) *step {
	s, ok := w.steps[d]
	if !ok {
		s = &step{}
		if len(w.steps) == maxSteps {
			return s // of which nothing is remembered
		}
		w.steps[d] = s
		w.order = append(w.order, d)
	}
	return s
}

// failed returns the step of the digest; without one, the step that says it failed.
func (w *watch) failed(d string) *step {
	if s, ok := w.steps[digest.Digest(d)]; ok {
		return s
	}
	for _, d := range slices.Backward(w.order) {
		if s := w.steps[d]; s.Error != "" {
			return s
		}
	}
	return &step{}
}

// running returns the name of the step that began last of those under way.
func (w *watch) running() string {
	var last *step
	for _, d := range w.order {
		s := w.steps[d]
		if s.Started == nil || s.Completed != nil {
			continue
		}
		if last == nil || s.Started.After(*last.Started) {
			last = s
		}
	}
	if last == nil {
		return ""
	}
	return last.Name
}

// add remembers what a step printed, within bounds.
func (s *step) add(data []byte) {
	for {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		s.part = append(s.part, line[:min(len(line), lineSize-len(s.part))]...)
		if !ended {
			return
		}
		if len(bytes.TrimSpace(s.part)) > 0 {
			s.log = append(s.log, s.part)
			s.log = s.log[max(0, len(s.log)-logLines):]
		}
		s.part, data = nil, rest
	}
}

// tail returns the last lines that the step printed.
func (s *step) tail() []string {
	var lines []string
	for _, line := range append(slices.Clone(s.log), s.part) {
		if text := strings.TrimSpace(printable(string(line))); text != "" {
			lines = append(lines, text)
		}
	}
	return lines[max(0, len(lines)-logLines):]
}

// clean takes from a log what a terminal would obey: it was printed by programs
// of packages.
func clean(data []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && control(r) {
			return -1
		}
		return r
	}, data)
}

// printable makes a text that stays on its line.
func printable(s string) string {
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case control(r):
			return -1
		}
		return r
	}, s), "\uFFFD")
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
