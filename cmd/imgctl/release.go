package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/pkg/oci"
)

type releaseCmd struct {
	*app
	from      inputFlags
	file      string
	dryRun    bool
	heal      bool
	overwrite string // why
	revoke    []string
}

func newRelease(a *app) *cobra.Command {
	c := &releaseCmd{app: a}
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Build, sign, publish, verify and tag what release.yaml says",
		Long: `Do everything from upstream's file to a tag on every registry: fetch, build, sign,
publish by digest, read back and verify, publish the bundles that are pinned to the
new digest, and at the very end move the tags.

A release can be interrupted anywhere: run it again and it goes on. Nothing that a
registry has is uploaded again, and no tag ever points at something that was not
read back from that registry and verified against the policy. Before the first tag
moves, release.lock.json says which digests get which tags where ("pending"); a run
that would give those tags to something else is refused until that is finished.

--heal finishes what release.lock.json says is pending or lagging, from a destination
that has it and passes the policy; every blob is asked for. Nothing is built or fetched
from upstream. The key is needed only because signatures under tags name a repository.

Every repository also gets a signed statement about the release, under the tag
imgctl-release: its number, until when it counts, every digest, what of earlier
releases may still be used, and what --revoke has taken back, for ever. Policies that
ask for freshness believe it.

stdout is repository@digest, one a line; everything else is on stderr. The digests,
their tags and destinations are recorded in release.lock.json.`,
		Example: `  imgctl release --dry-run
  IMGCTL_KEY_PASSWORD=… imgctl release
  imgctl release --heal
  imgctl release --revoke sha256:…
  imgctl release --file release.yaml --json`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return wrap("release", c.run(cmd.Context())) },
	}
	f := cmd.Flags()
	f.StringVarP(&c.file, "file", "f", "release.yaml", "what is released, to where, signed by whom")
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan and change nothing")
	f.BoolVar(&c.heal, "heal", false, "finish what release.lock.json says is pending or lagging; build nothing")
	f.StringVar(&c.overwrite, "overwrite", "", "move released tags that point at something else, for this `reason`, which is recorded (loosens a check)")
	f.StringArrayVar(&c.revoke, "revoke", nil, "`digest` of a release that must not be used any more; it stays revoked (repeatable)")
	c.from.register(f)
	return cmd
}

func (c *releaseCmd) run(ctx context.Context) error {
	began := c.now()
	if c.heal {
		return c.runHeal(ctx, began)
	}
	r, err := c.loadRelease(ctx, c.file, !c.dryRun)
	if err != nil {
		return err
	}
	p := c.printer()
	reg := c.registries()
	if r.signers, err = keepAll(reg, r.signers, r.repositories()); err != nil {
		return err
	}
	plan := newReleasePlan(r)
	if c.dryRun {
		plan.look(ctx, reg)
		plan.print(p)
		return c.printPlan(plan)
	}
	plan.print(p)
	products, err := c.makeProducts(ctx, r, p)
	if err != nil {
		return err
	}
	return c.publish(ctx, r, reg, products, began)
}

// makeProducts makes the images, then the bundles that are pinned to them.
func (c *releaseCmd) makeProducts(ctx context.Context, r *release, p *printer) ([]*product, error) {
	images, err := c.makeImages(ctx, r, p)
	if err != nil {
		return nil, err
	}
	products := images
	for _, b := range r.bundles {
		t, err := r.target(b)
		if err != nil {
			return nil, err
		}
		bundle, err := makeBundle(ctx, r, b, images[slices.Index(r.targets, t)])
		if err != nil {
			return nil, err
		}
		products = append(products, bundle)
	}
	return products, nil
}

