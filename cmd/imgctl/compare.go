package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// allowFile says, beside a spec, in what the two engines may differ.
const allowFile = "compare.yaml"

// comparedImages is what `imgctl build --compare --json` prints.
type comparedImages struct {
	strict.Header
	Images []comparedImage     `json:"images"`
	Stale  []inspect.Allowance `json:"stale,omitempty"` // entries of compare.yaml that matched nothing
}

type comparedImage struct {
	Tag      string `json:"tag"`
	Platform string `json:"platform"`
	Entries  int    `json:"entries"` // of the image that the layer engine made
	inspect.Comparison
}

// compareEngines builds every target with both engines and compares what they made.
func (c *buildCmd) compareEngines(ctx context.Context, im *lockedImage) error {
	allow, err := inspect.LoadAllow(filepath.Join(c.dir, allowFile))
	if errors.Is(err, fs.ErrNotExist) {
		allow, err = &inspect.Allow{}, nil
	}
	if err != nil {
		return err
	}
	other := c.workers.engine(c.app, im.inputs)
	compared := comparedImages{Header: header("Compared")}
	var comparisons []inspect.Comparison
	for _, t := range im.targets {
		ours, err := c.buildImage(ctx, c.layers(im.inputs), im.spec, im.lock, t, c.printer())
		if err != nil {
			return err
		}
		theirs, err := c.buildImage(ctx, other, im.spec, im.lock, t, c.printer())
		if err != nil {
			return err
		}
		for _, platform := range im.spec.Platforms {
			a, b := ours.Contents[platform], theirs.Contents[platform]
			comparison := inspect.Compare(inspect.Side{Name: "layers", FS: a}, inspect.Side{Name: "buildkit", FS: b}, allow)
			comparisons = append(comparisons, comparison)
			compared.Images = append(compared.Images, comparedImage{t.Tag(), platform, len(a.Entries()), comparison})
		}
	}
	if len(im.targets) == len(im.spec.Targets(im.lock)) { // what another variant needs is not stale
		compared.Stale = allow.Stale(comparisons...)
	}
	return c.printCompared(compared)
}

// printCompared prints every difference. Its error says how many there are.
func (c *buildCmd) printCompared(compared comparedImages) error {
	differences := 0
	for _, i := range compared.Images {
		differences += len(i.Differences)
	}
	if c.output == "json" {
		if err := printJSON(c.stdout, compared); err != nil {
			return err
		}
	} else {
		c.printDifferences(compared)
	}
	if differences == 0 {
		return nil
	}
	err := fmt.Errorf("the engines differ in %d properties of files", differences)
	return reported(hint(coded(exitDiffers, err), "find out which of them is right; what may differ is written into %s, with the reason", filepath.Join(c.dir, allowFile)))
}

func (c *buildCmd) printDifferences(compared comparedImages) {
	for _, i := range compared.Images {
		fmt.Fprintf(c.stdout, "%s %s  %d entries, %d differences, %d allowed\n", i.Tag, i.Platform, i.Entries, len(i.Differences), len(i.Allowed))
		for _, d := range i.Differences {
			fmt.Fprintf(c.stdout, "  %s\n", oneLine(d.String()))
		}
	}
	for _, s := range compared.Stale {
		fmt.Fprintf(c.stdout, "%s: %s: matches nothing any more\n", allowFile, s.Path)
	}
}
