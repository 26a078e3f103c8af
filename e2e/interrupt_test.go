//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/lab"
	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/verify"
)

const (
	interruptions = 50 // in all
	perRelease    = 5  // at most, of one release, before it is left to end
	ended         = "the end"
)

// A release is killed again and again at random instants, and then left to end.
// It starts with repositories that do not exist, and every fourth time with an
// empty cache of layers, so that the instants fall into every step. Meanwhile
// watchers look whether a tag can be seen whose signature is not there yet.
func TestReleaseKilledAnywhereGoesOnAndNoTagIsEverUnsigned(t *testing.T) {
	t.Parallel() // whatever else runs, it must hold
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	slim, built := slimAlone(t), emptyOfLayers(t) // which gets the layers in the first of the next two
	cold, warm := slim.undisturbed(t, "cold", built), slim.undisturbed(t, "warm", built)
	t.Logf("undisturbed, it takes %s, and %s when the layers are there", cold, warm)
	landed, killed := map[string]int{}, 0
	for n := 0; killed < interruptions; n++ {
		if n == 2*interruptions {
			t.Fatalf("only %d of %d releases could be interrupted", killed, n)
		}
		cache, whole := built, warm
		if n%4 == 0 {
			cache, whole = emptyOfLayers(t), cold
		}
		k := slim.newRun(t, fmt.Sprintf("killed%d", n), cache)
		for range perRelease {
			where := k.interrupt(t, random, whole)
			if where == ended {
				break
			}
			landed[where]++
			killed++
			whole = warm // the next one mostly finds layers, and is over sooner
		}
		k.finish(t)
		k.stop(t)
		if n%4 == 0 {
			remove(t, cache) // the layers of many releases would fill a disk
		}
	}
	t.Logf("it was interrupted after it had last printed a line of: %v", landed)
}

// released is an image spec with its lock, and what comes of it.
type released struct {
	dir    string
	digest string // of the index, from the first release on
}

// slimAlone is the image without its other flavour: a release takes a third of the
// time, and every step of it is there.
func slimAlone(t *testing.T) *released {
	t.Helper()
	dir := copySpec(t)
	file := filepath.Join(dir, "image.yaml")
	spec, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	slim := fullFlavour.ReplaceAll(spec, nil)
	if err := os.WriteFile(file, slim, 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, shared.Command(t.Context(), "lock", dir))
	return &released{dir: dir}
}

// fullFlavour is the end of the list of variants.
var fullFlavour = regexp.MustCompile(`(?m)^- name: full\b.*\n(?:(?:[ ].*)?\n)*`)

// undisturbed is how long a release takes from what is in the cache to tags.
func (r *released) undisturbed(t *testing.T, prefix, cache string) time.Duration {
	t.Helper()
	k := r.newRun(t, prefix, cache)
	start := time.Now()
	output(t, k.command(t.Context()))
	took := time.Since(start)
	k.finish(t)
	k.stop(t)
	return took
}

// Without this sibling the watcher might be blind.
func TestWatcherSeesAnUnsignedTag(t *testing.T) {
	repo := shared.Registries[0].Addr + "/watched/kubelet"
	w := watch(t, []string{repo})
	push := func(args ...string) { output(t, exec.Command(program(t, peers.Crane()), args...)) }
	push("--insecure", "copy", shared.Image(0)+"@"+shared.Released.Image().Digest, repo+":v1")
	push("--insecure", "copy", repo+":v1", repo+":"+verify.StatementTag)
	for _, tag := range []string{"v1", verify.StatementTag} {
		named := func(line string) bool { return strings.Contains(line, repo+":"+tag+" ") }
		w.until(t, func() bool { return slices.ContainsFunc(w.violations(), named) })
	}
	w.cancel()
}

// run is a release in a directory of its own to repositories of its own.
type run struct {
	of         *released
	dir, cache string
	watchers   *watcher
}

