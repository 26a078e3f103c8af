package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

const (
	startLimit = 60 * time.Second // for a program to become ready, on a busy machine
	logTail    = 2 << 10          // bytes of the log that an error shows
)

// Process is a program that [Start] started. Its methods may be used from
// several goroutines.
type Process struct {
	// Grace is how long [Process.Stop] waits before it kills, from Start ten
	// seconds. It may be changed before Stop is called.
	Grace time.Duration

	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// Start runs cmd with its output in the file log and returns when ready is nil,
// which it asks again and again; ctx bounds only this wait. When the program ends
// by itself, or is not ready within a minute, the error shows the end of the
// log and nothing is left running. The program also ends when this process dies,
// where the kernel offers that.
func Start(ctx context.Context, cmd *exec.Cmd, log string, ready func(context.Context) error) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	dieWithParent(cmd)
	p := &Process{Grace: 10 * time.Second, cmd: cmd, log: log, done: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if err := p.wait(ctx, ready); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w%s", cmd.Path, err, p.tail()), p.Stop())
	}
	return p, nil
}

// start starts the program and waits for its end on one thread: the kernel takes
// the end of the thread that started a child for the death of its parent.
func (p *Process) start() error {
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait() // how it ended is in p.cmd.ProcessState
		}
	}()
	return <-started
}

// wait asks ready until it says yes.
func (p *Process) wait(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended before it was ready: %v", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Done is closed when the program has ended, by itself or by [Process.Stop].
func (p *Process) Done() <-chan struct{} { return p.done }

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the program to end, and kills it when it has not ended after
// p.Grace. It returns when the program is gone; a second call does nothing.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(terminate); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(p.Grace):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.done
	return nil
}

// tail is the end of the log, for an error message.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\n" + string(bytes.TrimSpace(data[max(0, len(data)-logTail):]))
}
