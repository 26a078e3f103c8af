package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

// newDocs writes the reference pages, which `make docs` keeps in docs/ and a
// test compares with the commands.
func newDocs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "docs DIR",
		Short:   "Write the command reference and the tables of exit codes, files and owners as Markdown",
		Example: "  imgctl docs docs",
		Hidden:  true,
		Args:    exactArgs(1, "a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages, err := referencePages(cmd.Root())
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Join(args[0], "cli"), 0o755); err != nil {
				return err
			}
			for name, page := range pages {
				if err := atomicfile.WriteBytes(filepath.Join(args[0], name), 0o644, page); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// referencePages renders every page that is made from code, by its path below docs/.
func referencePages(root *cobra.Command) (map[string][]byte, error) {
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	table, err := owners.New(nil)
	if err != nil {
		return nil, err
	}
	pages := map[string][]byte{"exit-codes.md": exitCodesPage(), "owners.md": table.Page(), "files.md": bundle.FilesPage()}
	var walk func(*cobra.Command) error
	walk = func(c *cobra.Command) error {
		if !c.IsAvailableCommand() && c.HasParent() || c.Name() == "help" {
			return nil
		}
		var b bytes.Buffer
		if err := doc.GenMarkdown(c, &b); err != nil {
			return fmt.Errorf("document %s: %w", c.CommandPath(), err)
		}
		pages[filepath.Join("cli", strings.ReplaceAll(c.CommandPath(), " ", "_")+".md")] = b.Bytes()
		for _, sub := range c.Commands() {
			if err := walk(sub); err != nil {
				return err
			}
		}
		return nil
	}
	return pages, walk(root)
}

func exitCodesPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Exit codes\n\nMade from the code by `make docs`; `imgctl exit-codes` prints the same table.\n\n| code | name | meaning |\n|---:|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", e.Code, e.Name, e.Meaning)
	}
	return b.Bytes()
}
