// Command demo shows the main job on real input, from a clone to a node: it opens
// a [lab.Lab], runs imgctl in it as a user would, prints each command before it
// runs, and stops one of the two registries on the way. `make demo` runs it.
//
// Every line that starts with "$" is a real process, whose output follows. The
// first one that fails ends the demo with its exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/imgctl/imgctl/internal/lab"
	"github.com/imgctl/imgctl/internal/peers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout))
}

// run shows everything and returns the exit code.
func run(ctx context.Context, out io.Writer) int {
	err := show(ctx, out)
	if err != nil {
		fmt.Fprintln(out, "demo:", err)
	}
	return exitCode(ctx, err)
}

// exitCode is that of the command that failed, 130 after an interrupt, 1 for
// anything else.
func exitCode(ctx context.Context, err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return 130
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	return 1
}

// demo is one showing.
type demo struct {
	lab   *lab.Lab
	out   io.Writer
	start time.Time // of the current part
	times []string  // "12 s  release"
}

func show(ctx context.Context, out io.Writer) (err error) {
	root, err := peers.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "imgctl-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	begin := time.Now()
	d := &demo{out: out}
	d.part("A world on loopback: a kubelet as Kubernetes publishes it, and two registries")
	d.lab, err = lab.Open(ctx, lab.Options{Root: root, Dir: dir, Progress: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Close()) }()
	for _, part := range []func(context.Context) error{d.prepare, d.release, d.look, d.rebuild, d.outage} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	d.part("")
	fmt.Fprintf(out, "\nDone in %s:\n%s\n", time.Since(begin).Round(time.Second), strings.Join(d.times, "\n"))
	return nil
}

func (d *demo) prepare(ctx context.Context) error {
	d.part("A signing key, and a lock that names every input by its digest")
	if err := d.imgctl(ctx, "keygen", "release"); err != nil {
		return err
	}
	if err := d.lab.InstallKey("release.pub"); err != nil {
		return err
	}
	return d.imgctl(ctx, "lock", "images/kubelet")
}

func (d *demo) release(ctx context.Context) error {
	d.part("The release: fetch, build, sign, publish, read back, verify, tag")
	return d.imgctl(ctx, "release")
}

// look shows what is on both registries, through imgctl and without it.
func (d *demo) look(ctx context.Context) error {
	for i := range d.lab.Registries {
		d.part("What is on registry " + d.lab.Registries[i].Addr)
		ref := d.lab.Image(i) + ":" + peers.KubeVersion
		if err := d.imgctl(ctx, "verify", ref, "--policy", "policies/kubelet.yaml"); err != nil {
			return err
		}
		if err := d.imgctl(ctx, "tree", ref); err != nil {
			return err
		}
	}
	d.part("The image's layers")
	return d.sizes(ctx, d.lab.Image(0)+":"+peers.KubeVersion)
}

// rebuild makes the published image again from what its provenance names.
func (d *demo) rebuild(ctx context.Context) error {
	d.part("The image is built again from its provenance alone")
	return d.imgctl(ctx, "rebuild", d.lab.Image(1)+":"+peers.KubeVersion, "--policy", "policies/kubelet.yaml")
}

// outage stops the first registry and goes on with the second.
func (d *demo) outage(ctx context.Context) error {
	d.part("The first registry dies; a node starts from the second")
	fmt.Fprintf(d.out, "stopping %s\n", d.lab.Registries[0].Addr)
	if err := d.lab.Registries[0].Stop(); err != nil {
		return err
	}
	policy := []string{"--policy", "policies/kubelet.yaml"}
	if err := d.imgctl(ctx, append([]string{"verify", d.lab.Image(0) + ":" + peers.KubeVersion}, policy...)...); err != nil {
		return err
	}
	released, err := lab.ReadReleased(d.lab.Dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(d.lab.Dir, "node"), 0o755); err != nil {
		return err
	}
	bundle := d.lab.Bundle(1) + ":" + released.Bundle().Tags[0]
	if err := d.imgctl(ctx, append([]string{"pull", bundle, "--root", "node", "--family", "fcos", "--role", "worker"}, policy...)...); err != nil {
		return err
	}
	if err := d.imgctl(ctx, "status", "--root", "node"); err != nil {
		return err
	}
	return d.list("node/etc")
}

// imgctl runs a command as typed.
func (d *demo) imgctl(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.out, "\n$ imgctl %s\n", strings.Join(args, " "))
	cmd := d.lab.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("imgctl %s: %w", args[0], err)
	}
	return nil
}

// part ends the part before it, and prints a title unless it is "".
func (d *demo) part(title string) {
	now := time.Now()
	if n := len(d.times); n > 0 {
		d.times[n-1] = fmt.Sprintf("%5.1f s  %s", now.Sub(d.start).Seconds(), d.times[n-1])
	}
	d.start = now
	if title == "" {
		return
	}
	d.times = append(d.times, title)
	fmt.Fprintf(d.out, "\n== %s\n", title)
}

// list prints the files below a directory of the lab.
func (d *demo) list(name string) error {
	root := filepath.Join(d.lab.Dir, name)
	fmt.Fprintf(d.out, "\nwhat the node has now:\n")
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.lab.Dir, path)
		if err != nil {
			return err
		}
		target := ""
		if fi.Mode()&os.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
			target = " -> " + target
		}
		fmt.Fprintf(d.out, "  %s %8d  %s%s\n", fi.Mode(), fi.Size(), rel, target)
		return nil
	})
}