// publish brings all products to all destinations as one transaction, and
// records it: before the first tag moves, and when it is over.
func (c *releaseCmd) publish(ctx context.Context, r *release, reg *oci.Client, products []*product, began time.Time) error {
	path := releaseLockPath(c.file)
	lock := newReleaseLock(products, c.overwrite)
	if err := lock.mayFollow(path, c.overwrite); err != nil {
		return err
	}
	var err error
	if lock.Statement, err = c.makeStatement(ctx, r, reg, products, path); err != nil {
		return err
	}
	t := oci.Transaction{Quorum: r.file.Quorum, Commit: func(context.Context) error { return lock.save(path) }}
	if t.Parts, err = lock.Statement.consignments(r); err != nil {
		return err
	}
	before := len(t.Parts)
	for i, pr := range products {
		pr.to = lock.Artifacts[i].recall(pr.to)
		t.Parts = append(t.Parts, pr.consignment(r, c.overwrite, c.now))
	}
	receipts, err := reg.PublishAll(ctx, t)
	p := c.printer()
	for i := range products[:max(0, len(receipts)-before)] {
		products[i].receipts = receipts[before+i]
		c.printSteps(products[i], p)
	}
	if err != nil {
		return hintChanged(err)
	}
	if s := lock.Statement; s != nil {
		p.line("state", "release statement %d  until %s  %d revoked", s.Sequence, s.Expires.Format(time.DateOnly), len(s.Revoked))
	}
	lock.settle(receipts[before:])
	if err := lock.save(path); err != nil {
		return err
	}
	c.summarise(products, p, c.now().Sub(began))
	if err := c.printReleased(lock); err != nil {
		return err
	}
	return reported(lagging(receipts))
}

// hintChanged says what to do about a released tag that points elsewhere.
func hintChanged(err error) error {
	var changed *oci.Changed
	if !errors.As(err, &changed) {
		return err
	}
	return hint(err, "a released tag is not moved: release another version, or find out who pushed %s", shortDigest(changed.Got.String()))
}

// printSteps says what happened to one product at each destination.
func (c *releaseCmd) printSteps(pr *product, p *printer) {
	for _, rc := range pr.receipts {
		if rc.Err != nil {
			p.line("push", "%s  %v", rc.Repository, rc.Err)
			continue
		}
		p.line("push", "%s  %d of %d blobs new, %s  signed, read back, verified  %s", rc.Repository,
			rc.Uploaded, rc.Uploaded+rc.Mounted+rc.Present, bytesText(rc.Bytes), tookText(rc.Took))
		for _, tag := range rc.Tags {
			p.line("tag", "%s:%s  %s", rc.Repository, tag, shortDigest(pr.digest.String()))
		}
	}
}

// lagging is the error of a release that stands, but not everywhere.
func lagging(receipts [][]oci.Receipt) error {
	var errs []error
	places := make(map[string]bool)
	for _, part := range receipts {
		for _, rc := range part {
			if rc.Err == nil {
				continue
			}
			places[rc.Repository] = true
			if !oci.Held(rc.Err) {
				errs = append(errs, fmt.Errorf("%s: %w", rc.Repository, rc.Err))
			}
		}
	}
	if len(places) == 0 {
		return nil
	}
	return hint(coded(exitPartial, fmt.Errorf("%d repositories lag: %w", len(places), errors.Join(errs...))),
		"imgctl release --heal finishes what is missing")
}

func (c *releaseCmd) summarise(products []*product, p *printer, took time.Duration) {
	for _, pr := range products {
		what := "bundle " + pr.name
		if pr.target.Version != "" {
			what = "released " + pr.name + " " + pr.target.Tag()
		}
		var where []string
		for _, rc := range pr.receipts {
			mark := "✓"
			if rc.Err != nil {
				mark = "✗"
			}
			where = append(where, rc.Repository+" "+mark)
		}
		p.line("done", "%s  %s  %s", what, shortDigest(pr.digest.String()), strings.Join(where, "   "))
	}
	p.line("done", "in %s", tookText(took))
}

func (c *releaseCmd) printReleased(lock *releaseLock) error {
	if c.output == "json" {
		return printJSON(c.stdout, lock)
	}
	for _, a := range lock.Artifacts {
		for _, d := range a.Destinations {
			if d.State == stateReleased {
				fmt.Fprintf(c.stdout, "%s@%s\n", d.Repository, a.Digest)
			}
		}
	}
	return nil
}

// releaseLockPath is where the record of a release is kept: beside its file.
func releaseLockPath(file string) string {
	return strings.TrimSuffix(file, filepath.Ext(file)) + ".lock.json"
}
