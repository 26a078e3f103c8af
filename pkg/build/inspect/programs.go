package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// programs checks that everything compiled is for the machine, and finds what it needs.
func (c *check) programs() {
	m, ok := machines[c.want.Architecture]
	if !ok {
		return
	}
	var roots, others []*Entry
	for _, e := range c.fs.entries {
		c.script(e)
		if e.ELF == nil || !c.forMachine(e, m) || c.damaged(e) {
			continue
		}
		if e.ELF.Interpreter != "" {
			c.interpreter(e, m)
			roots = append(roots, e)
		} else if len(e.ELF.Needed) > 0 {
			others = append(others, e)
		}
	}
	c.libraries(&linker{fs: c.fs, machine: m, cache: c.linkerCache()}, roots, others)
}

func (c *check) forMachine(e *Entry, m machine) bool {
	if m.runs(e.ELF) {
		return true
	}
	if !matchAny(c.gates.ForeignELF, e.Path) {
		c.refuse(GateForeignELF, e.Path, "for %v, %v, %v; want %v, %v, %v", e.ELF.Machine, e.ELF.Class, e.ELF.Data, m.id, m.class, m.data)
	}
	return false
}

func (c *check) damaged(e *Entry) bool {
	if e.ELF.Damage != "" && !matchAny(c.gates.ForeignELF, e.Path) {
		c.refuse(GateForeignELF, e.Path, "cannot be read: %s", e.ELF.Damage)
	}
	return e.ELF.Damage != ""
}

// commands is where env(1) finds a program, as far as a spec does not say otherwise.
var commands = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// script checks that the program which runs a script is there.
func (c *check) script(e *Entry) {
	if e.Script == "" || matchAny(c.gates.MissingLibraries, e.Path) {
		return
	}
	found := func(name string) bool {
		program, err := c.fs.Lookup(name)
		return err == nil && program.Type == File && program.Mode&0o111 != 0
	}
	if path.IsAbs(e.Script) && found(e.Script) ||
		!strings.Contains(e.Script, "/") && slices.ContainsFunc(commands, func(dir string) bool { return found(dir + "/" + e.Script) }) {
		return
	}
	c.refuse(GateMissingLibraries, e.Path, "script for %.200s, which is not found", e.Script)
}

// interpreter checks that the program's dynamic linker is there.
func (c *check) interpreter(e *Entry, m machine) {
	if matchAny(c.gates.MissingLibraries, e.Path) {
		return
	}
	linker, err := c.fs.Lookup(e.ELF.Interpreter)
	if err == nil && (linker.ELF == nil || !m.runs(linker.ELF)) {
		err = fmt.Errorf("not a program for %v", m.id)
	}
	var ends *fs.PathError
	if errors.As(err, &ends) {
		err = ends.Err
	}
	if err != nil {
		c.refuse(GateMissingLibraries, e.Path, "dynamic linker %s: %v", e.ELF.Interpreter, err)
	}
}

func (c *check) linkerCache() map[string][]string {
	if c.fs.Entry(linkerCache) == nil {
		return nil
	}
	cache, err := parseLinkerCache(c.fs.text(linkerCache))
	if err != nil {
		c.refuse(GateMissingLibraries, linkerCache, "%v", err)
	}
	return cache
}

// libraries loads every program, and then every library that no program has
// loaded. A library that is loaded by programs is not looked at alone: it may find
// what it needs only in their company.
func (c *check) libraries(l *linker, roots, others []*Entry) {
	type pair struct {
		by   *Entry
		name string
	}
	seen := make(map[pair]bool)
	loaded := make(map[*Entry]bool)
	try := func(root *Entry) {
		objects, lacks := l.load(root)
		for _, o := range objects {
			loaded[o.Entry] = true
		}
		for _, m := range lacks {
			p := pair{m.by.Entry, m.name}
			if seen[p] || matchAny(c.gates.MissingLibraries, p.by.Path) {
				continue
			}
			seen[p] = true
			detail := fmt.Sprintf("needs %s, which is not found", m.name)
			if p.by != root {
				detail += ", when " + root.Path + " starts"
			}
			c.refuse(GateMissingLibraries, p.by.Path, "%s", detail)
		}
	}
	for _, e := range roots {
		try(e)
	}
	for _, e := range others {
		if !loaded[e] {
			try(e)
		}
	}
}
