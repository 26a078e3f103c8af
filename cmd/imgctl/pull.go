package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/node"
)

// nodeFlags say which machine is meant.
type nodeFlags struct {
	root         string
	unsafeOwners bool
}

func (n *nodeFlags) register(f *pflag.FlagSet) {
	f.StringVar(&n.root, "root", "/", "`directory` that is taken for the machine's root")
}

func (a *app) store(n nodeFlags) *node.Store {
	return &node.Store{Root: n.root, Now: a.now, UnsafeOwners: n.unsafeOwners, Log: a.logger()}
}

type pullCmd struct {
	*app
	accept policyFlags
	on     nodeFlags
	is     content.Machine
	dryRun bool
	back   bool // --allow-rollback
	ref    string
}

func newPull(a *app) *cobra.Command {
	c := &pullCmd{app: a}
	cmd := &cobra.Command{
		Use:   "pull BUNDLE",
		Short: "Verify a bundle and install it as a new generation",
		Long: `Verify a bundle against the policy, from the first source that can supply it, and
install its files: all of them or, after a crash or a refusal, none. The generation
before stays on the disk, and "imgctl rollback" needs no network to go back to it.

A bundle is for several kinds of machines: the family of this one is what its
/etc/os-release says, and its role is for --role, or IMGCTL_ROLE, to say.

Where the policy asks for freshness, what this machine has seen of releases is kept in
/var/lib/imgctl/seen.json: neither a release statement nor a bundle goes back behind it.

A policy should name more than one source: a tag is decided by the first that
answers, bytes and signatures may come from any.`,
		Example: `  imgctl pull quay.io/poseidon/kubelet-bundle:typhoon-v1.36.2 --role worker --policy /etc/imgctl/kubelet.yaml
  imgctl pull quay.io/poseidon/kubelet-bundle@sha256:… --family fcos --role worker --policy kubelet.yaml --root ./machine
  imgctl pull oci:/run/media/bundle:typhoon-v1.36.2 --role worker --key release.pub --offline`,
		Args: exactArgs(1, "the reference of a bundle"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ref = args[0]
			return wrapRef("pull", c.ref, c.run(cmd.Context()))
		},
	}
	c.accept.register(cmd.Flags())
	c.on.register(cmd.Flags())
	cmd.Flags().StringVar(&c.is.Family, "family", "", "family of the machine's operating system: fcos, flatcar or debian (default: what its /etc/os-release says)")
	cmd.Flags().StringVar(&c.is.Role, "role", "", "role of the machine: controller or worker")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "verify, print what would be installed, and change nothing")
	cmd.Flags().BoolVar(&c.back, "allow-rollback", false, "install a bundle of an earlier release than the one that is installed (loosens a check)")
	cmd.Flags().BoolVar(&c.on.unsafeOwners, "unsafe-owners", false, "give files to the caller instead of to their listed owners, to look at a bundle without being root")
	return cmd
}

func (c *pullCmd) run(ctx context.Context) error {
	p := c.printer()
	seenFile := filepath.Join(c.on.root, nodeSeenFile)
	seen, err := loadSeen(seenFile)
	if err != nil {
		return err
	}
	c.accept.seen = seen.statements()
	in, err := c.inspect(ctx, c.registries(), c.accept, c.ref)
	if err != nil {
		return err
	}
	if in.Err != nil {
		return hint(in.Err, "imgctl verify %s shows what each source says", c.ref)
	}
	if err := seen.mayInstall(in.Verified, c.back); err != nil {
		return err
	}
	store := c.store(c.on)
	if store.Machine, err = c.machine(); err != nil {
		return err
	}
	if c.dryRun {
		plan, err := store.Plan(ctx, in.Verified)
		if err != nil {
			return err
		}
		return c.printPlan(plan)
	}
	generation, err := store.Install(ctx, in.Verified)
	if err != nil {
		return err
	}
	seen.note(in.Verified, true)
	if err := seen.save(seenFile); err != nil {
		return err
	}
	p.line("pull", "%s  generation %d  %d files from %s", c.ref, generation.ID, len(generation.Bundle.Files), generation.Source)
	return c.printGeneration(generation)
}

