package download_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
)

// childURL and childCache make the test binary a process that fetches content
// from a URL into a cache and prints how far it is.
const (
	childURL   = "DOWNLOAD_TEST_URL"
	childCache = "DOWNLOAD_TEST_CACHE"
)

func child(url string) int {
	c := &download.Client{Cache: os.Getenv(childCache), Progress: func(_ string, done, _ int64) { fmt.Println(done) }}
	if _, err := c.Get(context.Background(), "file", []string{url}, pin(content)); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func process(t *testing.T, url, cache string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childURL+"="+url, childCache+"="+cache)
	return cmd
}

func TestProcessesAtOnceFetchOnce(t *testing.T) {
	o, cache := serve(t), t.TempDir()
	var running []*exec.Cmd
	for range 3 {
		cmd := process(t, o.URL, cache)
		must(t, cmd.Start())
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if n := len(o.ranges()); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	holds(t, &download.Client{Cache: cache}, content)
}

func TestAKilledProcessLosesNothingThatItHad(t *testing.T) {
	o := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:100_000])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := client(t)
	cmd := process(t, o.URL, c.Cache)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan() && strings.TrimSpace(lines.Text()) != "100000"; {
	}
	must(t, cmd.Process.Kill())
	cmd.Wait() // says that it was killed

	f, err := c.Get(t.Context(), "file", []string{o.URL}, pin(content))
	must(t, err)
	check(t, f, content)
	if r := o.ranges(); !slices.Equal(r, []string{"", "bytes=100000-"}) {
		t.Errorf("got ranges %q, want only the rest after the kill", r)
	}
	holds(t, c, content)
}
