package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
)

// story is one call that changes a machine, from a whole state to a whole state.
type story struct {
	name     string
	before   []kit // installed one after another
	old, new kit
	do       func(context.Context, *Store) error
	again    func(context.Context, *Store) error // the call that converges; nil: do
}

func install(k kit) func(context.Context, *Store) error {
	return func(ctx context.Context, s *Store) error { _, err := s.install(ctx, k.source); return err }
}

func stories() []story {
	return []story{
		{name: "install", new: newKit(), do: install(newKit())},
		{name: "upgrade", before: []kit{oldKit()}, old: oldKit(), new: newKit(), do: install(newKit())},
		{
			name: "rollback", before: []kit{newKit(), oldKit()}, old: oldKit(), new: newKit(),
			do:    func(ctx context.Context, s *Store) error { _, err := s.Rollback(ctx); return err },
			again: func(ctx context.Context, s *Store) error { _, err := s.Activate(ctx, 1); return err },
		},
		{
			name: "prune", before: []kit{pack("v1.36.0", map[string]string{"/etc/a": "0", "/etc/b": "0"}), oldKit(), newKit()}, old: newKit(), new: newKit(),
			do: func(ctx context.Context, s *Store) error { _, err := s.Prune(ctx, 0); return err },
		},
	}
}

// machine makes a machine as the story finds it.
func (st story) machine(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, k := range st.before {
		mustInstall(t, storeAt(root), k)
	}
	return root
}

// converges runs the call again after a crash, and fails unless the machine is
// then as if it had never crashed.
func (st story) converges(t *testing.T, root string) {
	t.Helper()
	again := st.again
	if again == nil {
		again = st.do
	}
	if err := again(t.Context(), storeAt(root)); err != nil {
		t.Fatalf("run again: %v", err)
	}
	sees(t, root, st.new)
	tidy(t, root)
}

const killVariable = "IMGCTL_TEST_KILL" // "story step root": be the program that is killed

func TestMain(m *testing.M) {
	if v := os.Getenv(killVariable); v != "" {
		os.Exit(dieAtStep(v))
	}
	os.Exit(m.Run())
}

// dieAtStep runs a story and kills its own process before one step. It returns
// 0 when the story ended before that.
func dieAtStep(v string) int {
	var name, root string
	var n int
	if _, err := fmt.Sscanf(v, "%s %d %s", &name, &n, &root); err != nil {
		return 2
	}
	c := counter{before: func(i int, _ step) error {
		if i == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return nil
	}}
	s := storeAt(root)
	s.trap = c.trap()
	for _, st := range stories() {
		if st.name == name {
			if err := st.do(context.Background(), s); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
	}
	return 2
}

// N01: a process that is killed at any step leaves all files old or all files
// new, and the next call converges.
func TestKilledAtEveryStep(t *testing.T) {
	for _, st := range stories() {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			template := st.machine(t)
			var c counter
			s := storeAt(copyOf(t, template))
			s.trap = c.trap()
			if err := st.do(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			saw := [2]int{}
			for n := 1; n <= len(c.steps); n++ {
				root := copyOf(t, template)
				if err := kill(st.name, n, root); err != nil {
					t.Fatalf("step %d, %v: %v", n, c.steps[n-1], err)
				}
				saw[sees(t, root, st.old, st.new)]++
				st.converges(t, root)
			}
			if err := kill(st.name, len(c.steps)+1, copyOf(t, template)); err == nil {
				t.Errorf("killed at step %d, which is not there", len(c.steps)+1)
			}
			t.Logf("%d kills: %d times all old, %d times all new", len(c.steps), saw[0], saw[1])
			if st.name != "prune" && (saw[0] == 0 || saw[1] == 0) {
				t.Errorf("old %d times and new %d times: want both", saw[0], saw[1])
			}
		})
	}
}

// kill runs a story in a process of its own. The error is nil when it was killed.
func kill(name string, n int, root string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", killVariable, name, n, root))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("not killed: %v %s", err, out)
}

