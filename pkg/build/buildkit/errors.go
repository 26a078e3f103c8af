package buildkit

import (
	"errors"
	"fmt"
	"strings"
)

// An UnavailableError says that a worker cannot be reached, or was lost while it worked.
type UnavailableError struct {
	Worker Worker
	Step   string // what it was doing; "" when it could not be reached
	Err    error
}

// Error is one line.
func (e *UnavailableError) Error() string {
	if e.Step == "" {
		return fmt.Sprintf("worker %s: no answer: %v", e.Worker, e.Err)
	}
	return fmt.Sprintf("worker %s: lost during step %q: %v", e.Worker, e.Step, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// A PlatformError says that a worker builds for other platforms than the one that was asked for.
type PlatformError struct {
	Worker Worker
	Want   string
	Have   []string
}

// Error is one line.
func (e *PlatformError) Error() string {
	return fmt.Sprintf("worker %s: builds for %s, want %s", e.Worker, strings.Join(e.Have, " "), e.Want)
}

// Hint is what to do about it.
func (e *PlatformError) Hint() string {
	return fmt.Sprintf("register QEMU for %s on the worker's machine (Debian: qemu-user-static and binfmt-support), or name a worker that is such a machine: --addr %s=…", e.Want, e.Want)
}

// A WorkersError says that there is no worker, or none any more, that could
// build for a platform.
type WorkersError struct {
	Platform string
	Causes   []error // one for each worker that was tried
}

// Error is one line.
func (e *WorkersError) Error() string {
	if len(e.Causes) == 0 {
		return "no worker for " + e.Platform
	}
	causes := make([]string, len(e.Causes))
	for i, err := range e.Causes {
		causes[i] = err.Error()
	}
	return fmt.Sprintf("no worker for %s is left: %s", e.Platform, strings.Join(causes, "; "))
}

// Unwrap returns the causes.
func (e *WorkersError) Unwrap() []error { return e.Causes }

// A StepError says that a step of the build failed. Another worker would fail alike.
type StepError struct {
	Worker Worker
	Step   string   // its name: "[linux/arm64] install 42 packages"; "" when it is none of ours
	Log    []string // the last lines that it printed, safe for a terminal
	Err    error
}

// Error is one line, with the end of the step's log.
func (e *StepError) Error() string {
	text := fmt.Sprintf("worker %s: ", e.Worker)
	if e.Step != "" {
		text += fmt.Sprintf("step %q: ", e.Step)
	}
	text += e.Err.Error()
	if len(e.Log) > 0 {
		text += ": " + strings.Join(e.Log, " | ")
	}
	return text
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Unreachable reports whether err says that no worker could be asked: an outage,
// which may be over later.
func Unreachable(err error) bool {
	var u *UnavailableError
	return errors.As(err, &u)
}
