package peers_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/peers"
)

// TestMain lets this test program play the programs that it starts.
func TestMain(m *testing.M) {
	switch os.Getenv("PEERS_TEST_PROGRAM") {
	case "registry":
		fakeRegistry()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		select {}
	case "broken":
		fmt.Fprintln(os.Stderr, "no such configuration")
		os.Exit(3)
	default:
		os.Exit(m.Run())
	}
}

// fakeRegistry answers /v2/ where the configuration says, with the words of the
// real one, and as it answers a stranger.
func fakeRegistry() {
	config, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(config), `addr: "`)
	addr, _, _ := strings.Cut(rest, `"`)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("level=info msg=\"listening on %v\" go.version=go1.26\n", l.Addr())
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("127.0.0.1 - robot [21/Nov/2026:20:00:00 +0000] \"%s %s HTTP/1.1\" 200 2 \"\" \"test\"\n", r.Method, r.URL)
		if strings.Contains(string(config), "\nauth: ") {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	if _, files, ok := strings.Cut(string(config), "tls: {certificate: "); ok {
		cert, key, _ := strings.Cut(strings.Trim(files[:strings.Index(files, "}")], `"`), `", key: "`)
		panic(http.ServeTLS(l, handler, cert, key))
	}
	panic(http.Serve(l, handler))
}

func TestRegistryIsReadyWhenItAnswersAsItsOptionsSay(t *testing.T) {
	ca := imgtest.NewAuthority(t, t.TempDir())
	stranger := imgtest.NewAuthority(t, t.TempDir())
	_, cert, key := ca.Issue(t, "registry", "127.0.0.1")
	secure := peers.TLSFiles{CA: ca.File, Cert: cert, Key: key}
	t.Setenv("PEERS_TEST_PROGRAM", "registry")
	for name, o := range map[string]peers.RegistryOptions{
		"htpasswd": {TLS: secure, Htpasswd: "/nonexistent"}, "tokens": {TLS: secure, Token: &peers.RegistryToken{}}, "TLS": {TLS: secure},
	} {
		r, err := peers.StartRegistry(t.Context(), os.Args[0], "127.0.0.1:0", t.TempDir(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := r.Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	secure.CA = stranger.File
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := peers.StartRegistry(ctx, os.Args[0], "127.0.0.1:0", t.TempDir(), peers.RegistryOptions{TLS: secure}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with the certificate of a stranger: got %v", err)
	}
}

func TestRegistryListensOnTheAddressThatItReports(t *testing.T) {
	r := startRegistry(t, "127.0.0.2:0")
	if !strings.HasPrefix(r.Addr, "127.0.0.2:") || strings.HasSuffix(r.Addr, ":0") {
		t.Fatalf("got %s, want a port of 127.0.0.2", r.Addr)
	}
	get(t, r.Addr)
	if log, err := r.Requests(); err != nil || len(log) != 2 || log[1] != "GET /v2/ 200" { // the first asked whether it is ready
		t.Errorf("requests: got %q, %v", log, err)
	}
	for range 2 { // the second does nothing
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := net.Dial("tcp", r.Addr); err == nil {
		c.Close()
		t.Error("it still listens after Stop")
	}
}

func TestRegistryStartsAgainAtTheSameAddress(t *testing.T) {
	r := startRegistry(t, "127.0.0.1:0")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	again := startRegistry(t, r.Addr)
	if again.Addr != r.Addr {
		t.Errorf("got %s, want %s", again.Addr, r.Addr)
	}
	get(t, again.Addr)
}

func TestRegistryNeverListensOutsideLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:5000", ":5000", "localhost"} {
		if _, err := peers.StartRegistry(t.Context(), os.Args[0], addr, t.TempDir(), peers.RegistryOptions{}); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: got %v, want a refusal", addr, err)
		}
	}
}

func TestProgramThatEndsAtOnceIsAnErrorWithItsOutput(t *testing.T) {
	_, err := peers.Start(t.Context(), play(t, "broken"), filepath.Join(t.TempDir(), "log"), never)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such configuration") {
		t.Errorf("got %v, want its exit status and what it printed", err)
	}
}

func TestProgramThatIsNotThereIsAnError(t *testing.T) {
	_, err := peers.Start(t.Context(), exec.Command("/nonexistent/registry"), filepath.Join(t.TempDir(), "log"), never)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want: not exist", err)
	}
}

func TestCancelledStartLeavesNothingRunning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := play(t, "registry")
	cmd.Args = append(cmd.Args, "serve", configFor(t, "127.0.0.1:0"))
	_, err := peers.Start(ctx, cmd, filepath.Join(t.TempDir(), "log"), func(context.Context) error {
		cancel()
		return errors.New("not yet")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
	if cmd.ProcessState == nil {
		t.Error("the program still runs")
	}
}

func TestProgramThatIgnoresTheSignalIsKilled(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	cmd := play(t, "stubborn")
	p, err := peers.Start(t.Context(), cmd, log, func(context.Context) error { return contains(log, "deaf") })
	if err != nil {
		t.Fatal(err)
	}
	p.Grace = time.Millisecond
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("got %v, want killed", cmd.ProcessState)
	}
}

func never(context.Context) error { return errors.New("never ready") }

// play makes this test program act as the named one.
func play(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PEERS_TEST_PROGRAM="+name)
	return cmd
}

func startRegistry(t *testing.T, addr string) *peers.Registry {
	t.Helper()
	t.Setenv("PEERS_TEST_PROGRAM", "registry")
	r, err := peers.StartRegistry(t.Context(), os.Args[0], addr, t.TempDir(), peers.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func configFor(t *testing.T, addr string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	write(t, path, `http: {addr: "`+addr+`"}`)
	return path
}

func contains(path, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), text) {
		return fmt.Errorf("%s: no %q yet", path, text)
	}
	return nil
}

func get(t *testing.T, addr string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %s, want 200", resp.Status)
	}
}
