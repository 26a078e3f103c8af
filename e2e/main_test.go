//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/lab"
	"github.com/imgctl/imgctl/internal/peers"
)

// world is the lab that all tests share, and what was released in it.
type world struct {
	*lab.Lab
	Released *lab.Released
	Dir      string // of the lab and of everything else that tests share

	podman  podmanOnce
	cluster clusterOnce
}

// shared is set once, before the first test.
var shared *world

func TestMain(m *testing.M) {
	code, err := runIn(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// runIn runs the tests in a lab that it opens and closes, also when a signal
// ends them.
func runIn(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "imgctl-e2e-")
	if err != nil {
		return 0, err
	}
	// The tests' own directories go there too, so that one removal takes all.
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(tmp, 0o755), os.Setenv("TMPDIR", tmp)); err != nil {
		return 0, err
	}
	w, err := open(ctx, dir)
	if err != nil {
		return 0, errors.Join(err, os.RemoveAll(dir))
	}
	undisturbed := context.AfterFunc(ctx, func() { // tests have contexts of their own
		fmt.Fprintln(os.Stderr, "e2e: interrupted", w.close())
		os.Exit(130)
	})
	shared = w
	code = m.Run()
	if !undisturbed() {
		select {} // the other function ends the process
	}
	return code, w.close()
}

// close stops and removes everything.
func (w *world) close() error {
	var errs []error
	if p := w.podman.value; p != nil {
		errs = append(errs, p.unmount())
	}
	return errors.Join(append(errs, w.cluster.close(), w.Lab.Close(), os.RemoveAll(w.Dir))...)
}

// open starts the lab and releases in it, as a user would.
func open(ctx context.Context, dir string) (*world, error) {
	root, err := peers.Root()
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(dir, "cache")
	if err := newCache(cache); err != nil {
		return nil, err
	}
	l, err := lab.Open(ctx, lab.Options{Root: root, Dir: dir, Cache: cache, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, Dir: dir}
	if err := w.release(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

func (w *world) release(ctx context.Context) error {
	if err := w.imgctl(ctx, "keygen", "release"); err != nil {
		return err
	}
	if err := w.InstallKey("release.pub"); err != nil {
		return err
	}
	if err := w.imgctl(ctx, "lock", "images/kubelet"); err != nil {
		return err
	}
	if err := w.imgctl(ctx, "release"); err != nil {
		return err
	}
	var err error
	w.Released, err = lab.ReadReleased(w.Lab.Dir)
	return err
}

// newCache makes a cache that has what the user's has downloaded, and gets what is
// downloaded, but has no layers: those may be of an imgctl of last week.
func newCache(dir string) error {
	for _, name := range []string{"sha256", "sha512", "part", "evidence"} {
		users := filepath.Join(download.Dir(), name)
		if err := errors.Join(os.MkdirAll(users, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
			return err
		}
		if err := os.Symlink(users, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) imgctl(ctx context.Context, args ...string) error {
	if out, err := w.Command(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("imgctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// at is a path in the lab's working directory.
func (w *world) at(name string) string { return filepath.Join(w.Lab.Dir, name) }

// digest is that of the released image of a variant for a platform.
func (w *world) digest(t *testing.T, variant, platform string) string {
	t.Helper()
	for _, image := range w.Released.Images() {
		for _, p := range image.Platforms {
			if image.Variant == variant && p.Platform == platform {
				return p.Digest
			}
		}
	}
	t.Fatalf("no image %s for %s was released", variant, platform)
	return ""
}

// program is a program of another project.
func program(t *testing.T, r peers.Recipe) string {
	t.Helper()
	p, err := shared.Peers.Program(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// output runs cmd and returns its stdout; when it fails, so does the test.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// refused runs cmd and returns what it printed; it must end by itself with a
// code that is not 0.
func refused(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() < 1 {
		t.Fatalf("%s: got %v, want a refusal\n%s", strings.Join(cmd.Args, " "), cmd.ProcessState, out)
	}
	return string(out)
}

// write makes a file for the test and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
