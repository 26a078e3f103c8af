package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// runbookBlock is a block of commands, with the exit code that it ends with.
var runbookBlock = regexp.MustCompile("(?ms)^```sh(?: exit=([0-9]+))?\n(.*?)^```$")

// runRunbook is "runbook HEADING [N]": it types what docs/runbook.md says below the
// heading, all of it or the Nth block, with the script's registries in the place of
// the public ones, and the directory "machine" in the place of the machine.
func runRunbook(t *testing.T) func(*testscript.TestScript, bool, []string) {
	path, err := filepath.Abs(filepath.Join("..", "..", "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	return func(ts *testscript.TestScript, _ bool, args []string) {
		_, section, found := strings.Cut(ts.ReadFile(path), "\n## "+args[0]+"\n")
		if !found {
			ts.Fatalf("the runbook has no %q", args[0])
		}
		section, _, _ = strings.Cut(section, "\n## ")
		here := strings.NewReplacer("quay.io/poseidon/", ts.Getenv("A")+"/", "docker.io/psdn/", ts.Getenv("B")+"/",
			"/apply.sh", "/apply.sh $WORK/machine", "/undo.sh", "/undo.sh $WORK/machine")
		blocks := runbookBlock.FindAllStringSubmatch(section, -1)
		if len(args) > 1 {
			n, err := strconv.Atoi(args[1])
			ts.Check(err)
			blocks = blocks[n-1 : n]
		}
		if len(blocks) == 0 {
			ts.Fatalf("%q has no commands", args[0])
		}
		for _, b := range blocks {
			typeBlock(ts, here.Replace(b[2]), b[1])
		}
	}
}

// typeBlock runs commands up to the first that fails.
func typeBlock(ts *testscript.TestScript, commands, code string) {
	err := ts.Exec("sh", "-exc", commands)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", commands, err)
	}
	if want, _ := strconv.Atoi(code); got != want {
		ts.Fatalf("got exit code %d, want %d, of\n%s%s%s", got, want, commands, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