// N03: an error at any step leaves the machine as it was and no temporary file,
// or, after the switch, as it should be.
func TestErrorAtEveryStep(t *testing.T) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EMFILE}
	for _, st := range stories() {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			template := st.machine(t)
			for n, failed := 1, true; failed; n++ {
				failed = false
				root := copyOf(t, template)
				errno := errnos[n%len(errnos)]
				c := counter{before: func(i int, _ step) error {
					if i == n {
						failed = true
						return errno
					}
					return nil
				}}
				s := storeAt(root)
				s.trap = c.trap()
				err := st.do(t.Context(), s)
				if failed {
					st.checkFailed(t, root, template, c.steps[n-1], err, errno)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func (st story) checkFailed(t *testing.T, root, template string, at step, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("at %s %s: got %v, want %v", at.Call, at.Path, err, want)
	}
	var u *Unfinished
	state := sees(t, root, st.old, st.new)
	if st.name != "prune" && (state == 1) != errors.As(err, &u) {
		t.Errorf("at %s %s: the machine is in state %d, and the error says %v", at.Call, at.Path, state, err)
	}
	if state == 0 && st.name != "prune" {
		got := strings.TrimPrefix(listing(t, root), storeDir+" drwxr-xr-x\n")
		if old := listing(t, template); withoutLock(got) != withoutLock(old) {
			t.Errorf("at %s %s: got\n%s\nwant\n%s", at.Call, at.Path, got, old)
		}
	}
	st.converges(t, root)
}

// withoutLock drops what an installation makes once and for ever.
func withoutLock(listing string) string {
	var b strings.Builder
	for line := range strings.Lines(listing) {
		if name, _, _ := strings.Cut(line, " "); name != lockFile && name != generationsDir {
			b.WriteString(line)
		}
	}
	return b.String()
}

// N03: when the disk takes nothing any more, also cleaning up fails. The machine
// stays whole, and the first call after it was mended tidies up.
func TestReadOnlyFromAnyStepOn(t *testing.T) {
	for _, st := range stories() {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			template := st.machine(t)
			for n, failed := 1, true; failed; n++ {
				failed = false
				root := copyOf(t, template)
				c := counter{before: func(i int, _ step) error {
					if i >= n {
						failed = true
						return syscall.EROFS
					}
					return nil
				}}
				s := storeAt(root)
				s.trap = c.trap()
				if err := st.do(t.Context(), s); failed != errors.Is(err, syscall.EROFS) {
					t.Errorf("step %d: got %v", n, err)
				}
				sees(t, root, st.old, st.new)
				st.converges(t, root)
			}
		})
	}
}

// A bundle whose bytes are not what the list says, or that cannot be read to the
// end, is not installed, whoever verified it.
func TestWrongBytesAreNotInstalled(t *testing.T) {
	for name, body := range map[string]string{"longer": "kind: KubeletConfiguration\n\n", "shorter": "kind", "other": "kind: KubeletConfiguratioN\n"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			mustInstall(t, storeAt(root), oldKit())
			before := listing(t, root)
			k := newKit()
			k.bodies["/etc/kubernetes/kubelet.yaml"] = body
			if _, err := storeAt(root).install(t.Context(), k.source); err == nil || !strings.Contains(err.Error(), "/etc/kubernetes/kubelet.yaml") {
				t.Errorf("got %v, want the file named", err)
			}
			if listing(t, root) != before {
				t.Error("something was left behind")
			}
		})
	}
}

func TestCancelledInstallLeavesTheOldBundle(t *testing.T) { // N22
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	before := listing(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	c := counter{before: func(i int, s step) error {
		if s.Call == "write" {
			cancel()
		}
		return nil
	}}
	s := storeAt(root)
	s.trap = c.trap()
	if _, err := s.install(ctx, newKit().source); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if listing(t, root) != before {
		t.Error("something was left behind")
	}
}

// N16: of two installers at once one waits, and both succeed.
func TestInstallersAtOnce(t *testing.T) {
	root := t.TempDir()
	var g errgroup.Group
	var inside, most atomic.Int32
	for i := range 8 {
		s := storeAt(root)
		s.trap.before = func(st step) error {
			if st.Call == "rename" && st.To == currentLink {
				most.Store(max(most.Load(), inside.Add(1)))
				defer inside.Add(-1)
			}
			return nil
		}
		k := pack("v1.36."+strconv.Itoa(i), map[string]string{"/etc/kubernetes/kubelet.yaml": strconv.Itoa(i)})
		g.Go(func() error { _, err := s.install(t.Context(), k.source); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := storeAt(root).List(t.Context())
	if err != nil || len(all) != 8 || most.Load() != 1 {
		t.Errorf("got %d generations, %v, %d writers at once; want 8 and 1", len(all), err, most.Load())
	}
	for i, g := range all {
		if g.ID != 8-i || g.Previous != g.ID-1 {
			t.Errorf("got generation %d after %d, want %d after %d", g.ID, g.Previous, 8-i, 7-i)
		}
	}
	tidy(t, root)
}

// copyOf copies a machine, links and modes included.
func copyOf(t *testing.T, template string) string {
	t.Helper()
	root := t.TempDir()
	if err := copyTree(template, root); err != nil {
		t.Fatal(err)
	}
	return root
}

func copyTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		a, b := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		fi, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			err = errors.Join(os.Mkdir(b, 0o700), copyTree(a, b), os.Chmod(b, fi.Mode().Perm()))
		case fi.Mode().Type() == os.ModeSymlink:
			var target string
			if target, err = os.Readlink(a); err == nil {
				err = os.Symlink(target, b)
			}
		default:
			var data []byte
			if data, err = os.ReadFile(a); err == nil {
				err = errors.Join(os.WriteFile(b, data, 0o600), os.Chmod(b, fi.Mode().Perm()))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