func (r *released) newRun(t *testing.T, prefix, cache string) *run {
	t.Helper()
	k := &run{of: r, dir: filepath.Join(t.TempDir(), "work"), cache: cache}
	if err := shared.CopyTo(k.dir, prefix); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(k.dir, "images/kubelet")
	remove(t, image)
	if err := os.CopyFS(image, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	var repos []string
	for _, r := range shared.Registries {
		repos = append(repos, r.Addr+"/"+prefix+"/kubelet", r.Addr+"/"+prefix+"/kubelet-bundle")
	}
	k.watchers = watch(t, repos)
	return k
}

func (k *run) command(ctx context.Context) *exec.Cmd {
	cmd := shared.Command(ctx, "release", "--progress", "plain")
	cmd.Dir = k.dir
	cmd.Env = append(cmd.Env, "IMGCTL_CACHE="+k.cache)
	return cmd
}

// interrupt starts the release and ends it at a random instant within the time
// that an undisturbed one takes: by SIGKILL, as the kernel's out-of-memory killer
// would, or by Ctrl-C. It returns the first word of the last line that the release
// had printed, or [ended] when it was done before the instant.
func (k *run) interrupt(t *testing.T, random *rand.Rand, whole time.Duration) string {
	t.Helper()
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGINT}[random.IntN(3)]
	after := time.Duration(random.Int64N(int64(whole)))
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := k.command(t.Context())
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Signal(signal) })
	err = cmd.Wait()
	text, readErr := os.ReadFile(log.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	switch status := cmd.ProcessState.Sys().(syscall.WaitStatus); {
	case !timer.Stop() && (status.Signaled() || status.ExitStatus() == 130):
	case err == nil:
		return ended
	default:
		t.Errorf("release, interrupted after %s by %v: got %v, want it killed, or exit code 130\n%s", after, signal, err, text)
	}
	return lastStep(string(text))
}

// lastStep is the first word of the last line of progress.
func lastStep(log string) string {
	step := "nothing"
	for line := range strings.Lines(log) {
		word, _, _ := strings.Cut(line, " ")
		if word != "imgctl:" && word != "hint:" {
			step = strings.TrimSpace(word)
		}
	}
	return step
}

// finish runs the release to its end: the digests must be those of the release
// that nobody disturbed, everywhere.
func (k *run) finish(t *testing.T) {
	t.Helper()
	output(t, k.command(t.Context()))
	got, err := lab.ReadReleased(k.dir)
	if err != nil {
		t.Fatal(err)
	}
	k.of.digest = cmp.Or(k.of.digest, got.Image().Digest)
	if got.Image().Digest != k.of.digest {
		t.Errorf("image: got %s, want %s", got.Image().Digest, k.of.digest)
	}
	for _, a := range got.Artifacts {
		for _, d := range a.Destinations {
			if d.State != "released" {
				t.Errorf("%s on %s: got state %s, want released", a.Name, d.Repository, d.State)
			}
			if strings.HasPrefix(d.Repository, "oci:") {
				continue
			}
			ref := d.Repository + ":" + a.Tags[0]
			if digest, err := resolve(t.Context(), ref); err != nil || digest != a.Digest {
				t.Errorf("%s: got %s, %v; want %s", ref, digest, err, a.Digest)
			}
			verify := shared.Command(t.Context(), "verify", ref, "--policy", "policies/kubelet.yaml")
			verify.Dir = k.dir
			output(t, verify)
		}
	}
}

// stop ends the watchers after they have seen what finish made, and removes the
// layout that the release wrote.
func (k *run) stop(t *testing.T) {
	t.Helper()
	w := k.watchers
	w.until(t, func() bool { return w.sawAll() })
	w.cancel()
	w.wg.Wait()
	for _, v := range w.violations() {
		t.Error(v)
	}
	remove(t, k.dir)
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// watcher polls repositories for tags.
type watcher struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	repos  []string

	mu     sync.Mutex
	signed map[string]int // repository → how often a tag was seen with its signature
	bad    []string
	change chan struct{} // closed and replaced at each poll
}

// watch looks at every tag of the repositories as often as it can until cancel.
func watch(t *testing.T, repos []string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{cancel: cancel, repos: repos, signed: map[string]int{}, change: make(chan struct{})}
	key, err := publicKey(shared.at("release.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos {
		w.wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				signed, unsigned := look(ctx, repo, key)
				if ctx.Err() != nil {
					return
				}
				w.saw(repo, signed, unsigned)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	return w
}

func (w *watcher) saw(repo string, signed int, unsigned []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signed[repo] += signed
	w.bad = append(w.bad, unsigned...)
	close(w.change)
	w.change = make(chan struct{})
}

func (w *watcher) violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.bad...)
}

// sawAll says whether a signed tag was seen in every repository.
func (w *watcher) sawAll() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.repos {
		if w.signed[r] == 0 {
			return false
		}
	}
	return true
}

// until waits for what the watcher is to see.
func (w *watcher) until(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		w.mu.Lock()
		change := w.change
		w.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-change:
		case <-deadline:
			t.Fatal("the watcher did not see within a minute what is there")
		}
	}
}
