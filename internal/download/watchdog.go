package download

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// minProgress is how many bytes a transfer must bring in the stall time. Less
// is a trickle that would hold the line for days.
const minProgress = 4 << 10

// errStalled is the cause of a context that a [watchdog] has ended.
var errStalled = errors.New("stalled")

// watchdog ends a request that makes no progress. It counts from its start, so
// that connecting and waiting for the header are covered.
type watchdog struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
	bytes  int // since the timer was last set
}

func watch(parent context.Context, limit time.Duration) *watchdog {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watchdog{ctx: ctx, cancel: cancel, limit: limit}
	w.timer = time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: less than %d bytes in %s", errStalled, minProgress, limit))
	})
	return w
}

// progress tells that n bytes have arrived.
func (w *watchdog) progress(n int) {
	if w.bytes += n; w.bytes >= minProgress {
		w.bytes = 0
		w.timer.Reset(w.limit)
	}
}

// stop ends the request, if it has not ended, and the watch.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause returns why the request ended: the parent's cause, the stall, or err.
func (w *watchdog) cause(parent context.Context, err error) error {
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	if c := context.Cause(w.ctx); c != nil && errors.Is(c, errStalled) {
		return c
	}
	return err
}
