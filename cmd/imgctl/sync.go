package main

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/mirror"
	"github.com/imgctl/imgctl/pkg/oci"
)

type syncCmd struct {
	*app
	accept    policyFlags
	dryRun    bool
	overwrite string // why
	heal      bool
	src       string
	to        []string
}

func newSync(a *app) *cobra.Command {
	c := &syncCmd{app: a}
	cmd := &cobra.Command{
		Use:   "sync SRC DST… | sync --heal SRC",
		Short: "Copy a release that the policy accepts, with everything that verifies it",
		Long: `Copy a release to other repositories: the index, its children, every referrer
(signatures, SBOMs, provenance) and the signature tags, byte for byte and by digest.
The source must be accepted by the policy; each copy must be too, with the source not
asked, and only then does the tag move.

With --heal the destinations are the sources of the policy: each gets what any of them
has, which is what "imgctl verify --all-sources" finds missing.`,
		Example: `  imgctl sync quay.io/poseidon/kubelet:v1.36.2 registry.example.com/kubelet --policy policies/kubelet.yaml
  imgctl sync oci:dist/kubelet:v1.36.2 registry.example.com/kubelet --key release.pub --dry-run
  imgctl sync --heal quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if c.heal {
				return exactArgs(1, "a reference")(cmd, args)
			}
			return atLeast(2, "a source and one destination or more")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.src, c.to = args[0], args[1:]
			return wrapRef("sync", c.src, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	c.accept.register(f)
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan and change nothing")
	f.BoolVar(&c.heal, "heal", false, "repair how the policy's sources of the reference differ")
	f.StringVar(&c.overwrite, "overwrite", "", "move tags that point at something else, for this `reason`, which is recorded (loosens a check)")
	return cmd
}

func (c *syncCmd) run(ctx context.Context) error {
	src, err := oci.ParseReference(c.src)
	if err != nil {
		return usage(err)
	}
	reg := c.registries()
	v, err := c.verifier(c.accept, reg, src.Repository)
	if err != nil {
		return err
	}
	if c.heal {
		return c.healAll(ctx, reg, v, src)
	}
	plan, err := mirror.Compute(ctx, reg, v, src, c.to...)
	if err != nil {
		return err
	}
	plan.Overwrite = c.overwrite
	p := c.printer()
	for _, cp := range plan.Copies {
		p.line("plan", "%s  %s  %s  %d new, %d there, %s", cp.Destination, cp.Action, cp.Why, cp.Objects, cp.Present, bytesText(cp.Bytes))
	}
	if c.dryRun {
		return c.printPlan(plan)
	}
	receipts, err := plan.Apply(ctx)
	h, hashErr := v1.NewHash(plan.Digest)
	return errors.Join(hashErr, c.printReceipts("Synced", h, c.overwrite, receipts, err))
}

func (c *syncCmd) printPlan(plan mirror.Plan) error {
	var errs []error
	for _, cp := range plan.Copies {
		errs = append(errs, cp.Err) // what Apply would fail with
		if cp.Err == nil && cp.Action != mirror.DoNothing && c.output != "json" {
			fmt.Fprintf(c.stdout, "%s@%s\n", cp.Destination, plan.Digest)
		}
	}
	if c.output == "json" {
		errs = append(errs, printJSON(c.stdout, struct {
			strict.Header
			mirror.Plan
		}{header("SyncPlan"), plan}))
	}
	return reported(errors.Join(errs...))
}
