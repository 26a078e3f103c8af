package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func testRoot() *cobra.Command {
	return newRoot(&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }})
}

// The pages below docs/ that are made from the code say what the code does.
func TestReferencePagesAreUpToDate(t *testing.T) {
	pages, err := referencePages(testRoot())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("docs/%s differs from the code (%v): run make docs", name, err)
		}
	}
	written, err := os.ReadDir("../../docs/cli")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range written {
		if _, ok := pages[filepath.Join("cli", e.Name())]; !ok {
			t.Errorf("docs/cli/%s is about no command: remove it", e.Name())
		}
	}
}

// Every command that does something says what, and shows two examples.
func TestEveryCommandHasExamples(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.Runnable() || c.Hidden || c.HasSubCommands() || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return
		}
		if c.Short == "" || strings.Count(c.Example, "imgctl ") < 2 {
			t.Errorf("%s: want a short description and two examples", c.CommandPath())
		}
	}
	walk(testRoot())
}

func TestExitCodesAreSortedAndNamedOnce(t *testing.T) {
	names := map[string]bool{}
	last := -1
	for _, e := range exitCodes {
		if e.Code <= last || names[e.Name] || e.Name == "" || e.Meaning == "" {
			t.Errorf("exit code %d %q is out of order, double or without meaning", e.Code, e.Name)
		}
		names[e.Name], last = true, e.Code
	}
}
