package node

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNothingInstalled means that the store has no active generation.
var ErrNothingInstalled = errors.New("no bundle is installed")

// ErrNoPrevious means that there is no generation to roll back to.
var ErrNoPrevious = errors.New("no previous generation")

// Conflict means that a bundle wants paths which belong to somebody else.
// Nothing was written.
type Conflict struct {
	Paths []string // at least one, each with what is there
}

// Error is one line.
func (c *Conflict) Error() string {
	s := "not replaced, because imgctl did not install it: " + strings.Join(c.Paths[:min(3, len(c.Paths))], ", ")
	if more := len(c.Paths) - 3; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// Hint says what the user can do about it.
func (c *Conflict) Hint() string { return "move it away, then run the same command again" }

// Damaged means that a generation is no longer what was installed.
type Damaged struct {
	ID      int
	Changes []Change // at least one, unless Err is set
	Err     error    // why the record itself cannot be used
}

// Error is one line.
func (d *Damaged) Error() string {
	if d.Err != nil {
		return fmt.Sprintf("generation %d: %v", d.ID, d.Err)
	}
	s := fmt.Sprintf("generation %d: %s", d.ID, d.Changes[0])
	if more := len(d.Changes) - 1; more > 0 {
		s += fmt.Sprintf(" and %d more changes", more)
	}
	return s
}

// Unwrap gives the cause, which may be nil.
func (d *Damaged) Unwrap() error { return d.Err }

// Hint says what the user can do about it.
func (d *Damaged) Hint() string { return "install the bundle again: imgctl pull repairs it" }

// Unfinished means that the generation is active, and that one of the last steps
// failed: syncing the switch, or removing links which only the old one had. The
// next call finishes it.
type Unfinished struct {
	ID  int
	Err error
}

// Error is one line.
func (u *Unfinished) Error() string {
	return fmt.Sprintf("generation %d is active, but not finished: %v", u.ID, u.Err)
}

// Unwrap gives the cause.
func (u *Unfinished) Unwrap() error { return u.Err }
