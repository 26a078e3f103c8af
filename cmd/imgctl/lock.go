package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
)

type lockCmd struct {
	*app
	from   inputFlags
	dir    string
	check  bool
	update string // "", or which part: all, kubelet, packages
}

func newLock(a *app) *cobra.Command {
	c := &lockCmd{app: a}
	cmd := &cobra.Command{
		Use:   "lock DIR [--check | --update [kubelet|packages]]",
		Short: "Resolve every input of an image once, to a digest, in image.lock.json",
		Long: `Resolve every input of the image spec in DIR to a digest, and write them to
image.lock.json beside it. Builds read only the lock.

The Debian archives are checked through the signature of each suite's InRelease
and the hash chain from there to each package. Upstream's files are fetched and
proven as the spec demands; pins that the lock has for the same version are kept.

--check resolves again and compares, and writes nothing: exit code 0 says that
nothing is newer, 3 that something is, and 6 that somebody could not be asked. The
difference is on stdout, with the CVE ids that the changelogs of updated packages name.

--update takes what is newer. A version that image.yaml names moves to the newest
patch of its minor release, and is written there in its place; with "kubelet" or
"packages" only that part moves. Where nothing is newer, no file is touched.`,
		Example: `  imgctl lock images/kubelet
  imgctl lock images/kubelet --archive https://deb.debian.org/debian
  imgctl lock images/kubelet --check
  imgctl lock images/kubelet --update packages`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.arguments(cmd, args); err != nil {
				return err
			}
			return c.run(cmd.Context())
		},
	}
	c.from.register(cmd.Flags())
	cmd.Flags().BoolVar(&c.check, "check", false, "compare the lock with what there is now, and write nothing")
	cmd.Flags().StringVar(&c.update, "update", "", "take the newest of a `part`: kubelet, packages, or both when none is named")
	cmd.Flags().Lookup("update").NoOptDefVal = "all"
	return cmd
}

// arguments reads DIR and, since the value of --update is optional, the part that
// may stand behind it as a word of its own.
func (c *lockCmd) arguments(cmd *cobra.Command, args []string) error {
	if len(args) == 2 && c.update == "all" && slices.Contains([]string{"kubelet", "packages"}, args[1]) {
		c.update, args = args[1], args[:1]
	}
	if err := exactArgs(1, "the directory of an image spec")(cmd, args); err != nil {
		return err
	}
	c.dir = args[0]
	switch {
	case c.check && c.update != "":
		return usage(errors.New("--check and --update: want one of them"))
	case !slices.Contains([]string{"", "all", "kubelet", "packages"}, c.update):
		return usage(fmt.Errorf("--update: got %q, want kubelet or packages", c.update))
	}
	return nil
}

func (c *lockCmd) run(ctx context.Context) error {
	locker, spec, old, err := c.load()
	if err != nil {
		return c.failed(err)
	}
	switch {
	case c.check:
		return c.runCheck(ctx, locker, spec, old)
	case c.update != "" && old != nil:
		return c.runUpdate(ctx, locker, spec, old)
	}
	lock, err := locker.Lock(ctx, spec, old)
	if err != nil {
		return err // which names the directory
	}
	if err := lock.Save(c.dir); err != nil {
		return c.failed(err)
	}
	if c.output == "json" {
		return printJSON(c.stdout, lock)
	}
	c.summarise(lock, c.printer())
	return nil
}

// failed names the command in an error that does not do so itself.
func (c *lockCmd) failed(err error) error { return wrap("lock "+c.dir, err) }

// load reads the files in the directory. The lock is nil when there is none yet.
func (c *lockCmd) load() (*build.Locker, *build.Spec, *build.Lock, error) {
	spec, err := build.LoadSpec(c.dir)
	if err != nil {
		return nil, nil, nil, err
	}
	old, err := build.LoadLock(c.dir)
	var stale *build.StaleError
	if err != nil && (c.check || !errors.As(err, &stale)) {
		return nil, nil, nil, err
	}
	inputs, err := c.inputs(c.from, spec, c.printer())
	if err != nil {
		return nil, nil, nil, err
	}
	return &build.Locker{Upstream: inputs.upstream, Debian: inputs.debian}, spec, old, nil
}

// runCheck prints what is newer than the lock.
func (c *lockCmd) runCheck(ctx context.Context, locker *build.Locker, spec *build.Spec, old *build.Lock) error {
	d, err := locker.Check(ctx, spec, old)
	if err != nil {
		return err
	}
	if err := c.printDiff(d); err != nil {
		return c.failed(err)
	}
	switch {
	case !d.Empty():
		newer := coded(exitDiffers, c.failed(fmt.Errorf("%s newer", newerText(d))))
		return reported(hint(newer, "imgctl lock %s --update", c.dir))
	case len(d.Unknown) > 0:
		return reported(coded(exitUnreachable, c.failed(fmt.Errorf("cannot tell whether something is newer: %s", d.Unknown[0]))))
	}
	c.printer().line("lock", "nothing is newer")
	return nil
}

// runUpdate takes what is newer. The spec is written before the lock: should this
// end in between, the lock says that it is stale, and locking completes it.
func (c *lockCmd) runUpdate(ctx context.Context, locker *build.Locker, spec *build.Spec, old *build.Lock) error {
	part := build.Update{Kubelet: c.update != "packages", Packages: c.update != "kubelet"}
	next, lock, err := locker.Update(ctx, spec, old, part)
	if err != nil {
		return err
	}
	d := build.Diff(old, lock)
	if d.Empty() && old.Check(spec) == nil {
		c.printer().line("lock", "nothing is newer")
		return c.printDiff(build.LockDiff{})
	}
	if err := locker.Explain(ctx, &d, old, lock); err != nil {
		return c.failed(err)
	}
	if err := next.SaveVersions(); err != nil {
		return c.failed(err)
	}
	if err := lock.Save(c.dir); err != nil {
		return c.failed(err)
	}
	c.summarise(lock, c.printer())
	return c.printDiff(d)
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