// machine is what the flags and the machine itself say that it is.
func (c *pullCmd) machine() (content.Machine, error) {
	is := c.is
	if is.Family != "" {
		return is, nil
	}
	var err error
	is.Family, err = node.Family(c.on.root)
	return is, err
}

func (c *pullCmd) printPlan(plan node.Plan) error {
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			node.Plan
		}{header("PullPlan"), plan})
	}
	fmt.Fprintf(c.stdout, "%s generation %d  %s\n", plan.Action, plan.Generation, plan.Digest)
	for _, f := range plan.Files {
		fmt.Fprintf(c.stdout, "  %s  %s\n", f.Action, f.Path)
	}
	return nil
}

func (a *app) printGeneration(g node.Generation) error {
	if a.output == "json" {
		return printJSON(a.stdout, struct {
			strict.Header
			node.Generation
		}{header("Generation"), g})
	}
	_, err := fmt.Fprintf(a.stdout, "%s@%s\n", g.Repository, g.Digest)
	return err
}

func newStatus(a *app) *cobra.Command {
	var on nodeFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is installed, and whether its files are as they were signed",
		Example: `  imgctl status
  imgctl status --root ./machine --json`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return wrap("status", a.status(cmd.Context(), on))
		},
	}
	on.register(cmd.Flags())
	return cmd
}

func (a *app) status(ctx context.Context, on nodeFlags) error {
	s, err := a.store(on).Status(ctx)
	if err != nil {
		return err
	}
	switch {
	case a.output == "json":
		if err := printJSON(a.stdout, struct {
			strict.Header
			node.Status
		}{header("NodeStatus"), s}); err != nil {
			return err
		}
	case a.output == "name" && s.Current != nil:
		fmt.Fprintf(a.stdout, "%s@%s\n", s.Current.Repository, s.Current.Digest)
	default:
		a.printStatus(s)
	}
	if len(s.Changes) > 0 {
		return errShown{coded(exitDiffers, fmt.Errorf("%d files are not as they were signed", len(s.Changes)))}
	}
	return nil
}

func (a *app) printStatus(s node.Status) {
	if s.Current == nil {
		fmt.Fprintln(a.stdout, "bundle    none is installed")
		return
	}
	g := s.Current
	state := fmt.Sprintf("%d files as signed", len(g.Bundle.Files))
	if n := len(s.Changes); n > 0 {
		state = fmt.Sprintf("%d differences", n)
	}
	fmt.Fprintf(a.stdout, "bundle    %s  %s %s (generation %d)  installed %s ago  %s\n",
		g.Repository, g.Bundle.Name, g.Bundle.Version, g.ID, tookText(a.now().Sub(g.Installed)), state)
	for _, c := range s.Changes {
		fmt.Fprintf(a.stdout, "changed   %s\n", oneLine(c.String()))
	}
	for name, ref := range g.Bundle.Images {
		fmt.Fprintf(a.stdout, "image     %s  %s\n", name, ref)
	}
	fmt.Fprintf(a.stdout, "source    %s\n", g.Source)
	if s.Previous != nil {
		fmt.Fprintf(a.stdout, "previous  %s (generation %d)  imgctl rollback\n", s.Previous.Bundle.Version, s.Previous.ID)
	}
}

func newRollback(a *app) *cobra.Command {
	var on nodeFlags
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the generation before, without any network",
		Example: `  imgctl rollback
  imgctl rollback --root ./machine`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := a.store(on).Rollback(cmd.Context())
			if err != nil {
				return err
			}
			return a.printGeneration(g)
		},
	}
	on.register(cmd.Flags())
	return cmd
}
