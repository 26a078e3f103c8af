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
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
)

type releaseCmd struct {
	*app
	from   inputFlags
	file   string
	dryRun bool
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
read back from that registry and verified against the policy.

stdout is repository@digest, one a line; everything else is on stderr. The digests,
their tags and destinations are recorded in release.lock.json.`,
		Example: `  imgctl release --dry-run
  IMGCTL_KEY_PASSWORD=… imgctl release
  imgctl release --file release.yaml --json`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return wrap("release", c.run(cmd.Context())) },
	}
	f := cmd.Flags()
	f.StringVarP(&c.file, "file", "f", "release.yaml", "what is released, to where, signed by whom")
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan and change nothing")
	c.from.register(f)
	return cmd
}

func (c *releaseCmd) run(ctx context.Context) error {
	began := c.now()
	r, err := c.loadRelease(ctx, c.file, !c.dryRun)
	if err != nil {
		return err
	}
	p := c.printer()
	reg := c.registries()
	if r.signers, err = keepAll(reg, r.signers, r.repositories()); err != nil {
		return err
	}
	plan, err := planRelease(ctx, reg, r)
	if err != nil {
		return err
	}
	plan.print(p)
	if c.dryRun {
		return c.printPlan(plan)
	}
	products, err := c.publishAll(ctx, r, reg, p)
	if err != nil {
		return err
	}
	lock := newReleaseLock(products)
	if err := lock.save(releaseLockPath(c.file)); err != nil {
		return err
	}
	c.summarise(products, p, c.now().Sub(began))
	if err := c.printReleased(lock); err != nil {
		return err
	}
	return reported(lagging(products))
}

// publishAll makes the image, then the bundles that are pinned to it, publishes
// all of them by digest side by side, and only then moves the tags.
func (c *releaseCmd) publishAll(ctx context.Context, r *release, reg *oci.Client, p *printer) ([]*product, error) {
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
		image := images[slices.Index(r.targets, t)]
		bundle, err := makeBundle(ctx, r, b, image)
		if err != nil {
			return nil, err
		}
		products = append(products, bundle)
	}
	if err := checkTags(ctx, reg, products); err != nil {
		return nil, err
	}
	var g errgroup.Group // what one has brought serves the next run, also when another fails
	for _, pr := range products {
		g.Go(func() error { return c.publish(ctx, r, reg, pr, p) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return products, moveTags(ctx, reg, products, p)
}

// publish brings one product to all its destinations, by digest.
func (c *releaseCmd) publish(ctx context.Context, r *release, reg *oci.Client, pr *product, p *printer) error {
	receipts, err := reg.Publish(ctx, oci.Release{
		Subject:     pr.subject,
		Attachments: pr.attachments,
		Signatures:  pr.signatures(r.signers, r.formats),
		Check:       pr.check(r.policy, c.now),
	}, pr.to...)
	pr.receipts = receipts
	for _, rc := range receipts {
		if rc.Err != nil {
			p.line("push", "%s  %v", rc.Repository, rc.Err)
			continue
		}
		p.line("push", "%s  %d of %d blobs new, %s  signed, read back, verified  %s", rc.Repository,
			rc.Uploaded, rc.Uploaded+rc.Present, bytesText(rc.Bytes), tookText(rc.Took))
	}
	return err
}

// lagging is the error of a release whose best-effort destinations are not all done.
func lagging(products []*product) error {
	var errs []error
	for _, pr := range products {
		for _, rc := range pr.receipts {
			if rc.Err != nil {
				errs = append(errs, rc.Err)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return hint(coded(exitPartial, fmt.Errorf("%d best-effort destinations lag: %w", len(errs), errors.Join(errs...))),
		"run the same command again: it finishes what is missing")
}

func (c *releaseCmd) summarise(products []*product, p *printer, took time.Duration) {
	for _, pr := range products {
		what := "bundle " + pr.name
		if pr.platforms != nil {
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
