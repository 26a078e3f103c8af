package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
)

type lockCmd struct {
	*app
	from inputFlags
	dir  string
}

func newLock(a *app) *cobra.Command {
	c := &lockCmd{app: a}
	cmd := &cobra.Command{
		Use:   "lock DIR",
		Short: "Resolve every input of an image once, to a digest, in image.lock.json",
		Long: `Resolve every input of the image spec in DIR to a digest, and write them to
image.lock.json beside it. Builds read only the lock.

The Debian archive is checked through the signature of its InRelease and the
hash chain from there to each package. Upstream's files are fetched and proven
as the spec demands; pins that the lock has for the same version are kept.`,
		Example: `  imgctl lock images/kubelet
  imgctl lock images/kubelet --archive https://deb.debian.org/debian`,
		Args: exactArgs(1, "the directory of an image spec"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return wrap("lock "+c.dir, c.run(cmd.Context()))
		},
	}
	c.from.register(cmd.Flags())
	return cmd
}

func (c *lockCmd) run(ctx context.Context) error {
	spec, err := build.LoadSpec(c.dir)
	if err != nil {
		return err
	}
	var stale *build.StaleError
	old, err := build.LoadLock(c.dir)
	if err != nil && !errors.As(err, &stale) {
		return err
	}
	p := c.printer()
	inputs, err := c.inputs(c.from, spec, p)
	if err != nil {
		return err
	}
	locker := &build.Locker{Upstream: inputs.upstream, Debian: inputs.debian}
	lock, err := locker.Lock(ctx, spec, old)
	if err != nil {
		return err
	}
	if err := lock.Save(c.dir); err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, lock)
	}
	c.summarise(lock, p)
	return nil
}

// summarise says what was locked.
func (c *lockCmd) summarise(lock *build.Lock, p *printer) {
	for _, u := range lock.Upstream {
		p.line("lock", "upstream  %s", u.Version)
	}
	for _, s := range lock.Debian.Suites {
		p.line("lock", "%s  of %s", s.Suite, s.Date.Format(time.DateOnly))
	}
	for _, variant := range sortedKeys(lock.Debian.Packages) {
		for _, platform := range sortedKeys(lock.Debian.Packages[variant]) {
			packages := lock.Debian.Packages[variant][platform]
			var size int64
			for _, pkg := range packages {
				size += pkg.Size
			}
			p.line("lock", "%s %s  %d packages, %s", variant, platform, len(packages), bytesText(size))
		}
	}
}

// wrap names the command in an error.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// wrapRef is [wrap] for a command about a reference. One that is no reference
// is not repeated: it may hold a password (C05). The error itself says what is wrong.
func wrapRef(verb, ref string, err error) error {
	if _, bad := oci.ParseReference(ref); bad != nil {
		return wrap(verb, err)
	}
	return wrap(verb+" "+ref, err)
}
