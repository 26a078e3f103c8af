// Package flags knows which command-line flags each minor version of Kubernetes
// has, and which versions of its components work together.
//
// The tables are made from the option structs of the components themselves, by
// tools/kubeflags, and are part of the program. An unknown flag ends a component
// at its start, so on a fleet it ends all of them.
package flags

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says what follows from a finding.
type Severity string

// The two severities. An error keeps a component from starting or from doing
// what was meant; a warning will, in a later version.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that is wrong with a command line.
type Finding struct {
	Severity Severity
	// Arg is the index in the arguments, or -1 where they do not matter.
	Arg     int
	Message string
	Hint    string // what to do, where it is known
}

// Check reports what is wrong with the arguments of a component, in their order.
//
// component is kubelet, kube-apiserver, kube-controller-manager or
// kube-scheduler; version is one of Kubernetes, "v1.36.2". args are without the
// name of the program. A value in which a variable is still to be expanded
// ("$X", "${X}", "$(X)") is not looked at.
func Check(component, version string, args []string) []Finding {
	t, err := load(component, version)
	if err != nil {
		return []Finding{{Severity: Error, Arg: -1, Message: err.Error()}}
	}
	c := checker{table: t, seen: make(map[string]bool)}
	for i := 0; i < len(args); i++ {
		i += c.arg(i, args)
	}
	return c.found
}

// checker goes through one command line.
type checker struct {
	table *table
	seen  map[string]bool
	found []Finding
}

func (c *checker) report(s Severity, arg int, hint, format string, values ...any) {
	c.found = append(c.found, Finding{Severity: s, Arg: arg, Message: fmt.Sprintf(format, values...), Hint: hint})
}

// arg checks args[i] and returns how many arguments after it belong to it.
func (c *checker) arg(i int, args []string) int {
	name, value, given := strings.Cut(args[i], "=")
	switch {
	case strings.HasPrefix(name, "--") && len(name) > 2:
		name = c.spelling(i, name[2:])
	case (name == "-v" || name == "-h") && (given || name == "-h" || i+1 < len(args)):
		name = map[string]string{"-v": "v", "-h": "help"}[name]
	default:
		c.report(Error, i, "", "%q: %s takes flags alone", args[i], c.table.component)
		return 0
	}
	f, ok := c.table.flags[name]
	if !ok {
		c.unknown(i, name)
		return 0
	}
	used := 0
	switch {
	case given:
	case f.bare != "":
		value = f.bare
	case i+1 < len(args):
		value, used = args[i+1], 1
	default:
		c.report(Error, i, "", "--%s: got no value, want %s", name, f.kind)
		return 0
	}
	c.known(i, f, value)
	return used
}

// spelling returns the name as the table has it. Kubernetes reads an underscore
// as a dash, and says that one day it will not.
func (c *checker) spelling(i int, name string) string {
	dashed := strings.ReplaceAll(name, "_", "-")
	if dashed != name {
		if _, ok := c.table.flags[dashed]; ok {
			c.report(Warning, i, "write --"+dashed, "--%s: a flag is spelt with dashes", name)
		}
	}
	return dashed
}

// known checks a flag that there is.
func (c *checker) known(i int, f flag, value string) {
	if f.deprecated != "" {
		c.report(Warning, i, moved(c.table.component, f.name), "--%s: deprecated: %s", f.name, f.deprecated)
	}
	if c.seen[f.name] && !f.collects() {
		c.report(Error, i, "give it once", "--%s: given twice, and only the last counts", f.name)
	}
	c.seen[f.name] = true
	if strings.Contains(value, "$") {
		return
	}
	if err := f.check(value); err != nil {
		c.report(Error, i, "", "--%s: %v", f.name, err)
	}
}

// unknown says what is known about a flag that there is not.
func (c *checker) unknown(i int, name string) {
	t := c.table
	message := fmt.Sprintf("--%s: %s %s has no such flag", name, t.component, t.minor)
	if note := t.history(name); note != "" {
		c.report(Error, i, "", "%s: %s", message, note)
		return
	}
	hint := ""
	if near := nearest(name, t.flags); near != "" {
		hint = "did you mean --" + near + "?"
	}
	c.report(Error, i, hint, "%s", message)
}

// nearest returns the flag that is spelt most alike, if one is alike at all.
func nearest(name string, flags map[string]flag) string {
	best, least := "", 1+min(4, len(name)/3)
	for _, f := range sortedNames(flags) {
		if d := distance(name, f); d < least {
			best, least = f, d
		}
	}
	return best
}

// distance is how many letters must be added, dropped or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedNames(flags map[string]flag) []string {
	names := make([]string, 0, len(flags))
	for name := range flags {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
