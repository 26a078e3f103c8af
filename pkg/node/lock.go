package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/imgctl/imgctl/internal/filelock"
)

// change runs one call that may write: it takes the lock, decides, brings the
// store in order and does what was decided. A decision that is an error writes
// nothing, not even the lock file.
func (s *Store) change(ctx context.Context, decide func(*state) (apply func() error, err error)) error {
	d, err := s.openDisk()
	if err != nil {
		return err
	}
	defer d.root.Close()
	if err := checkDirs(d, lockFile); err != nil {
		return err
	}
	lock, err := d.open(lockFile)
	if errors.Is(err, fs.ErrNotExist) {
		lock, err = newLock(d, decide)
	}
	if err != nil {
		return err
	}
	defer lock.Close() // and so unlocks
	if err := s.wait(ctx, lock); err != nil {
		return err
	}
	st, err := load(d)
	if err != nil {
		return err
	}
	apply, err := decide(st)
	if err != nil {
		return err
	}
	if err := st.recover(); err != nil {
		return fmt.Errorf("finish what a killed call left: %w", err)
	}
	return apply()
}

// newLock makes the store and its lock file, unless the first decision on a
// machine without them is to refuse.
func newLock(d *disk, decide func(*state) (func() error, error)) (*os.File, error) {
	st, err := load(d)
	if err != nil {
		return nil, err
	}
	if _, err := decide(st); err != nil {
		return nil, err
	}
	if err := d.mkdirs(generationsDir); err != nil {
		return nil, err
	}
	f, err := d.create(lockFile) // 0600: nobody but the owner can hold it
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if f != nil {
		err = f.Close()
	}
	lock, openErr := d.open(lockFile)
	if openErr != nil {
		return nil, errors.Join(err, openErr)
	}
	return lock, nil
}

// wait takes the lock (CATALOGUE N16: no stale one can exist).
func (s *Store) wait(ctx context.Context, f *os.File) error {
	held := func() { s.log().Warn("waiting for the lock", "held by", holder(f)) }
	if err := filelock.Wait(ctx, f, held); err != nil {
		return fmt.Errorf("lock /%s: held by %s: %w", lockFile, holder(f), err)
	}
	return nil
}

// holder says who holds the lock on f, as far as the kernel tells.
func holder(f *os.File) string {
	const unknown = "another process"
	fi, err := f.Stat()
	if err != nil {
		return unknown
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return unknown
	}
	defer locks.Close()
	pid := flockHolder(locks, fi.Sys().(*syscall.Stat_t).Ino)
	if pid <= 0 { // 0: in another namespace
		return unknown
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
}

// flockHolder finds in the text of /proc/locks who holds a flock on an inode. A
// line is "1: FLOCK  ADVISORY  WRITE 4073 08:01:131090 0 EOF" (proc(5)). The
// device is not compared: some file systems show another one to stat(2).
func flockHolder(locks io.Reader, inode uint64) int {
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 8 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(inode, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil {
			return pid
		}
	}
	return 0
}
