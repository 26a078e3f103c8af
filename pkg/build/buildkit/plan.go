package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// maxControl bounds the control file of a package, in bytes.
const maxControl = 4 << 20

// debianName is the name of a package (Debian Policy 5.6.7). It goes into paths.
var debianName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// debian is one package of the image.
type debian struct {
	name      string
	file      string // the .deb on disk
	sha256    string // of that file
	essential bool
	needs     deb.Requirements
}

// upload is the name under which a worker gets the file. It has the digest in
// it: a worker that kept a file of an earlier build compares names, not contents.
func (d debian) upload() string { return d.name + "_" + d.sha256 + ".deb" }

// readPackages reads what the packages say of themselves. They keep their order.
func readPackages(ctx context.Context, packages []rootfs.Package, digests []string, jobs int) ([]debian, error) {
	all := make([]debian, len(packages))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for i, p := range packages {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			all[i], err = readPackage(p, digests[i])
			return err
		})
	}
	return all, g.Wait()
}

// errEnough ends the reading of a package of which everything wanted is known.
var errEnough = errors.New("enough")

func readPackage(p rootfs.Package, sha256 string) (debian, error) {
	if !debianName.MatchString(p.Name) {
		return debian{}, fmt.Errorf("package %q: want the name of a Debian package", p.Name)
	}
	d := debian{name: p.Name, file: p.File, sha256: sha256}
	err := deb.Unpack(p.File, func(m deb.Member) error {
		switch {
		case !m.Control:
			return errors.New("no control file")
		case m.Header.Name != "control":
			return nil
		}
		data, err := readAll(m.Body, maxControl)
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		control, err := deb.ParseControl(data)
		if err != nil {
			return err
		}
		if got := control.Package + " " + control.Version; got != p.Name+" "+p.Version {
			return fmt.Errorf("its control file says %q, want %q", got, p.Name+" "+p.Version)
		}
		d.essential = control.Essential
		if d.needs, err = deb.ParseRequirements(data); err != nil {
			return err
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		return d, nil
	}
	return debian{}, fmt.Errorf("package %s: %w", p.Name, cmp.Or(err, errors.New("no control file")))
}

// plan is the order in which the packages are installed.
type plan struct {
	// essential are the Essential packages and all that they need. They are
	// unpacked without dpkg, which is one of them.
	essential []debian
	// batches are the others. What a package must find configured before it is
	// unpacked (Pre-Depends) is in an earlier batch, or essential.
	batches [][]debian
}

// A ClosureError says that packages cannot be installed by their own scripts,
// because something that these need is not among them.
type ClosureError struct{ Missing string }

// Error is one line.
func (e *ClosureError) Error() string {
	return fmt.Sprintf("packages: %s: BuildKit workers run the packages' own scripts, which need dpkg, the Essential packages and every dependency in the lock (packages.dependencies: true); the engine \"layers\" does not", e.Missing)
}

// newPlan orders packages, which are sorted by name. The result depends on nothing else.
func newPlan(packages []debian) (*plan, error) {
	offers := offersOf(packages)
	var roots []string
	for _, d := range packages {
		if d.essential {
			roots = append(roots, d.name)
		}
	}
	if _, ok := offers["dpkg"]; !ok || len(roots) == 0 {
		return nil, &ClosureError{Missing: "no dpkg and no Essential packages"}
	}
	byName := make(map[string]debian, len(packages))
	for _, d := range packages {
		byName[d.name] = d
	}
	done := make(map[string]bool)
	if err := reach(append(roots, "dpkg"), byName, offers, done); err != nil {
		return nil, err
	}
	p := &plan{}
	var rest []debian
	for _, d := range packages {
		if done[d.name] {
			p.essential = append(p.essential, d)
			continue
		}
		rest = append(rest, d)
	}
	var err error
	p.batches, err = batches(rest, offers, done)
	return p, err
}

// batches orders the packages that are not in done.
func batches(rest []debian, offers map[string][]string, done map[string]bool) ([][]debian, error) {
	var all [][]debian
	for len(rest) > 0 {
		batch, err := nextBatch(rest, offers, done)
		if err != nil {
			return nil, err
		}
		for _, d := range batch {
			done[d.name] = true
		}
		all = append(all, batch)
		rest = slices.DeleteFunc(rest, func(d debian) bool { return done[d.name] })
	}
	return all, nil
}

// offersOf maps each name, real or virtual, to the packages that stand for it.
func offersOf(packages []debian) map[string][]string {
	offers := make(map[string][]string)
	for _, d := range packages {
		offers[d.name] = append(offers[d.name], d.name)
		for _, r := range d.needs.Provides {
			for _, v := range r {
				if v.Name != d.name {
					offers[v.Name] = append(offers[v.Name], d.name)
				}
			}
		}
	}
	return offers
}

// reach marks names and all that they need, directly or not.
func reach(names []string, byName map[string]debian, offers map[string][]string, done map[string]bool) error {
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if done[name] {
			continue
		}
		done[name] = true
		d := byName[name]
		for _, r := range slices.Concat(d.needs.PreDepends, d.needs.Depends) {
			who := standFor(r, offers)
			if len(who) == 0 {
				return &ClosureError{Missing: fmt.Sprintf("%s needs %s", name, r)}
			}
			names = append(names, who...)
		}
	}
	return nil
}

// standFor returns every package that meets the relation. Versions are not
// looked at: whoever made the lock did, and dpkg does.
func standFor(r deb.Relation, offers map[string][]string) []string {
	var who []string
	for _, p := range r {
		who = append(who, offers[p.Name]...)
	}
	return who
}

// nextBatch returns the packages of rest that can be unpacked and configured
// together now that those in done are configured.
func nextBatch(rest []debian, offers map[string][]string, done map[string]bool) ([]debian, error) {
	batch := make(map[string]bool)
	for _, d := range rest {
		ready, err := met(d.name, d.needs.PreDepends, offers, done)
		if err != nil {
			return nil, err
		}
		batch[d.name] = ready
	}
	for changed := true; changed; {
		changed = false
		for _, d := range rest {
			ready, err := met(d.name, d.needs.Depends, offers, done, batch)
			if err != nil {
				return nil, err
			}
			if batch[d.name] && !ready {
				batch[d.name], changed = false, true
			}
		}
	}
	var next []debian
	for _, d := range rest {
		if batch[d.name] {
			next = append(next, d)
		}
	}
	if len(next) == 0 {
		return nil, fmt.Errorf("packages: %s: each must be configured before another of them is unpacked (Pre-Depends)", namesOf(rest))
	}
	return next, nil
}

// met reports whether each relation is met by a package of one of the sets. A
// relation that no package at all meets is a [*ClosureError].
func met(name string, relations []deb.Relation, offers map[string][]string, sets ...map[string]bool) (bool, error) {
	for _, r := range relations {
		who := standFor(r, offers)
		if len(who) == 0 {
			return false, &ClosureError{Missing: fmt.Sprintf("%s needs %s", name, r)}
		}
		if !slices.ContainsFunc(who, func(w string) bool {
			return slices.ContainsFunc(sets, func(set map[string]bool) bool { return set[w] })
		}) {
			return false, nil
		}
	}
	return true, nil
}

func namesOf(packages []debian) string {
	names := make([]string, len(packages))
	for i, d := range packages {
		names[i] = d.name
	}
	return strings.Join(names, " ")
}
