package main

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
)

func (c *releaseCmd) printPlan(plan *releasePlan) error {
	if c.output == "json" {
		return printJSON(c.stdout, plan)
	}
	for _, d := range plan.Destinations {
		for _, t := range d.Tags {
			fmt.Fprintf(c.stdout, "%s:%s\n", d.Repository, t.Tag)
		}
	}
	return nil
}

// releasePlan is what a release would do, as data.
type releasePlan struct {
	strict.Header
	Image        string            `json:"image"`
	Versions     []string          `json:"versions"` // as they are tagged: "v1.36.2", "v1.36.2-full"
	Platforms    []string          `json:"platforms"`
	Bundles      []string          `json:"bundles"`
	Signers      []string          `json:"signers"`
	Inputs       []string          `json:"inputs"` // what is fetched, relative to its archive or base
	Destinations []planDestination `json:"destinations"`
}

type planDestination struct {
	Repository string    `json:"repository"`
	BestEffort bool      `json:"bestEffort,omitempty"`
	Tags       []planTag `json:"tags"`
}

// planTag is a tag that the release will move, and what it points at now.
type planTag struct {
	Tag   string `json:"tag"`
	Now   string `json:"now,omitempty"` // digest; absent when there is none
	State string `json:"state"`         // absent, present or unknown; "" until it was looked at
}

func (pl *releasePlan) print(p *printer) {
	registries, directories := 0, 0
	for _, d := range pl.Destinations {
		if strings.HasPrefix(d.Repository, "oci:") {
			directories++
		} else {
			registries++
		}
	}
	p.line("plan", "%s %s · %s · %d repositories on registries, %d in directories · %s", pl.Image, strings.Join(pl.Versions, " "),
		strings.Join(pl.Platforms, " "), registries, directories, counted(len(pl.Signers), "signer"))
	for _, d := range pl.Destinations {
		for _, t := range d.Tags {
			if t.State != "" {
				p.line("plan", "%s:%s  %s %s", d.Repository, t.Tag, t.State, shortDigest(t.Now))
			}
		}
	}
}

// newReleasePlan is what the release will do, whatever the destinations have.
func newReleasePlan(r *release) *releasePlan {
	pl := &releasePlan{
		Header: header("ReleasePlan"), Image: imageName(r.spec),
		Platforms: r.spec.Platforms, Bundles: []string{}, Signers: []string{}, Inputs: lockedPaths(r.lock, r.targets),
	}
	for _, s := range r.file.Signers {
		pl.Signers = append(pl.Signers, s.String())
	}
	for _, b := range r.bundles {
		pl.Bundles = append(pl.Bundles, b.Name)
	}
	var arches []string
	for _, platform := range r.spec.Platforms {
		arches = append(arches, strings.TrimPrefix(platform, "linux/"))
	}
	var tags, bundles []string
	for _, t := range r.targets {
		pl.Versions = append(pl.Versions, t.Tag())
		index, byArch := tagsFor(r.file.Tags, t, arches)
		for _, arch := range arches {
			tags = append(tags, byArch[arch]...)
		}
		tags = append(tags, index...)
	}
	for _, b := range r.bundles {
		bundles = append(bundles, b.Name+"-"+b.Kubernetes)
	}
	for _, to := range r.to {
		pl.Destinations = append(pl.Destinations, newPlanDestination(to, tags))
		if len(bundles) > 0 {
			pl.Destinations = append(pl.Destinations, newPlanDestination(bundleDestination(to), bundles))
		}
	}
	return pl
}

// look asks every destination where its tags point now, and changes nothing.
// What a destination answers, even nothing, is part of the plan and never an
// error. Only a plan that is not carried out is worth the questions.
func (pl *releasePlan) look(ctx context.Context, reg *oci.Client) {
	var g errgroup.Group
	for _, d := range pl.Destinations {
		for i := range d.Tags {
			g.Go(func() error { d.Tags[i].look(ctx, reg, d.Repository); return nil })
		}
	}
	g.Wait()
}

func newPlanDestination(to oci.Destination, tags []string) planDestination {
	d := planDestination{Repository: to.Repository, BestEffort: to.BestEffort}
	for _, tag := range tags {
		d.Tags = append(d.Tags, planTag{Tag: tag})
	}
	return d
}

// look asks what the tag points at now; it stays unknown when nobody answers.
func (t *planTag) look(ctx context.Context, reg *oci.Client, repository string) {
	t.State = "unknown"
	repo, err := reg.Repository(repository)
	if err != nil {
		return
	}
	d, err := repo.Resolve(ctx, t.Tag)
	switch {
	case err == nil:
		t.State, t.Now = "present", d.Digest.String()
	case oci.NotFound(err):
		t.State = "absent"
	}
}

// lockedPaths lists every input, relative to its archive or base.
func lockedPaths(lock *build.Lock, targets []build.Target) []string {
	var paths []string
	for _, pin := range lock.Pins(targets) {
		paths = append(paths, pin.Path)
	}
	packages := lock.Packages(targets)
	for _, name := range sortedKeys(packages) {
		for _, p := range packages[name] {
			paths = append(paths, p.Path)
		}
	}
	return paths
}
