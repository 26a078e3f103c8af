package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// Registry is a running CNCF distribution registry without access control.
type Registry struct {
	Addr string // host:port that it listens on
	*Process
}

// listening is the registry's own word on where it listens: asked for port 0,
// it takes one that is free, which nobody can take away between choosing and using.
var listening = regexp.MustCompile(`listening on ([0-9.:]+)`)

// StartRegistry runs the registry program, as [Distribution] makes it, on addr
// ("127.0.0.1:0" for any free port) with all its files in dir. A registry that was
// stopped goes on with what it had when it is started again in the same dir.
func StartRegistry(ctx context.Context, program, addr, dir string) (*Registry, error) {
	if host, _, err := net.SplitHostPort(addr); err != nil || !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("start registry: address: got %q, want one on loopback", addr)
	}
	config := filepath.Join(dir, "config.yml")
	if err := atomicfile.WriteBytes(config, 0o600, registryConfig(addr, dir)); err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "log")
	cmd := exec.Command(program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none") // else it dials a collector
	r := &Registry{}
	p, err := Start(ctx, cmd, log, func(ctx context.Context) (err error) {
		if r.Addr, err = listenAddress(log); err != nil {
			return err
		}
		return answers(ctx, "http://"+r.Addr+"/v2/")
	})
	if err != nil {
		return nil, err
	}
	r.Process = p
	return r, nil
}

func registryConfig(addr, dir string) []byte {
	return fmt.Appendf(nil, `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q, secret: only-on-loopback}
`, filepath.Join(dir, "data"), addr)
}

func listenAddress(log string) (string, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	m := listening.FindSubmatch(data)
	if m == nil || bytes.HasSuffix(data, m[0]) { // the number may go on
		return "", errors.New("it does not say where it listens")
	}
	return string(m[1]), nil
}

// answers is nil when url answers 200.
func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: got %s, want 200", url, resp.Status)
	}
	return nil
}
