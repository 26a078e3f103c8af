package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

type verifyCmd struct {
	*app
	accept      policyFlags
	annotations string
	override    string // directory
	allSources  bool
	seen        string // file
	refs        []string
}

func newVerify(a *app) *cobra.Command {
	c := &verifyCmd{app: a}
	cmd := &cobra.Command{
		Use:   "verify REF…",
		Short: "Say whether a reference may be used, and tell an outage from a breach",
		Long: `Ask every source that the policy names for the reference, side by side, and say of
each whether it answers, what it has and who signed that.

A source that cannot be asked is unknown, never unsigned. Bytes and signatures are
bound to a digest, so one verified source is enough; a tag that points elsewhere at
another source is called changed. With --all-sources the sources are compared with each
other, and one that lacks what another has makes exit code 3.

A host that could not be asked is not asked again in the same run. With --override the
verdict becomes files for systemd, podman, containerd, static pods and Butane that pull by
digest from where it was verified, a script that puts them in place and one that takes them
away. With GITHUB_ACTIONS set, what is not verified becomes an annotation, and the table goes into the step's
summary.`,
		Example: `  imgctl verify quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml
  imgctl verify quay.io/poseidon/kubelet@sha256:… --key release.pub -o json
  imgctl verify psdn/kubelet:v1.36.2 psdn/kubelet:v1.35.6 --policy policies/kubelet.yaml -o sarif
  imgctl verify quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml --override ./override`,
		Args: atLeast(1, "one reference or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.refs = args
			return c.run(cmd.Context())
		},
	}
	c.accept.register(cmd.Flags())
	cmd.Flags().BoolVar(&c.allSources, "all-sources", false, "compare index, children, referrers, signatures and tag at all sources, and say what repairs them")
	cmd.Flags().StringVar(&c.override, "override", "", "`directory` that is written, with what moves a machine to where the references were verified")
	cmd.Flags().StringVar(&c.seen, "seen", "", "`file` that keeps the newest release statement seen of each repository, so that none goes back; for policies that ask for freshness")
	cmd.Flags().StringVar(&c.annotations, "annotations", "auto", "auto, github or none: lines that a CI shows beside the run")
	a.registerOutput(cmd.Flags(), "yaml", "sarif", "junit")
	return cmd
}

func (c *verifyCmd) run(ctx context.Context) error {
	if err := errors.Join(checkAnnotations(c.annotations), checkOverride(c.override)); err != nil {
		return err
	}
	seen, err := c.loadSeen()
	if err != nil {
		return err
	}
	reg := c.registries()
	v, found, err := c.inspectAll(ctx, reg, c.accept, c.refs)
	if err != nil {
		return err
	}
	var results []audited
	var errs []error
	for _, in := range found {
		a, err := c.audit(ctx, reg, v, in)
		if err != nil {
			return err
		}
		results, errs = append(results, a), append(errs, in.Err, a.differs())
	}
	if err := errors.Join(c.print(results), c.tellGitHub(found), c.writeOverride(ctx, v, found), c.keepSeen(seen, found)); err != nil {
		return err
	}
	if err := errors.Join(errs...); err != nil {
		return errShown{err}
	}
	return nil
}

// inspect asks all sources of a reference.
func (a *app) inspect(ctx context.Context, reg *oci.Client, accept policyFlags, arg string) (*verify.Inspection, error) {
	_, found, err := a.inspectAll(ctx, reg, accept, []string{arg})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// sideBySide is how many references are asked about at the same time.
const sideBySide = 8

// inspectAll asks all sources of all references. They have one verifier, so that
// a host that is dead costs its time once.
func (a *app) inspectAll(ctx context.Context, reg *oci.Client, accept policyFlags, args []string) (*verify.Verifier, []*verify.Inspection, error) {
	refs := make([]oci.Reference, len(args))
	repositories := make([]string, len(args))
	for i, arg := range args {
		ref, err := oci.ParseReference(arg)
		if err != nil {
			return nil, nil, usage(err)
		}
		if ref.Tag == "" && ref.Digest.Hex == "" {
			ref.Tag = "latest"
		}
		refs[i], repositories[i] = ref, ref.Repository
	}
	v, err := a.verifier(accept, reg, repositories...)
	if err != nil {
		return nil, nil, err
	}
	found := make([]*verify.Inspection, len(refs))
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for i, ref := range refs {
		g.Go(func() (err error) {
			found[i], err = v.Inspect(ctx, ref)
			return err
		})
	}
	return v, found, g.Wait()
}
