package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/lint"
)

type bundleDiffCmd struct {
	*app
	a, b string
}

// bundleDiff is what `imgctl bundle diff -o json` prints.
type bundleDiff struct {
	strict.Header
	Files  []changedFile    `json:"files"`
	Gained []lint.Privilege `json:"gained"`
	Lost   []lint.Privilege `json:"lost"`
}

// changedFile is a file that is not the same in both.
type changedFile struct {
	Path   string `json:"path"`
	Change string `json:"change"` // added, removed or changed
}

func newBundleDiff(a *app) *cobra.Command {
	c := &bundleDiffCmd{app: a}
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say which files differ, and what B may do that A may not",
		Long: `Compare two directories that "bundle render" wrote: which files were added, removed or
changed, and what that means for what containers and users may do: the images that run,
their flags, the host's paths that they see, capabilities and namespaces, the rules of
roles. A + is what B has more, a - what it has no more.

The exit code is 0 when nothing differs and 3 when something does.`,
		Example: `  imgctl bundle diff out.v1.36.1 out.v1.36.2
  imgctl bundle diff out.v1.36.1 out.v1.36.2 -o json`,
		Args: exactArgs(2, "two directories"),
		RunE: func(_ *cobra.Command, args []string) error {
			c.a, c.b = args[0], args[1]
			return wrap("bundle diff "+c.a+" "+c.b, c.run())
		},
	}
	a.registerOutput(cmd.Flags())
	return cmd
}

func (c *bundleDiffCmd) run() error {
	a, err := readTree(c.a)
	if err != nil {
		return err
	}
	b, err := readTree(c.b)
	if err != nil {
		return err
	}
	d := compareTrees(a, b)
	if err := c.print(d); err != nil {
		return err
	}
	if len(d.Files) > 0 {
		return reported(coded(exitDiffers, fmt.Errorf("%s differ", counted(len(d.Files), "file"))))
	}
	return nil
}

// compareTrees compares files by path, and the privileges that they give.
func compareTrees(a, b map[string][]byte) *bundleDiff {
	d := &bundleDiff{Header: header("BundleDiff"), Files: []changedFile{}}
	for _, path := range sortedKeys(a) {
		body, ok := b[path]
		switch {
		case !ok:
			d.Files = append(d.Files, changedFile{path, "removed"})
		case !bytes.Equal(a[path], body):
			d.Files = append(d.Files, changedFile{path, "changed"})
		}
	}
	for _, path := range sortedKeys(b) {
		if _, ok := a[path]; !ok {
			d.Files = append(d.Files, changedFile{path, "added"})
		}
	}
	had, has := lint.Privileges(a), lint.Privileges(b)
	d.Gained, d.Lost = without(has, had), without(had, has)
	return d
}

// without returns what is in all and not in others.
func without(all, others []lint.Privilege) []lint.Privilege {
	return append([]lint.Privilege{}, slices.DeleteFunc(slices.Clone(all), func(p lint.Privilege) bool { return slices.Contains(others, p) })...)
}

func (c *bundleDiffCmd) print(d *bundleDiff) error {
	switch c.output {
	case "json":
		return printJSON(c.stdout, d)
	case "name":
		for _, f := range d.Files {
			fmt.Fprintln(c.stdout, f.Path)
		}
		return nil
	}
	for _, f := range d.Files {
		fmt.Fprintf(c.stdout, "%-8s %s\n", f.Change, f.Path)
	}
	for _, p := range d.Lost {
		fmt.Fprintf(c.stdout, "- %s  %s  %s\n", p.Of, p.Kind, p.What)
	}
	for _, p := range d.Gained {
		fmt.Fprintf(c.stdout, "+ %s  %s  %s\n", p.Of, p.Kind, p.What)
	}
	return nil
}
