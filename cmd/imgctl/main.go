// Command imgctl turns the kubelet that Kubernetes publishes into a signed,
// reproducible image on several registries, and into a signed bundle that makes
// a machine a node.
//
// This package is an adapter: it knows flags, the environment, the order of
// steps, how results are printed and what the exit code is. What the steps do
// lives in the rooms under pkg/.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command line and returns its exit code (see exit.go).
//
// The first SIGINT or SIGTERM cancels the work, which then ends cleanly; the
// second kills the process as if it had not been caught.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	out := &resultWriter{w: stdout}
	a := &app{stdin: stdin, stdout: out, stderr: stderr, getenv: os.Getenv, now: time.Now}
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if a.progressOf != nil {
		a.progressOf.close()
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("write the result: %w", out.err)
	}
	if err == nil {
		return exitOK
	}
	return a.fail(cmd, err)
}

// resultWriter remembers that a result could not be written: a script that
// reads a digest from a full disk must not go on (C09).
type resultWriter struct {
	w   io.Writer
	err error
}

// Write implements [io.Writer].
func (r *resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// app is what every command shares: the streams, the environment, the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	now            func() time.Time
	progressOf     *printer // see [app.printer]
	globals
}

// newRoot assembles the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "imgctl",
		Short: "Build, sign, publish and verify kubelet images and node bundles",
		Long: `imgctl turns the kubelet that Kubernetes publishes into a signed, reproducible,
multi-arch container image, and into a signed bundle that makes a machine a node.
It publishes both to several registries at once and keeps them usable when one of
them is down or lying.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hint(usage(err), "%s --help", cmd.CommandPath())
	})
	root.SuggestionsMinimumDistance = 2
	a.globals.register(root.PersistentFlags())

	root.AddGroup(
		&cobra.Group{ID: "main", Title: "The main job:"},
		&cobra.Group{ID: "step", Title: "Its single steps:"},
		&cobra.Group{ID: "cluster", Title: "For a cluster:"},
		&cobra.Group{ID: "node", Title: "On a node:"},
		&cobra.Group{ID: "about", Title: "About imgctl:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			a.registerOutput(c.Flags())
			root.AddCommand(c)
		}
	}
	add("main", newRelease(a), newVerify(a), newSync(a), newDoctor(a))
	add("step", newLock(a), newFetch(a), newBuild(a), newBundle(a), newPush(a), newKeygen(a), newSign(a), newTree(a), newRebuild(a), newPolicy(a))
	add("cluster", newBootstrap(a))
	add("node", newPull(a), newStatus(a), newRollback(a))
	add("about", newVersion(a), newExitCodes(a), newDocs(a))
	root.SetHelpCommandGroupID("about")
	root.SetCompletionCommandGroupID("about")
	return root
}

// prepare runs before every command: the environment stands in for flags that
// were not given, then the global flags are checked.
func (a *app) prepare(cmd *cobra.Command) error {
	if err := a.bindEnvironment(cmd); err != nil {
		return err
	}
	return a.globals.check(cmd.Flags())
}

// exactArgs and friends turn cobra's argument errors into usage errors.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return hint(usage(fmt.Errorf("%s: got %d arguments, want %s", cmd.Name(), len(args), what)), "%s --help", cmd.CommandPath())
	}
}

// atLeast requires n or more arguments.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return hint(usage(fmt.Errorf("%s: got %d arguments, want %s", cmd.Name(), len(args), what)), "%s --help", cmd.CommandPath())
	}
}
