package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/flags"
	"github.com/imgctl/imgctl/pkg/bundle/unit"
)

// assignment is a variable that a unit or a drop-in sets.
type assignment struct {
	unit, file string
	line       int
	name       string
}

// environment notes what variables the unit at hand sets, and from which files it
// has others.
func (l *linter) environment(f *unit.File) {
	of := unitOf(l.file)
	for _, set := range f.All("Service", "EnvironmentFile") {
		if l.environmentFiles == nil {
			l.environmentFiles = make(map[string][]string)
		}
		l.environmentFiles[of] = append(l.environmentFiles[of], strings.TrimPrefix(set.Value, "-"))
	}
	for _, set := range f.All("Service", "Environment") {
		words, err := unit.Split(set.Value)
		if err != nil {
			continue // commands reports it
		}
		for _, w := range words {
			name, _, _ := strings.Cut(w, "=")
			l.assignments = append(l.assignments, assignment{of, l.file, set.Line, name})
		}
	}
}

// unitOf is the unit that a file is, or is a drop-in for.
func unitOf(file string) string {
	if dir := path.Dir(file); path.Ext(file) == ".conf" {
		return strings.TrimSuffix(dir, ".d")
	}
	return file
}

// overridden reports variables that do not have the value which a unit or a
// drop-in sets: a file of variables wins over Environment=, wherever either stands.
func (l *linter) overridden(files map[string][]byte) {
	for _, a := range l.assignments {
		for _, name := range l.environmentFiles[a.unit] {
			if slices.Contains(variables(files[name]), a.name) {
				l.report(Finding{a.file, a.line, flags.Error, fmt.Sprintf("Environment=%s does not count: EnvironmentFile=%s sets it, too, and wins", a.name, name),
					"set it in a file that EnvironmentFile= names later"})
			}
		}
	}
}

// variables are the names that a file of variables sets.
func variables(body []byte) []string {
	var names []string
	for line := range strings.Lines(string(body)) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") && !strings.HasPrefix(name, ";") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}
