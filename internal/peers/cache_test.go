package peers_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/imgctl/imgctl/internal/peers"
)

const hello = "package main\n\nfunc main() { println(`hello`) }\n"

func TestProgramIsCompiledOnceAndThenTakenFromTheCache(t *testing.T) {
	var progress bytes.Buffer
	c := &peers.Cache{Dir: t.TempDir(), Progress: &progress}
	r := localRecipe(t, hello)
	first := program(t, c, r)
	if out, err := exec.Command(first).CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Fatalf("run: got %q, %v; want hello", out, err)
	}
	if second := program(t, c, r); second != first {
		t.Errorf("second time: got %s, want %s", second, first)
	}
	if got := strings.Count(progress.String(), "building"); got != 1 {
		t.Errorf("compiled %d times, want once:\n%s", got, &progress)
	}
}

func TestAnotherRecipeIsAnotherProgram(t *testing.T) {
	c := &peers.Cache{Dir: t.TempDir()}
	r := localRecipe(t, hello)
	native := program(t, c, r)
	stripped := r
	stripped.Flags = []string{"-ldflags", "-s"}
	foreign := r
	foreign.Arch = "arm64"
	pinned := r
	pinned.Dir = copyModule(t, r.Dir)
	addTo(t, filepath.Join(pinned.Dir, "go.mod"), "\n// another pin\n")
	changed := r
	changed.Dir = copyModule(t, r.Dir)
	addTo(t, filepath.Join(changed.Dir, "main.go"), "\n// another program\n")
	for name, other := range map[string]peers.Recipe{"flags": stripped, "architecture": foreign, "go.mod": pinned, "code": changed} {
		if got := program(t, c, other); got == native {
			t.Errorf("another %s: got the same %s", name, got)
		}
	}
	same := r
	same.Dir, same.Name = copyModule(t, r.Dir), "by another name"
	if got := program(t, c, same); got != native {
		t.Errorf("the same module elsewhere: got %s, want %s", got, native)
	}
}

