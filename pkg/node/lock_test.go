package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// N16: a lock file that a killed process left is not a lock, see also
// TestKilledAtEveryStep, in which every second call finds one.
func TestStaleLockFileIsNoLock(t *testing.T) {
	root := t.TempDir()
	if err := put(root, lockFile, "4711"); err != nil {
		t.Fatal(err)
	}
	mustInstall(t, storeAt(root), oldKit())
}

func TestWaitingCallSaysForWhom(t *testing.T) {
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	held := hold(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	var said record
	said.seen = cancel
	s := storeAt(root)
	s.Log = slog.New(&said)
	_, err := s.install(ctx, newKit().source)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "held by") {
		t.Errorf("got %v, want who holds the lock", err)
	}
	sees(t, root, oldKit())

	said.seen = func() { held.Close() } // the other one ends: the call goes on
	mustInstall(t, s, newKit())
	sees(t, root, newKit())
	if said.times != 2 {
		t.Errorf("said %d times that it waits, want once a call", said.times)
	}
}

// Reading does not wait: status works while an installation hangs.
func TestStatusNeedsNoLock(t *testing.T) {
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	defer hold(t, root).Close()
	if status, err := storeAt(root).Status(t.Context()); err != nil || status.Current.ID != 1 {
		t.Errorf("got %+v, %v", status, err)
	}
	if p, err := storeAt(root).plan(t.Context(), newKit().source); err != nil || p.Action != DoInstall {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestFlockHolder(t *testing.T) {
	const locks = "1: POSIX  ADVISORY  WRITE 1 08:01:7 0 EOF\n" +
		"2: FLOCK  ADVISORY  WRITE 12 08:01:71 0 EOF\n" +
		"2: -> FLOCK  ADVISORY  WRITE 13 08:01:7 0 EOF\n" +
		"3: FLOCK  ADVISORY  WRITE 14 08:01:7 0 EOF\n"
	for inode, want := range map[uint64]int{7: 14, 71: 12, 1: 0} {
		if got := flockHolder(strings.NewReader(locks), inode); got != want {
			t.Errorf("inode %d: got %d, want %d", inode, got, want)
		}
	}
}

// hold takes the lock as another process would.
func hold(t *testing.T, root string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(root, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return f
}

// record calls seen when a call says that it waits.
type record struct {
	seen  func()
	times int
}

func (r *record) Handle(_ context.Context, m slog.Record) error {
	if m.Message == "waiting for the lock" {
		r.times++
		r.seen()
	}
	return nil
}
func (r *record) Enabled(context.Context, slog.Level) bool { return true }
func (r *record) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *record) WithGroup(string) slog.Handler            { return r }
