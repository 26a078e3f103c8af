// Package lab is a world on loopback in which imgctl does its main job on real
// input: the kubelet and kubectl that it publishes are compiled from Kubernetes'
// source and served as dl.k8s.io serves them, signed by a throw-away Sigstore;
// the registries are CNCF distribution's; the specs are this repository's own,
// with nothing but the registries' host names changed. The demo and the
// end-to-end tests live in it.
package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/imgctl/imgctl/internal/peers"
)

// Lab is a running world. Its fields must not be changed.
type Lab struct {
	Dir        string             // the user's working directory: specs, keys, and what commands write
	Bin        string             // directory of the compiled imgctl
	Peers      *peers.Cache       // for more programs
	Registries [2]*peers.Registry // on 127.0.0.1 and 127.0.0.2

	env   []string
	close []func() error // in reverse order
}

// Options say where a lab finds things and what it tells.
type Options struct {
	Root     string    // checkout of imgctl, see [peers.Root]
	Dir      string    // empty directory for everything that the lab writes
	Cache    string    // cache of the imgctl that runs in the lab; "" is the user's
	Progress io.Writer // a line for each part; nil for none
}

// Open starts everything. On an error nothing is left running.
func Open(ctx context.Context, o Options) (*Lab, error) {
	cache, err := peers.DefaultDir()
	if err != nil {
		return nil, err
	}
	l := &Lab{
		Dir:   filepath.Join(o.Dir, "work"),
		Bin:   filepath.Join(o.Dir, "bin"),
		Peers: &peers.Cache{Dir: cache, Progress: o.Progress},
	}
	if o.Cache != "" {
		l.env = append(l.env, "IMGCTL_CACHE="+o.Cache)
	}
	for _, step := range []func(context.Context, Options) error{l.compile, l.startRegistries, l.serveKubernetes, l.copySpecs} {
		if err := step(ctx, o); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Close stops what still runs. The directory stays; it is the caller's.
func (l *Lab) Close() error {
	var errs []error
	for len(l.close) > 0 {
		last := len(l.close) - 1
		errs = append(errs, l.close[last]())
		l.close = l.close[:last]
	}
	return errors.Join(errs...)
}

// compile builds imgctl as it stands in the checkout.
func (l *Lab) compile(ctx context.Context, o Options) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", l.Bin+string(filepath.Separator), "./cmd/imgctl")
	cmd.Dir = o.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build imgctl: %w\n%s", err, out)
	}
	return nil
}

func (l *Lab) startRegistries(ctx context.Context, o Options) error {
	program, err := l.Peers.Program(ctx, peers.Distribution())
	if err != nil {
		return err
	}
	for i, host := range []string{"127.0.0.1:0", "127.0.0.2:0"} {
		dir := filepath.Join(o.Dir, fmt.Sprintf("registry%d", i+1))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		r, err := peers.StartRegistry(ctx, program, host, dir, peers.RegistryOptions{})
		if err != nil {
			return err
		}
		l.Registries[i] = r
		l.close = append(l.close, r.Stop)
		report(o, "registry %s is listening (CNCF distribution)", r.Addr)
	}
	return nil
}

// password makes one that nobody needs to remember.
func password() string { return rand.Text() }

// Command prepares a run of imgctl in l.Dir, in the environment of this process
// less every IMGCTL_ variable but the cache, and plus those of the lab. It is not
// in this process's group: Ctrl-C reaches it through ctx, once, as an interrupt.
func (l *Lab) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(l.Bin, "imgctl"), args...)
	cmd.Args[0] = "imgctl"
	cmd.Dir = l.Dir
	cmd.Env = append(ambient(), l.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// ambient is the environment without settings of imgctl that a user may have.
func ambient() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "IMGCTL_") || strings.HasPrefix(v, "IMGCTL_CACHE=") || strings.HasPrefix(v, "IMGCTL_ARCHIVE=") {
			env = append(env, v)
		}
	}
	return env
}

// Image is the name of the image in the registry with that index.
func (l *Lab) Image(i int) string {
	return l.Registries[i].Addr + "/" + [2]string{"poseidon/kubelet", "psdn/kubelet"}[i]
}

// Bundle is the name of the bundle in the registry with that index.
func (l *Lab) Bundle(i int) string { return l.Image(i) + "-bundle" }

func report(o Options, format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, format+"\n", args...)
	}
}
