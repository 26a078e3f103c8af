package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/verify"
	"github.com/imgctl/imgctl/pkg/verify/convert"
)

// convertCmd says a policy in the words of another program.
type convertCmd struct {
	*app
	to, dir string
	giveUp  []string
}

func newPolicyConvert(a *app) *cobra.Command {
	c := &convertCmd{app: a}
	cmd := &cobra.Command{
		Use:   "convert FILE --to PROGRAM",
		Short: "Say a policy in the words of podman, the policy-controller, Kyverno, Talos, Flux or gh",
		Long: `Write what another program reads so that it decides as a policy does, and list
everything in which it will not. Where it would accept what the policy refuses, nothing
is written unless --give-up names that. docs/policy-convert.md has each program's limits.`,
		Example: `  imgctl policy convert policies/kubelet.yaml --to podman --dir etc/containers --give-up attestations,below,parts
  imgctl policy convert policies/kubelet.yaml --to kyverno -o json`,
		Args: exactArgs(1, "a policy file"),
		RunE: func(_ *cobra.Command, args []string) error {
			return wrap("policy convert", c.run(args[0]))
		},
	}
	cmd.Flags().StringVar(&c.to, "to", "", "`program` that is to understand it: "+strings.Join(convert.Targets(), ", "))
	cmd.Flags().StringVar(&c.dir, "dir", "", "`directory` that the files are written to")
	cmd.Flags().StringSliceVar(&c.giveUp, "give-up", nil, "`names` of what the program need not ask for although the policy does")
	a.registerOutput(cmd.Flags(), "yaml")
	return cmd
}

func (c *convertCmd) run(path string) error {
	if !slices.Contains(convert.Targets(), c.to) {
		return usage(fmt.Errorf("--to: got %q, want one of %s", c.to, strings.Join(convert.Targets(), ", ")))
	}
	if c.dir == "" && c.output == "text" {
		return hint(usage(fmt.Errorf("nowhere to write to")), "give --dir DIR, or -o json for files and losses in one document")
	}
	policy, err := verify.LoadPolicy(path)
	if err != nil {
		return err
	}
	r, err := convert.Convert(policy, c.to, c.now())
	if err != nil {
		return err
	}
	for _, l := range r.Losses {
		fmt.Fprintln(c.stderr, lossText(l))
	}
	missing := slices.DeleteFunc(r.Weaker(), func(name string) bool { return slices.Contains(c.giveUp, name) })
	if len(missing) == 0 && c.dir != "" {
		if err := c.write(r.Files); err != nil {
			return err
		}
	}
	if err := c.print(r, missing); err != nil {
		return err
	}
	if len(missing) > 0 {
		err := coded(exitDiffers, fmt.Errorf("%s would accept what the policy refuses: %s", c.to, strings.Join(missing, ", ")))
		return reported(hint(err, "nothing was written; --give-up %s if that is meant", strings.Join(missing, ",")))
	}
	return nil
}

// lossText is a loss on one line.
func lossText(l convert.Loss) string {
	where := "policy"
	if l.Rule != "" {
		where = l.Rule
	}
	return oneLine(fmt.Sprintf("%s (%s): %s: %s", l.Effect, l.Name, where, l.Text))
}

func (c *convertCmd) write(files []convert.File) error {
	for _, f := range files {
		perm := fs.FileMode(0o644)
		if strings.HasSuffix(f.Path, ".sh") {
			perm = 0o755
		}
		if err := writeBelow(c.dir, f.Path, perm, []byte(f.Body)); err != nil {
			return err
		}
	}
	return nil
}

func (c *convertCmd) print(r *convert.Result, missing []string) error {
	if c.output == "json" || c.output == "yaml" {
		files := r.Files
		if len(missing) > 0 {
			files = []convert.File{}
		}
		return printDocument(c.stdout, c.output, struct {
			strict.Header
			To     string         `json:"to"`
			Files  []convert.File `json:"files"`  // none where more would be given up than was said
			Losses []convert.Loss `json:"losses"` // in the order of the rules
		}{header("PolicyConversion"), c.to, files, r.Losses})
	}
	if len(missing) > 0 {
		return nil
	}
	for _, f := range r.Files {
		fmt.Fprintln(c.stdout, filepath.Join(c.dir, f.Path))
	}
	return nil
}
