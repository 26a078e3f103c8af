package rootfs

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// writeSpec adds the directories, files and links that the Config asks for. They
// take the place of what scripts have made, never that of a package's file.
func (t *Tree) writeSpec(cfg Config, a *accounts) error {
	for _, d := range cfg.Directories {
		p := t.canonical(strings.TrimPrefix(d.Path, "/"))
		if err := t.mkdirs(p); err != nil {
			return fmt.Errorf("directories: %w", err)
		}
		if err := a.own(t.entries[p], d.Owner, 0o755); err != nil {
			return fmt.Errorf("directories: %w", err)
		}
	}
	for _, f := range cfg.Files {
		if err := t.writeFile(f, a); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	for _, l := range cfg.Links {
		if err := t.putAsked(&Entry{Path: l.Path, Type: tar.TypeSymlink, Mode: 0o777, Target: l.Target}); err != nil {
			return fmt.Errorf("links: %w", err)
		}
	}
	return nil
}

func (t *Tree) writeFile(f File, a *accounts) error {
	e := &Entry{Path: f.Path, Type: tar.TypeReg, content: inMemory([]byte(f.Content))}
	if f.Copy != "" {
		from, err := t.file(f.Copy)
		if err != nil {
			return fmt.Errorf("copy to %s: %w", f.Path, err)
		}
		e.content, e.elf = from.content, from.elf
	}
	if err := t.putAsked(e); err != nil {
		return err
	}
	return a.own(e, f.Owner, 0o644)
}

// putAsked puts a file or link in the place of one that a script has made.
func (t *Tree) putAsked(e *Entry) error {
	e.asked = true
	p := t.canonical(strings.TrimPrefix(e.Path, "/"))
	if old, ok := t.entries[p]; ok && old.pkg == nil && !old.asked && old.Type != tar.TypeDir {
		delete(t.entries, p)
	}
	return t.put(e)
}

// own returns the absolute paths of what the Config itself asks for.
func (c Config) own() []string {
	var own []string
	for _, d := range c.Directories {
		own = append(own, path.Clean(d.Path))
	}
	for _, f := range c.Files {
		own = append(own, path.Clean(f.Path))
	}
	for _, l := range c.Links {
		own = append(own, path.Clean(l.Path))
	}
	return own
}

// writeAlternatives makes the links of update-alternatives(1) and the files in
// which it remembers the choices, so that it can go on from there. A choice of
// the Config takes the place of the packages' with the same name and path.
func (t *Tree) writeAlternatives(asked, packaged []Alternative) error {
	for _, a := range asked {
		if !t.has(a.Path) {
			return fmt.Errorf("alternatives: %s: %s is not in the image", a.Name, a.Path)
		}
		packaged = slices.DeleteFunc(packaged, func(p Alternative) bool { return p.Name == a.Name && p.Path == a.Path })
	}
	byName := make(map[string][]Alternative)
	var names []string
	for _, a := range slices.Concat(packaged, asked) {
		if byName[a.Name] == nil {
			names = append(names, a.Name)
		}
		byName[a.Name] = append(byName[a.Name], a)
	}
	for _, name := range names {
		if err := t.writeAlternative(byName[name]); err != nil {
			return fmt.Errorf("alternatives: %s: %w", name, err)
		}
	}
	return nil
}

// writeAlternative links the best of the choices for one name.
func (t *Tree) writeAlternative(choices []Alternative) error {
	slices.SortFunc(choices, func(a, b Alternative) int { return strings.Compare(a.Path, b.Path) })
	best := slices.MaxFunc(choices, func(a, b Alternative) int { return cmp.Compare(a.Priority, b.Priority) })
	slaves := slavesOf(choices)
	state := &bytes.Buffer{}
	fmt.Fprintf(state, "auto\n%s\n", best.Link)
	for _, s := range slaves {
		fmt.Fprintf(state, "%s\n%s\n", s.Name, s.Link)
	}
	state.WriteByte('\n')
	for _, c := range choices {
		if c.Link != best.Link {
			return fmt.Errorf("link %s and link %s", c.Link, best.Link)
		}
		fmt.Fprintf(state, "%s\n%d\n", c.Path, c.Priority)
		for _, s := range slaves {
			fmt.Fprintln(state, c.slave(s.Name).Path) // an empty line when this choice has none
		}
	}
	state.WriteByte('\n')
	if err := t.putFile("var/lib/dpkg/alternatives/"+best.Name, 0o644, state.Bytes()); err != nil {
		return err
	}
	if err := t.linkAlternative(best.Name, best.Link, best.Path); err != nil {
		return err
	}
	for _, s := range best.Slaves {
		if !t.has(s.Path) {
			continue // as update-alternatives does: its manual page may have been left out
		}
		if err := t.linkAlternative(s.Name, s.Link, s.Path); err != nil {
			return err
		}
	}
	return nil
}

// linkAlternative makes both links. A package's file in the place of the first
// stays, a link does not: update-alternatives does the same.
func (t *Tree) linkAlternative(name, link, target string) error {
	if err := t.putLink("etc/alternatives/"+name, target); err != nil {
		return err
	}
	p := t.canonical(strings.TrimPrefix(link, "/"))
	if old, ok := t.entries[p]; ok {
		if old.Type != tar.TypeSymlink {
			return nil
		}
		delete(t.entries, p)
	}
	return t.putLink(link, "/etc/alternatives/"+name)
}

// slavesOf returns the slaves of all choices, each once, sorted by name.
func slavesOf(choices []Alternative) []Slave {
	var all []Slave
	for _, c := range choices {
		all = append(all, c.Slaves...)
	}
	slices.SortFunc(all, func(a, b Slave) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b Slave) bool { return a.Name == b.Name })
}

// slave returns the slave of that name, a zero one when there is none.
func (a Alternative) slave(name string) Slave {
	for _, s := range a.Slaves {
		if s.Name == name {
			return s
		}
	}
	return Slave{}
}
