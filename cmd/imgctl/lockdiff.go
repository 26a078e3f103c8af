package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
)

// printDiff prints a difference of locks, as text or as a document.
func (c *lockCmd) printDiff(d build.LockDiff) error {
	switch c.output {
	case "json":
		return printJSON(c.stdout, struct {
			strict.Header
			build.LockDiff
		}{header("LockDiff"), d})
	case "text":
		return writeDiff(c.stdout, d)
	}
	return nil
}

// newerText counts what differs: "1 version of Kubernetes and 3 packages are".
func newerText(d build.LockDiff) string {
	var parts []string
	for _, p := range []struct {
		n         int
		one, many string
	}{
		{len(d.Kubernetes), "version of Kubernetes", "versions of Kubernetes"},
		{len(d.Packages), "package", "packages"},
		{len(d.Local), "local file", "local files"},
	} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.one)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.many))
		}
	}
	text := strings.Join(parts, " and ")
	if len(parts) == 1 && strings.HasPrefix(text, "1 ") {
		return text + " is"
	}
	return text + " are"
}

// writeDiff prints a line for each change: what kind, of what, from what to what,
// by how many bytes, and why.
func writeDiff(w io.Writer, d build.LockDiff) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells ...string) {
		for i, cell := range cells {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	for _, v := range d.Kubernetes {
		line(string(v.Change), "kubernetes", fromTo(v.Old, v.New), "", v.Asked)
	}
	for _, p := range d.Packages {
		line(packageWord(p), p.Name, fromTo(p.Old, p.New), growthText(p.Images), strings.Join(slices.Concat(p.CVEs, placesText(p, d.Images)), ", "))
	}
	for _, f := range d.Local {
		line(string(f.Change), f.Name, "", deltaText(f.New-f.Old))
	}
	if !d.Empty() {
		for _, s := range d.Suites {
			line("suite", s.Suite, fromTo(s.Old, s.New))
		}
		for _, i := range d.Images {
			line("image", strings.TrimSpace(i.Variant+" "+i.Platform), fromTo(fmt.Sprintf("%d packages, %s", i.OldPackages, bytesText(i.Old)),
				fmt.Sprintf("%d packages, %s", i.NewPackages, bytesText(i.New))), deltaText(i.New-i.Old))
		}
	}
	for _, text := range d.Unknown {
		line("unknown", text)
	}
	return t.Flush()
}

// packageWord is the kind of change; an update of the security suite is called that.
func packageWord(p build.PackageDiff) string {
	if p.Security && p.Change == build.Updated {
		return "security"
	}
	return string(p.Change)
}

func fromTo(old, new string) string {
	switch {
	case old == "" || old == new:
		return new
	case new == "":
		return old
	}
	return old + " → " + new
}

// growthText is by how much a package grew: where that differs from image to
// image, by how much at most.
func growthText(images []build.PackageSize) string {
	largest := slices.MaxFunc(images, func(a, b build.PackageSize) int { return cmp.Compare(magnitude(a.New-a.Old), magnitude(b.New-b.Old)) })
	return deltaText(largest.New - largest.Old)
}

func magnitude(n int64) int64 { return max(n, -n) }

func deltaText(n int64) string {
	if n < 0 {
		return "-" + bytesText(-n)
	}
	return "+" + bytesText(n)
}

// placesText names the images that a change is in, unless it is in all: a whole
// variant by its name alone.
func placesText(p build.PackageDiff, all []build.ImageDiff) []string {
	if len(p.Images) == len(all) {
		return nil
	}
	platforms := make(map[string][]string) // of each variant, those with the change
	for _, i := range p.Images {
		platforms[i.Variant] = append(platforms[i.Variant], i.Platform)
	}
	var places []string
	for _, variant := range sortedKeys(platforms) {
		whole := 0
		for _, i := range all {
			if i.Variant == variant {
				whole++
			}
		}
		if variant != "" && len(platforms[variant]) == whole {
			places = append(places, variant)
			continue
		}
		for _, platform := range platforms[variant] {
			places = append(places, strings.TrimSpace(variant+" "+platform))
		}
	}
	return []string{"only in " + strings.Join(places, " and ")}
}
