package buildkit

import (
	"cmp"
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// scripts run on the worker. They are the same for every image: what the spec
// says reaches them as [lists], never as text of the shell.
//
//go:embed scripts/*.sh
var scripts embed.FS

// lists are small files, by name, that the scripts read.
type lists map[string]string

// record adds values, one on each line, to the list. A value cannot be of two lines.
func (l lists) record(list string, values ...string) error {
	for _, v := range values {
		if strings.ContainsAny(v, "\n\x00") {
			return fmt.Errorf("%s: got %q, want no line break and no NUL", list, v)
		}
	}
	l[list] += strings.Join(values, "\n") + "\n"
	return nil
}

// pick returns the lists of those names, and all below a name that ends in a slash.
func (l lists) pick(names ...string) lists {
	picked := make(lists)
	for list, text := range l {
		if slices.ContainsFunc(names, func(name string) bool {
			return list == name || strings.HasSuffix(name, "/") && strings.HasPrefix(list, name)
		}) {
			picked[list] = text
		}
	}
	return picked
}

// with adds a list.
func (l lists) with(list, text string) lists {
	l[list] = text
	return l
}

// newLists writes down the plan and what the spec asks for beside packages.
func newLists(cfg rootfs.Config, p *plan) (lists, error) {
	l := make(lists)
	for _, name := range []string{"essential", "dpkg.cfg", "passwd", "group", "directories", "files", "links", "alternatives"} {
		l[name] = ""
	}
	for _, add := range []func() error{
		func() error { return l.addPlan(p) },
		func() error { return l.addFilter(cfg) },
		func() error { return l.addAccounts(cfg) },
		func() error { return l.addPaths(cfg) },
		func() error { return l.addAlternatives(cfg.Alternatives) },
	} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l lists) addPlan(p *plan) error {
	for _, d := range p.essential {
		if err := l.record("essential", d.upload()); err != nil {
			return err
		}
	}
	for i, batch := range p.batches {
		for _, d := range batch {
			if err := l.record(batchList(i), d.upload()); err != nil {
				return err
			}
		}
	}
	return nil
}

// batchList is the list of the packages of a batch.
func batchList(i int) string { return "batch" + strconv.Itoa(i) }

// documentation is where no script may need a file (Debian Policy 12.3).
// Elsewhere one may: that of python3.13 compiles the tests of Python.
var documentation = []string{"/usr/share/doc/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/man/"}

// addFilter writes down what is left out: documentation before any script runs,
// everything else when all have run.
func (l lists) addFilter(cfg rootfs.Config) error {
	// The image is made whole or not at all: no file has to be on disk before the end.
	l["options"] = "--force-unsafe-io\n"
	early := rootfs.Config{Keep: cfg.Keep}
	for _, glob := range slices.Concat(cfg.Exclude, cfg.Keep) {
		if err := rootfs.CheckGlob(glob); err != nil {
			return err
		}
	}
	for _, glob := range cfg.Exclude {
		if slices.ContainsFunc(documentation, func(dir string) bool { return strings.HasPrefix(glob, dir) }) {
			early.Exclude = append(early.Exclude, glob)
		}
	}
	if len(cfg.Exclude) > 0 {
		if err := cmp.Or(l.globs("dpkg.cfg", "path-exclude ", cfg.Exclude), l.globs("dpkg.cfg", "path-include ", cfg.Keep)); err != nil {
			return err
		}
	}
	return cmp.Or(
		l.globs("options", "--path-exclude=", early.Exclude),
		l.globs("options", "--path-include=", early.Keep),
		l.record("unpacked", early.Sweep()...),
		l.record("sweep", cfg.Sweep()...))
}

// globs adds globs to the list, each on a line after a word.
func (l lists) globs(list, word string, globs []string) error {
	for _, glob := range globs {
		if err := l.record(list, word+glob); err != nil {
			return err
		}
	}
	return nil
}

// addAccounts writes lines of passwd(5) and group(5). Nobody can log in as one of
// them. The package passwd moves the passwords to shadow(5).
func (l lists) addAccounts(cfg rootfs.Config) error {
	for _, g := range cfg.Groups {
		if err := l.addGroup(g, "!"); err != nil {
			return err
		}
	}
	for _, u := range cfg.Users {
		if err := l.addUser(u, "!"); err != nil {
			return err
		}
	}
	return nil
}

func (l lists) addGroup(g rootfs.Group, password string) error {
	return l.fields("group", g.Name, password, strconv.Itoa(g.GID), strings.Join(g.Members, ","))
}

func (l lists) addUser(u rootfs.User, password string) error {
	return l.fields("passwd", u.Name, password, strconv.Itoa(u.UID), strconv.Itoa(u.GID), u.Comment,
		cmp.Or(u.Home, "/nonexistent"), cmp.Or(u.Shell, "/usr/sbin/nologin"))
}

// fields adds a line of a file in the manner of passwd(5).
func (l lists) fields(list string, values ...string) error {
	for _, v := range values {
		if strings.Contains(v, ":") {
			return fmt.Errorf("%s: got %q, want no colon", list, v)
		}
	}
	return l.record(list, strings.Join(values, ":"))
}

func (l lists) addPaths(cfg rootfs.Config) error {
	for _, d := range cfg.Directories {
		if err := l.record("directories", d.Path, cmp.Or(d.Mode, "0755"), cmp.Or(d.User, "root"), cmp.Or(d.Group, "root")); err != nil {
			return err
		}
	}
	for i, f := range cfg.Files {
		from := f.Copy
		if from == "" {
			from = "content/" + strconv.Itoa(i)
			l[from] = f.Content
		}
		if err := l.record("files", f.Path, from, cmp.Or(f.Mode, "0644"), cmp.Or(f.User, "root"), cmp.Or(f.Group, "root")); err != nil {
			return err
		}
	}
	for _, link := range cfg.Links {
		if err := l.record("links", link.Path, link.Target); err != nil {
			return err
		}
	}
	return nil
}

func (l lists) addAlternatives(all []rootfs.Alternative) error {
	for _, a := range all {
		if err := l.record("alternatives", a.Name, a.Link, a.Path, strconv.Itoa(a.Priority), strconv.Itoa(len(a.Slaves))); err != nil {
			return err
		}
		for _, s := range a.Slaves {
			if err := l.record("alternatives", s.Name, s.Link, s.Path); err != nil {
				return err
			}
		}
	}
	return nil
}
