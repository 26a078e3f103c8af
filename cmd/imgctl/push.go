package main

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// pushResult is what `imgctl push`, `sign` and `sync` print.
type pushResult struct {
	strict.Header
	Digest       string            `json:"digest"`
	Overwrite    string            `json:"overwrite,omitempty"` // why tags were moved that pointed elsewhere
	Destinations []pushDestination `json:"destinations"`
}

type pushDestination struct {
	Repository string        `json:"repository"`
	Tags       []string      `json:"tags,omitempty"`
	Replaced   []replacedTag `json:"replaced,omitempty"`
	Uploaded   int           `json:"uploaded"`          // blobs and manifests that were sent
	Mounted    int           `json:"mounted,omitempty"` // blobs that the registry took from another repository
	Present    int           `json:"present"`           // that were there
	Bytes      int64         `json:"bytes"`             // of what was sent
	Error      string        `json:"error,omitempty"`
}

// printReceipts prints what happened at each destination, and returns err, with
// which all of it ended.
func (a *app) printReceipts(kind string, h v1.Hash, overwrite string, receipts []oci.Receipt, err error) error {
	if len(receipts) == 0 {
		return err
	}
	p := a.printer()
	r := pushResult{Header: header(kind), Digest: h.String(), Overwrite: overwrite}
	for _, rc := range receipts {
		d := pushDestination{Repository: rc.Repository, Tags: rc.Tags, Replaced: replacedTags(rc), Uploaded: rc.Uploaded, Mounted: rc.Mounted, Present: rc.Present, Bytes: rc.Bytes}
		if rc.Err != nil {
			d.Error = oneLine(rc.Err.Error())
		} else {
			p.line("done", "%s  %d of %d new, %s  %s", rc.Repository, rc.Uploaded, rc.Uploaded+rc.Mounted+rc.Present, bytesText(rc.Bytes), tookText(rc.Took))
		}
		r.Destinations = append(r.Destinations, d)
		if rc.Err == nil && a.output != "json" {
			fmt.Fprintf(a.stdout, "%s@%s\n", rc.Repository, h)
		}
	}
	if a.output != "json" {
		return err
	}
	return errors.Join(printJSON(a.stdout, r), reported(err))
}

type pushCmd struct {
	*app
	accept    policyFlags
	tags      []string
	overwrite string // why
	src       string
	to        []string
}

func newPush(a *app) *cobra.Command {
	c := &pushCmd{app: a}
	cmd := &cobra.Command{
		Use:   "push SRC REPOSITORY…",
		Short: "Bring an image or index to several repositories at once, by digest",
		Long: `Bring an image or index, for instance from the directory that "imgctl build" wrote,
to several repositories at once. Each blob is read once and sent only where it is
missing. Without --tag it is reachable by digest only, ready to be signed; with
--tag it must pass the policy, read back from each repository, before the tag moves.`,
		Example: `  imgctl push oci:dist:v1.36.2 quay.io/poseidon/kubelet docker.io/psdn/kubelet
  imgctl push oci:dist:v1.36.2 quay.io/poseidon/kubelet --tag v1.36.2 --policy policies/kubelet.yaml`,
		Args: atLeast(2, "a source and one repository or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.src, c.to = args[0], args[1:]
			return wrapRef("push", c.src, c.run(cmd.Context()))
		},
	}
	c.accept.register(cmd.Flags())
	cmd.Flags().StringArrayVar(&c.tags, "tag", nil, "`tag` that is moved once the content has passed the policy (repeatable)")
	cmd.Flags().StringVar(&c.overwrite, "overwrite", "", "move tags that point at something else, for this `reason`, which is recorded (loosens a check)")
	return cmd
}

func (c *pushCmd) run(ctx context.Context) error {
	reg := c.registries()
	src, h, err := c.resolve(ctx, reg, c.src)
	if err != nil {
		return err
	}
	subject, err := src.Load(ctx, h)
	if err != nil {
		return err
	}
	r := oci.Release{Subject: subject, From: src, Tags: c.tags, Overwrite: c.overwrite}
	var to []oci.Destination
	for _, name := range c.to {
		to = append(to, oci.Destination{Repository: name})
	}
	if len(c.tags) > 0 {
		if r.Check, err = c.check(reg); err != nil {
			return err
		}
	}
	receipts, err := reg.Publish(ctx, r, to...)
	return c.printReceipts("Pushed", h, c.overwrite, receipts, err)
}

// check applies the policy to what one repository holds.
func (c *pushCmd) check(reg *oci.Client) (func(context.Context, *oci.Repository, v1.Hash) error, error) {
	v, err := c.verifier(c.accept, reg, c.to...)
	if err != nil {
		return nil, hint(err, "a tag is only moved to what passes --policy or --key")
	}
	return readBack(v, func(repository string) string { return repository }), nil
}