func TestProcessesThatWantTheSameProgramShareOneBuild(t *testing.T) {
	dir := t.TempDir()
	r := localRecipe(t, hello)
	var mu sync.Mutex
	var builds int
	count := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		builds += bytes.Count(p, []byte("building"))
		return len(p), nil
	})
	var wg sync.WaitGroup
	for range 4 { // flock is held by an open file, so that four caches are like four processes
		wg.Go(func() {
			if _, err := (&peers.Cache{Dir: dir, Progress: count}).Get(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if builds != 1 {
		t.Errorf("got %d builds, want 1", builds)
	}
}

func TestFailedBuildShowsWhyAndLeavesNothing(t *testing.T) {
	c := &peers.Cache{Dir: t.TempDir()}
	r := localRecipe(t, "package main\n\nfunc main() { undefinedName() }\n")
	_, err := c.Get(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "undefined: undefinedName") || !strings.Contains(err.Error(), r.Name) {
		t.Fatalf("got %v, want the recipe's name and the compiler's words", err)
	}
	if left := programsIn(t, c.Dir); len(left) != 0 {
		t.Errorf("got %q in the cache, want only the lock", left)
	}
	repaired := r
	repaired.Dir = copyModule(t, r.Dir)
	write(t, filepath.Join(repaired.Dir, "main.go"), hello)
	program(t, c, repaired) // the sibling that must pass: the failure blocks nothing
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	c := &peers.Cache{Dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	c.Progress = writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }) // at "building"
	if _, err := c.Get(ctx, localRecipe(t, hello)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context canceled", err)
	}
	if left := programsIn(t, c.Dir); len(left) != 0 {
		t.Errorf("got %q in the cache, want only the lock", left)
	}
}

func TestRestOfAKilledBuildIsCleared(t *testing.T) {
	c := &peers.Cache{Dir: t.TempDir()}
	r := localRecipe(t, hello)
	done := filepath.Dir(program(t, c, r))
	if err := os.Rename(done, done+".part"); err != nil { // as if killed before the rename
		t.Fatal(err)
	}
	write(t, filepath.Join(done+".part", "litter"), "x")
	program(t, c, r)
	if _, err := os.Stat(filepath.Join(done, "litter")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("litter of the killed build: got %v, want none", err)
	}
}

func TestWaitingForAnotherBuildEndsWithTheContext(t *testing.T) {
	dir, r := t.TempDir(), localRecipe(t, hello)
	ctx, cancel := context.WithCancel(t.Context())
	var second error
	first := &peers.Cache{Dir: dir, Progress: writerFunc(func(p []byte) (int, error) {
		if second == nil { // at "building": the lock is held, so that the other can only wait
			cancel()
			_, second = (&peers.Cache{Dir: dir}).Get(ctx, r)
		}
		return len(p), nil
	})}
	program(t, first, r)
	if !errors.Is(second, context.Canceled) {
		t.Errorf("got %v, want context canceled", second)
	}
}

func TestModuleIsInstalledAtItsVersion(t *testing.T) {
	proxy := t.TempDir()
	publish(t, proxy, module.Version{Path: "example.com/greet", Version: "v1.2.3"})
	c := &peers.Cache{Dir: t.TempDir(), Env: []string{
		"GOPROXY=file://" + proxy, "GONOSUMDB=*", "GOMODCACHE=" + t.TempDir(), "GOFLAGS=-buildvcs=false -modcacherw",
	}}
	r := peers.Recipe{Name: "greet", Packages: []string{"example.com/greet/cmd/greet"}, Version: "v1.2.3"}
	p := program(t, c, r)
	out, err := exec.Command("go", "version", "-m", p).Output()
	if err != nil || !strings.Contains(string(out), "example.com/greet\tv1.2.3") {
		t.Errorf("got %s, %v; want the module at v1.2.3", out, err)
	}
	r.Version = "v9.9.9"
	if _, err := c.Get(t.Context(), r); err == nil || !strings.Contains(err.Error(), "v9.9.9") {
		t.Errorf("a version that nobody published: got %v, want an error that names it", err)
	}
}

func TestCacheDirectoryFollowsTheEnvironment(t *testing.T) {
	t.Setenv("IMGCTL_CACHE", "/somewhere")
	if got, err := peers.DefaultDir(); err != nil || got != "/somewhere/peers" {
		t.Errorf("got %s, %v; want /somewhere/peers", got, err)
	}
	t.Setenv("IMGCTL_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/caches")
	if got, err := peers.DefaultDir(); err != nil || got != "/caches/imgctl/peers" {
		t.Errorf("got %s, %v; want /caches/imgctl/peers", got, err)
	}
}

func TestCheckoutIsFoundFromWithin(t *testing.T) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		r := peers.Kube(root, arch)
		data, err := os.ReadFile(filepath.Join(r.Dir, "go.mod"))
		if err != nil || !strings.Contains(string(data), "k8s.io/kubernetes "+peers.KubeVersion) {
			t.Errorf("%s: %v; want a go.mod that pins %s", r.Name, err, peers.KubeVersion)
		}
	}
	t.Chdir(t.TempDir())
	if root, err := peers.Root(); err == nil {
		t.Errorf("outside: got %s, want an error", root)
	}
}

// localRecipe is a module of one program, compiled as tools/kube is.
func localRecipe(t *testing.T, source string) peers.Recipe {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module example.com/hello\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "go.sum"), "")
	write(t, filepath.Join(dir, "main.go"), source)
	return peers.Recipe{Name: "hello from a module", Packages: []string{"example.com/hello"}, Dir: dir, Flags: []string{"-trimpath"}}
}

func copyModule(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// publish lays a module out as a Go module proxy serves it.
func publish(t *testing.T, proxy string, m module.Version) {
	t.Helper()
	src := t.TempDir()
	mod := "module " + m.Path + "\n\ngo 1.26\n"
	write(t, filepath.Join(src, "go.mod"), mod)
	write(t, filepath.Join(src, "cmd", "greet", "main.go"), hello)
	at := filepath.Join(proxy, m.Path, "@v")
	write(t, filepath.Join(at, "list"), m.Version+"\n")
	write(t, filepath.Join(at, m.Version+".info"), `{"Version":"`+m.Version+`"}`)
	write(t, filepath.Join(at, m.Version+".mod"), mod)
	f, err := os.Create(filepath.Join(at, m.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := zip.CreateFromDir(f, m, src); err != nil {
		t.Fatal(err)
	}
}

func program(t *testing.T, c *peers.Cache, r peers.Recipe) string {
	t.Helper()
	p, err := c.Program(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(p); err != nil || fi.Mode().Perm()&0o100 == 0 {
		t.Fatalf("%s: got %v, %v; want a program", p, fi, err)
	}
	return p
}

// programsIn lists what a cache holds apart from lock files.
func programsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func addTo(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(data)+text)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
