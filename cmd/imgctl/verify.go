package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

type verifyCmd struct {
	*app
	accept policyFlags
	refs   []string
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
another source is called changed.`,
		Example: `  imgctl verify quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml
  imgctl verify quay.io/poseidon/kubelet@sha256:… --key release.pub -o json`,
		Args: atLeast(1, "one reference or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.refs = args
			return c.run(cmd.Context())
		},
	}
	c.accept.register(cmd.Flags())
	return cmd
}

func (c *verifyCmd) run(ctx context.Context) error {
	var errs []error
	var found []*verify.Inspection
	for _, arg := range c.refs {
		in, err := c.inspect(ctx, c.registries(), c.accept, arg)
		if err != nil {
			return wrapRef("verify", arg, err)
		}
		found = append(found, in)
		if in.Err != nil {
			errs = append(errs, in.Err)
		}
	}
	if err := c.print(found); err != nil {
		return err
	}
	if len(errs) > 0 {
		return errShown{errors.Join(errs...)}
	}
	return nil
}

// inspect asks all sources of a reference.
func (a *app) inspect(ctx context.Context, reg *oci.Client, accept policyFlags, arg string) (*verify.Inspection, error) {
	ref, err := oci.ParseReference(arg)
	if err != nil {
		return nil, usage(err)
	}
	if ref.Tag == "" && ref.Digest.Hex == "" {
		ref.Tag = "latest"
	}
	v, err := a.verifier(accept, reg, ref.Repository)
	if err != nil {
		return nil, err
	}
	return v.Inspect(ctx, ref)
}

func (c *verifyCmd) print(found []*verify.Inspection) error {
	switch c.output {
	case "json":
		if len(found) == 1 {
			return printJSON(c.stdout, found[0])
		}
		return printJSON(c.stdout, struct {
			strict.Header
			Items []*verify.Inspection `json:"items"`
		}{header("InspectionList"), found})
	case "name":
		for _, in := range found {
			if in.Err == nil {
				fmt.Fprintf(c.stdout, "%s@%s\n", in.Through, in.Digest)
			}
		}
		return nil
	}
	for i, in := range found {
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		printInspection(c.stdout, in)
	}
	return nil
}

// printInspection prints one table, one conclusion and, where there is one, the next step.
func printInspection(w io.Writer, in *verify.Inspection) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "SOURCE\tANSWERS\tDIGEST\tSIGNED BY\tVERDICT")
	for _, s := range in.Sources {
		answers := fmt.Sprintf("yes, %s", tookText(time.Duration(s.TookMillis)*time.Millisecond))
		if !s.Answers {
			answers = "no"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Source, answers, orDash(shortDigest(s.Digest)), orDash(strings.Join(s.Signers, ", ")), s.Verdict)
	}
	t.Flush()
	for _, s := range in.Sources {
		if s.Detail != "" {
			fmt.Fprintf(w, "  %s: %s\n", s.Source, oneLine(s.Detail))
		}
	}
	fmt.Fprintf(w, "\n%s\n", in.Conclusion)
	if in.Verdict == verify.VerdictVerified && anyUnknown(in) {
		fmt.Fprintln(w, "Running nodes keep working: their images are local. New nodes need a source that answers.")
	}
}

func anyUnknown(in *verify.Inspection) bool {
	for _, s := range in.Sources {
		if s.Verdict == verify.VerdictUnknown {
			return true
		}
	}
	return false
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return oneLine(s)
}
