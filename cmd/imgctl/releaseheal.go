package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
)

// runHeal finishes what release.lock.json says is pending or lagging: one
// artifact after the other, as their tags move in a release.
func (c *releaseCmd) runHeal(ctx context.Context, began time.Time) error {
	r, err := c.loadRelease(ctx, c.file, true)
	if err != nil {
		return err
	}
	path := releaseLockPath(c.file)
	lock, err := loadReleaseLock(path)
	if err != nil {
		return hint(err, "imgctl release writes it")
	}
	reg := c.registries()
	if r.signers, err = keepAll(reg, r.signers, r.repositories()); err != nil {
		return err
	}
	receipts := make([][]oci.Receipt, len(lock.Artifacts))
	for i := range lock.Artifacts {
		a := &lock.Artifacts[i]
		if receipts[i], err = c.healArtifact(ctx, r, reg, a); err != nil {
			return fmt.Errorf("%s %s: %w", a.Name, shortDigest(a.Digest), err)
		}
		if err := lock.save(path); err != nil {
			return err
		}
	}
	said, err := lock.healStatement(ctx, reg)
	if err != nil {
		return err
	}
	receipts = append(receipts, said)
	c.printer().line("done", "in %s", tookText(c.now().Sub(began)))
	if err := c.printReleased(lock); err != nil {
		return err
	}
	return reported(r.stands(lock, lagging(receipts)))
}

// healStatement brings the release statement to every repository that lacks it.
func (l *releaseLock) healStatement(ctx context.Context, reg *oci.Client) ([]oci.Receipt, error) {
	if l.Statement == nil {
		return nil, nil
	}
	var to []oci.Destination
	for _, a := range l.Artifacts {
		for _, d := range a.Destinations {
			if !slices.ContainsFunc(to, func(o oci.Destination) bool { return o.Repository == d.Repository }) {
				to = append(to, oci.Destination{Repository: d.Repository, BestEffort: true})
			}
		}
	}
	part, err := l.Statement.consignment(to)
	if err != nil {
		return nil, err
	}
	return reg.Publish(ctx, part.Release, to...)
}

// stands returns what is wrong with a healed release: when it stands, what lags
// is partial, else it is what happened.
func (r *release) stands(lock *releaseLock, err error) error {
	var partial codedError
	if !errors.As(err, &partial) {
		return err
	}
	required, done := 0, 0
	for i, to := range r.to {
		if to.BestEffort {
			continue
		}
		required++
		if !slices.ContainsFunc(lock.Artifacts, func(a lockedArtifact) bool {
			return i >= len(a.Destinations) || a.Destinations[i].State != stateReleased
		}) {
			done++
		}
	}
	if r.file.Quorum > 0 {
		required = r.file.Quorum
	}
	if done < required {
		return partial.error
	}
	return err
}

// healArtifact brings one artifact to the destinations that lack it.
func (c *releaseCmd) healArtifact(ctx context.Context, r *release, reg *oci.Client, a *lockedArtifact) ([]oci.Receipt, error) {
	lacks := func(d lockedDestination) bool { return d.State != stateReleased }
	if !slices.ContainsFunc(a.Destinations, lacks) {
		return nil, nil
	}
	pr, err := a.product()
	if err != nil {
		return nil, err
	}
	from, err := c.verifiedSource(ctx, r, reg, pr, a)
	if err != nil {
		return nil, err
	}
	receipts := make([]oci.Receipt, len(a.Destinations))
	var g errgroup.Group
	for i, d := range a.Destinations {
		if !lacks(d) {
			continue
		}
		g.Go(func() error { receipts[i] = c.healAt(ctx, r, reg, pr, from, d.Repository); return nil }) // a failure is a receipt
	}
	g.Wait()
	p := c.printer()
	for i := range receipts {
		if d := &a.Destinations[i]; lacks(*d) {
			d.settle(receipts[i])
			p.line("heal", "%s  %s from %s", d.Repository, d.State, from)
		}
	}
	return receipts, nil
}

// product is what the lock says of an artifact, without its content.
func (a *lockedArtifact) product() (*product, error) {
	h, err := oci.ParseDigest(a.Digest)
	if err != nil {
		return nil, usage(err)
	}
	pr := &product{name: a.Name, version: a.Version, digest: h, parts: map[string]v1.Hash{}, tags: map[v1.Hash][]string{h: a.Tags}}
	for _, p := range a.Platforms {
		child, err := oci.ParseDigest(p.Digest)
		if err != nil {
			return nil, usage(err)
		}
		pr.parts[p.Platform], pr.tags[child] = child, p.Tags
	}
	for _, d := range a.Destinations {
		pr.to = append(pr.to, oci.Destination{Repository: d.Repository})
	}
	return pr, nil
}

// verifiedSource returns a destination that has the artifact, signed as the
// policy wants it. Those that are done are asked first.
func (c *releaseCmd) verifiedSource(ctx context.Context, r *release, reg *oci.Client, pr *product, a *lockedArtifact) (*oci.Repository, error) {
	check := pr.check(r.policy, c.now)
	var errs []error
	for _, done := range []bool{true, false} {
		for _, d := range a.Destinations {
			if (d.State == stateReleased) != done {
				continue
			}
			repo, err := reg.Repository(d.Repository)
			if err != nil {
				return nil, err
			}
			if err = check(ctx, repo, pr.digest); err == nil {
				return repo, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", repo, err))
		}
	}
	return nil, fmt.Errorf("no destination has it: %w", errors.Join(errs...))
}

// healAt copies the artifact, signs it under the name that it has there, and
// moves the tags.
func (c *releaseCmd) healAt(ctx context.Context, r *release, reg *oci.Client, pr *product, from *oci.Repository, to string) oci.Receipt {
	fail := func(err error) oci.Receipt { return oci.Receipt{Repository: to, Digest: pr.digest, Err: err} }
	dst, err := reg.Repository(to)
	if err != nil {
		return fail(err)
	}
	if dst.String() != from.String() {
		o := oci.CopyOptions{Check: pr.check(r.policy, c.now), Thorough: true, WithoutSignatureTags: true}
		if _, err := reg.Copy(ctx, from, pr.digest, dst, o); err != nil {
			return fail(err)
		}
	}
	there := *pr
	if there.subject, err = dst.Load(ctx, pr.digest); err != nil {
		return fail(err)
	}
	receipts, err := reg.Publish(ctx, there.consignment(r, "", c.now).Release, oci.Destination{Repository: to})
	if len(receipts) == 0 {
		return fail(err)
	}
	return receipts[0]
}
