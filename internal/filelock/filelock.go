// Package filelock makes processes, and goroutines of one process, take turns
// with files. For memory that goroutines share, use a mutex.
//
// A lock is flock(2) on an open file: the kernel takes it back from a process
// that dies, however it dies, so that no stale lock exists. Lock files stay where
// they are: removing one would let two processes lock two files of one name.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How often a waiting call asks again, because flock(2) has no time-out: at
// first often, for those who hold a lock only to write one small file.
const (
	firstPoll = time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// Lock takes the lock file at path, which it makes with its directory when it is
// not there, and waits for its holder until ctx ends: then the error is ctx's
// cause, wrapped. When Lock has returned an error it does nothing more.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := Wait(ctx, f, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { f.Close() }, nil
}

// Wait takes the lock on the open file f and keeps it until f is closed. Before
// it waits for somebody it calls held once, when that is not nil. The error is
// ctx's cause when ctx ends first; a lock that is free is taken without a look at ctx.
func Wait(ctx context.Context, f *os.File, held func()) error {
	poll := firstPoll
	for {
		if taken, err := Try(f); taken || err != nil {
			return err
		}
		if held != nil {
			held()
			held = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(poll):
		}
		poll = min(2*poll, lastPoll)
	}
}

// Try takes the lock on the open file f and keeps it until f is closed. It reports
// whether it did, and waits for nobody.
func Try(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return err == nil, err
}
