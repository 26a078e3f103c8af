package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/mirror"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// audited is an inspection with how its sources differ.
type audited struct {
	*verify.Inspection
	Audit  *mirror.Audit `json:"audit,omitempty"`
	Repair string        `json:"repair,omitempty"` // the command that repairs it
}

// audit compares the sources of what was inspected. What cannot be compared, since
// nothing is verified or there is one source, has the verdict alone.
func (c *verifyCmd) audit(ctx context.Context, reg *oci.Client, v *verify.Verifier, in *verify.Inspection) (audited, error) {
	if !c.allSources || in.Verified == nil || len(in.Sources) < 2 {
		return audited{Inspection: in}, nil
	}
	a, err := mirror.Compare(ctx, reg, v, in)
	if err != nil {
		return audited{}, err
	}
	out := audited{Inspection: in, Audit: a}
	if repairable(a) {
		out.Repair = "imgctl sync --heal " + in.Reference + c.accept.words()
	}
	return out, nil
}

// repairable reports whether a difference can be repaired as it is.
func repairable(a *mirror.Audit) bool {
	for _, d := range a.Differences {
		if d.Err == nil {
			return true
		}
	}
	return false
}

// differs is the error of sources that answer and are not equal.
func (a audited) differs() error {
	if a.Audit == nil || !repairable(a.Audit) {
		return nil
	}
	return coded(exitDiffers, fmt.Errorf("the sources of %s differ", a.Reference))
}

// printAudit says what each source lacks, and which command brings it there.
func (c *verifyCmd) printAudit(a audited) {
	if a.Audit == nil {
		return
	}
	if len(a.Audit.Differences) == 0 {
		fmt.Fprintln(c.stdout, "All sources have the same: index, children, referrers, signatures and tag.")
		return
	}
	fmt.Fprintf(c.stdout, "Compared with %s:\n", a.Audit.Best)
	for _, d := range a.Audit.Differences {
		text := d.Why
		if d.Err != nil {
			text = d.Err.Error()
		}
		fmt.Fprintf(c.stdout, "  %s: %s\n", d.Source, oneLine(text))
		if d.Err == nil {
			fmt.Fprintf(c.stdout, "    %s from %s\n", bytesText(d.Bytes), d.From)
		}
	}
	if a.Repair != "" {
		fmt.Fprintf(c.stdout, "This repairs it: %s\n", a.Repair)
	}
}

// healAll is `imgctl sync --heal`: it repairs how the sources of a reference differ.
func (c *syncCmd) healAll(ctx context.Context, reg *oci.Client, v *verify.Verifier, src oci.Reference) error {
	in, err := v.Inspect(ctx, src)
	if err != nil {
		return err
	}
	a, err := mirror.Compare(ctx, reg, v, in)
	if err != nil {
		return errors.Join(in.Err, err)
	}
	p := c.printer()
	for _, d := range a.Differences {
		p.line("plan", "%s  %s  %s  from %s, %s", d.Source, d.Action, strings.Join(strings.Fields(d.Why+" "+d.Error), " "), d.From, bytesText(d.Bytes))
	}
	if c.dryRun || len(a.Differences) == 0 {
		return c.printHealPlan(a)
	}
	receipts, err := a.Heal(ctx, reg, v, c.overwrite)
	h, hashErr := v1.NewHash(a.Digest)
	return errors.Join(hashErr, c.printReceipts("Synced", h, c.overwrite, receipts, err))
}

func (c *syncCmd) printHealPlan(a *mirror.Audit) error {
	var errs []error
	for _, d := range a.Differences {
		errs = append(errs, d.Err)
		if d.Err == nil && c.output != "json" {
			fmt.Fprintf(c.stdout, "%s@%s\n", d.Source, a.Digest)
		}
	}
	if c.output == "json" {
		errs = append(errs, printJSON(c.stdout, struct {
			strict.Header
			*mirror.Audit
		}{header("Audit"), a}))
	}
	return reported(errors.Join(errs...))
}
