package filelock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/imgctl/imgctl/internal/filelock"
)

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "x.lock")
	var inside, turns atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			unlock, err := filelock.Lock(context.Background(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold the lock", n)
			}
			turns.Add(1)
			inside.Add(-1)
		})
	}
	wg.Wait()
	if n := turns.Load(); n != 16 {
		t.Errorf("%d of 16 had their turn", n)
	}
}

// Who waits no longer leaves nothing behind that would still take the lock, or
// make the lock file again.
func TestAWaiterThatGivesUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	path := filepath.Join(dir, "x.lock")
	unlock, err := filelock.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	synctest.Test(t, func(t *testing.T) { // fails when a goroutine is left
		cancel(reason)
		if _, err := filelock.Lock(ctx, path); !errors.Is(err, reason) {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
	unlock()
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	unlock, err = filelock.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestWaitSaysOnceThatItWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	unlock, err := filelock.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said := 0
	if err := filelock.Wait(t.Context(), f, func() { said++; unlock() }); err != nil || said != 1 {
		t.Errorf("got %v after %d calls, want nil after 1", err, said)
	}
}

func TestNoLockWithoutADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Lock(t.Context(), filepath.Join(file, "x.lock")); err == nil {
		t.Error("locked a file below a file")
	}
}
