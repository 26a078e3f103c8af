// Command mutants breaks the verifier in every way that mutants.txt lists, one at
// a time, and runs its tests each time. A mutant that no test notices is a promise
// that nothing holds: it is named, and the exit code is 1.
//
//	go run ./tools/mutants           all of them
//	go run ./tools/mutants issuer    those with the word in their name
//
// The files stay as they are: the compiler is given others in their place.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const room = "pkg/verify"

//go:embed mutants.txt
var list string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// mutant is one way to break a file.
type mutant struct{ name, file, old, new string }

func run(words []string) error {
	mutants, err := parse(list)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var survived, tried int
	for i, m := range mutants {
		if len(words) > 0 && !strings.Contains(m.name, strings.Join(words, " ")) {
			continue
		}
		tried++
		killed, err := m.try(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		word := "killed"
		if !killed {
			survived++
			word = "SURVIVED"
		}
		fmt.Printf("%d/%d %s %s: %s\n", i+1, len(mutants), word, m.file, m.name)
	}
	fmt.Printf("%d mutants, %d killed\n", tried, tried-survived)
	if survived > 0 {
		return fmt.Errorf("%d survived", survived)
	}
	return nil
}

// parse reads the list: a line "@ FILE NAME", then the text that is replaced, a
// line "=" and the text that takes its place, up to the next "@".
func parse(text string) ([]mutant, error) {
	var mutants []mutant
	for _, block := range strings.Split("\n"+text, "\n@ ")[1:] {
		head, body, _ := strings.Cut(block, "\n")
		file, name, _ := strings.Cut(head, " ")
		old, replacement, ok := strings.Cut(strings.TrimRight(body, "\n")+"\n", "\n=\n")
		if !ok || name == "" {
			return nil, fmt.Errorf("mutants.txt: %q: want a file, a name and two texts", head)
		}
		mutants = append(mutants, mutant{name, file, old, strings.TrimSuffix(replacement, "\n")})
	}
	return mutants, nil
}

// try runs the tests with the mutant, and reports whether one failed.
func (m mutant) try(dir string) (killed bool, err error) {
	path, err := filepath.Abs(filepath.Join(room, m.file))
	if err != nil {
		return false, err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if n := bytes.Count(body, []byte(m.old)); n != 1 {
		return false, fmt.Errorf("%s holds its text %d times, want once", m.file, n)
	}
	changed := filepath.Join(dir, filepath.Base(m.file))
	overlay := filepath.Join(dir, "overlay.json")
	doc, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		return false, err
	}
	if err := errors.Join(os.WriteFile(changed, bytes.Replace(body, []byte(m.old), []byte(m.new), 1), 0o600), os.WriteFile(overlay, doc, 0o600)); err != nil {
		return false, err
	}
	if out, err := exec.Command("go", "vet", "-overlay", overlay, "./"+room).CombinedOutput(); err != nil {
		return false, fmt.Errorf("it does not compile: %w\n%s", err, out)
	}
	err = exec.Command("go", "test", "-count=1", "-failfast", "-overlay", overlay, "./"+room).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return true, nil
	}
	return false, err
}
