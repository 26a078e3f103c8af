package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at a policy: what it makes of a reference, and whether it means what it should",
		Args:  exactArgs(0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyExplain(a), newPolicyTest(a), newPolicyConvert(a))
	return cmd
}

func newPolicyExplain(a *app) *cobra.Command {
	var accept policyFlags
	cmd := &cobra.Command{
		Use:   "explain REF",
		Short: "Say rule by rule what a policy makes of a reference, without asking anybody",
		Long: `Say which rule of a policy decides about a reference, why the others do not, and what
that rule asks for: sources, signers and whether they count today, attestations. No
registry is asked; "imgctl verify" does that.`,
		Example: `  imgctl policy explain quay.io/poseidon/kubelet:v1.36.2 --policy policies/kubelet.yaml
  imgctl policy explain psdn/kubelet --policy policies/kubelet.yaml -o json`,
		Args: exactArgs(1, "a reference"),
		RunE: func(_ *cobra.Command, args []string) error {
			return wrapRef("explain", args[0], a.explain(accept, args[0]))
		},
	}
	accept.register(cmd.Flags())
	a.registerOutput(cmd.Flags(), "yaml")
	return cmd
}

func (a *app) explain(accept policyFlags, arg string) error {
	ref, err := oci.ParseReference(arg)
	if err != nil {
		return usage(err)
	}
	policy, err := accept.load([]string{ref.Repository})
	if err != nil {
		return err
	}
	e, err := policy.Explain(ref.Repository, a.now())
	if err != nil {
		return err
	}
	if err := a.printExplanation(e); err != nil {
		return err
	}
	if e.Refusal != nil {
		return reported(e.Refusal)
	}
	return nil
}

func (a *app) printExplanation(e *verify.Explanation) error {
	switch a.output {
	case "json", "yaml":
		return printDocument(a.stdout, a.output, e)
	case "name":
		_, err := fmt.Fprintln(a.stdout, e.Repository)
		return err
	}
	for _, r := range e.Rules {
		mark := "no "
		if r.Decides {
			mark = "yes"
		}
		fmt.Fprintf(a.stdout, "%s  %s: %s\n", mark, r.Rule, oneLine(r.Why))
		for _, d := range r.Demands {
			fmt.Fprintf(a.stdout, "     - %s\n", oneLine(d))
		}
	}
	return nil
}

func newPolicyTest(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Hold a policy against references that it must accept, and that it must refuse",
		Long: `Verify every reference of a table and compare the verdict with the one that the table
wants: verified, changed, absent, or the reason of a refusal. A source that cannot be
asked is never what was wanted. The table must have a reference that passes and one
that does not.`,
		Example: `  imgctl policy test policies/kubelet-test.yaml
  imgctl policy test policies/kubelet-test.yaml -o json`,
		Args: exactArgs(1, "a file of kind PolicyTest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wrap("policy test", a.testPolicy(cmd.Context(), args[0]))
		},
	}
	a.registerOutput(cmd.Flags(), "yaml")
	return cmd
}

func (a *app) testPolicy(ctx context.Context, path string) error {
	cases, err := verify.LoadCases(path)
	if err != nil {
		return err
	}
	v, err := a.verifier(policyFlags{policy: cases.Policy}, a.registries())
	if err != nil {
		return err
	}
	results, err := v.Check(ctx, cases.List)
	if err != nil {
		return err
	}
	if err := a.printCases(results); err != nil {
		return err
	}
	return caseErrors(results)
}

// caseErrors is the error of cases that are not as wanted: an outage where nobody
// could say, and otherwise a difference, which is worse.
func caseErrors(results []verify.CaseResult) error {
	var differ int
	var open []error
	for _, r := range results {
		switch {
		case r.OK:
		case r.Found.Verdict == verify.VerdictUnknown:
			open = append(open, r.Found.Err)
		default:
			differ++
		}
	}
	if differ > 0 {
		return reported(coded(exitDiffers, fmt.Errorf("%d of %s are not as wanted", differ, counted(len(results), "case"))))
	}
	return reported(errors.Join(open...))
}

func (a *app) printCases(results []verify.CaseResult) error {
	switch a.output {
	case "json", "yaml":
		return printDocument(a.stdout, a.output, struct {
			strict.Header
			Cases []verify.CaseResult `json:"cases"`
		}{header("PolicyTestResult"), results})
	case "name":
		for _, r := range results {
			if !r.OK {
				fmt.Fprintln(a.stdout, r.Reference)
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "REFERENCE\tWANT\tGOT\t")
	met := 0
	for _, r := range results {
		mark := "ok"
		if !r.OK {
			mark = "NOT AS WANTED"
		} else {
			met++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Reference, r.Want, r.Got, mark)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if !r.OK {
			fmt.Fprintf(a.stdout, "  %s\n", verdictText(r.Found))
		}
	}
	_, err := fmt.Fprintf(a.stdout, "\n%d of %s are as wanted.\n", met, counted(len(results), "case"))
	return err
}
