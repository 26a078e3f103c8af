package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

type doctorCmd struct {
	*app
	write bool
	repos []string
}

func newDoctor(a *app) *cobra.Command {
	c := &doctorCmd{app: a}
	cmd := &cobra.Command{
		Use:   "doctor REPOSITORY…",
		Short: "Say what a registry can do, and whether it can be used",
		Long: `Ask repositories what their registries can do: how they authenticate, TLS, their
clock, what is left of a rate limit, referrers, mounts, deletion, immutable tags, media
types. Without --write nothing is changed, and what only a try tells is "unknown". With
--write a small image is put, tagged and referred to, and removed again; what could not
be removed is named (exit code 7). Tags are never listed.

A clock that differs by more than five minutes is a failure: signatures have times.`,
		Example: `  imgctl doctor quay.io/poseidon/kubelet docker.io/psdn/kubelet
  imgctl doctor registry.example.com/scratch --write --json`,
		Args: atLeast(1, "one repository or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.repos = args
			return wrap("doctor", c.run(cmd.Context()))
		},
	}
	cmd.Flags().BoolVar(&c.write, "write", false, "find out by writing, and remove what was written")
	return cmd
}

// examination is one repository in the result.
type examination struct {
	oci.Examination
	Error string `json:"error,omitempty"`
}

func (c *doctorCmd) run(ctx context.Context) error {
	reg := c.registries()
	found := make([]examination, len(c.repos))
	var g errgroup.Group
	for i, name := range c.repos {
		g.Go(func() error {
			found[i].Examination = reg.Examine(ctx, name, c.write)
			return nil // a failure is a finding
		})
	}
	g.Wait() // the functions return no error
	var errs []error
	for i := range found {
		if err := c.verdict(&found[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if err := c.print(found); err != nil {
		return err
	}
	return reported(errors.Join(errs...))
}

// verdict is what keeps a repository from being used well.
func (c *doctorCmd) verdict(e *examination) error {
	err := e.Err
	switch {
	case err != nil:
	case e.ClockSkew.Abs() > 5*time.Minute:
		err = fmt.Errorf("%s: its clock differs from ours by %s", e.Repository, e.ClockSkew)
	case len(e.Left) > 0:
		err = coded(exitPartial, fmt.Errorf("%s: could not be removed: %s", e.Repository, strings.Join(e.Left, ", ")))
	default:
		return nil
	}
	e.Error = oneLine(err.Error())
	return err
}

func (c *doctorCmd) print(found []examination) error {
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			Repositories []examination `json:"repositories"`
		}{header("Examination"), found})
	}
	for _, e := range found {
		if c.output == "name" {
			if e.Error == "" {
				fmt.Fprintln(c.stdout, e.Repository)
			}
			continue
		}
		if err := c.printTable(e); err != nil {
			return err
		}
	}
	return nil
}

func (c *doctorCmd) printTable(e examination) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	row := func(what, answer, detail string) { fmt.Fprintf(t, "  %s\t%s\t%s\n", what, answer, oneLine(detail)) }
	fmt.Fprintln(t, e.Repository)
	if e.Err != nil {
		row("usable", oci.No, e.Error)
	}
	if e.Authentication != "" {
		row("authentication", e.Authentication, "")
		row("TLS", e.TLS, "")
	}
	for _, k := range slices.Sorted(maps.Keys(e.RateLimit)) {
		row(k, e.RateLimit[k], "")
	}
	for _, f := range e.Findings {
		row(f.What, f.Answer, f.Detail)
	}
	for _, l := range e.Left {
		row("left behind", oci.Yes, l)
	}
	return t.Flush()
}
