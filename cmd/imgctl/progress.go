package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/imgctl/imgctl/pkg/oci"
)

// printer shows what goes on, on stderr. On a terminal the transfers that are
// under way are redrawn below the lines that are done; elsewhere there are only
// lines. It is safe for concurrent use.
type printer struct {
	w      io.Writer
	tty    bool
	silent bool
	now    func() time.Time

	mu     sync.Mutex
	active []*transfer // in the order in which they began
	drawn  int         // lines of the live part that are on the screen
	last   time.Time   // when they were drawn
}

// transfer is something that moves.
type transfer struct {
	verb, name  string
	began       time.Time
	done, total int64 // bytes; total 0 is unknown
}

// redrawEvery bounds how often the live part is drawn, and maxLive how long it is.
const (
	redrawEvery = 100 * time.Millisecond
	maxLive     = 8
)

// printer returns the one printer of the command.
func (a *app) printer() *printer {
	if a.progressOf == nil {
		a.progressOf = a.newPrinter()
	}
	return a.progressOf
}

func (a *app) newPrinter() *printer {
	p := &printer{w: a.stderr, now: a.now}
	switch a.progress {
	case "none":
		p.silent = true
	case "tty":
		p.tty = true
	case "auto":
		p.silent = a.output == "name"
		f, ok := a.stderr.(*os.File)
		p.tty = ok && term.IsTerminal(int(f.Fd())) && a.getenv("TERM") != "dumb"
	}
	return p
}

// line prints one finished thing: a verb, then what it is about.
func (p *printer) line(verb, format string, args ...any) {
	if p.silent {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.w, "%-7s %s\n", verb, oneLine(fmt.Sprintf(format, args...)))
	p.draw()
}

// fetched is the progress of a download.
func (p *printer) fetched(name string, done, total int64) { p.moved("fetch", name, done, total) }

// pushed is the progress of an upload.
func (p *printer) pushed(e oci.Event) {
	p.moved("push", e.Repository+" "+shortDigest(e.Digest.String()), e.Done, e.Total)
}

// moved reports that done of total bytes have arrived; done == total ends the transfer.
func (p *printer) moved(verb, name string, done, total int64) {
	if p.silent || !p.tty {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.transfer(verb, name)
	t.done, t.total = done, total
	if total > 0 && done >= total {
		p.active = slices.DeleteFunc(p.active, func(o *transfer) bool { return o == t })
	}
	if p.now().Sub(p.last) >= redrawEvery || len(p.active) == 0 {
		p.erase()
		p.draw()
	}
}

func (p *printer) transfer(verb, name string) *transfer {
	for _, t := range p.active {
		if t.verb == verb && t.name == name {
			return t
		}
	}
	t := &transfer{verb: verb, name: name, began: p.now()}
	p.active = append(p.active, t)
	return t
}

// close removes the live part: what has not ended by now has failed.
func (p *printer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.active = nil
}

// erase removes the live part from the screen.
func (p *printer) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
}

func (p *printer) draw() {
	if !p.tty {
		return
	}
	p.last = p.now()
	for _, t := range p.active[:min(len(p.active), maxLive)] {
		fmt.Fprintf(p.w, "%-7s %-48.48s %s\n", t.verb, t.name, t.text(p.last))
		p.drawn++
	}
}

// text is the state of a transfer: a bar where the end is known, and the rate.
func (t *transfer) text(now time.Time) string {
	rate := ""
	if took := now.Sub(t.began).Seconds(); took > 0.5 {
		rate = fmt.Sprintf("  %s/s", bytesText(int64(float64(t.done)/took)))
	}
	if t.total <= 0 {
		return bytesText(t.done) + rate
	}
	const width = 20
	full := int(min(t.done, t.total) * width / t.total)
	return fmt.Sprintf("%s%s %3d %%%s", strings.Repeat("█", full), strings.Repeat("·", width-full), t.done*100/t.total, rate)
}
