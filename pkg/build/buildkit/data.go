package buildkit

import (
	"cmp"
	"embed"
	"fmt"
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

// newLists writes down the plan and what the spec asks for beside packages.
func newLists(cfg rootfs.Config, p *plan) (lists, error) {
	l := make(lists)
	for _, name := range []string{"essential", "passwd", "group", "exclude", "keep", "directories", "files", "links", "alternatives"} {
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

// addFilter writes the globs twice: for dpkg, which leaves files out while it
// unpacks, and for what it does not see.
func (l lists) addFilter(cfg rootfs.Config) error {
	// The image is made in one go, or not at all: no file has to be on disk before the end.
	l["dpkg.cfg"] = "force-unsafe-io\n"
	for _, f := range []struct {
		list, option string
		globs        []string
	}{
		{"exclude", "path-exclude", cfg.Exclude},
		{"keep", "path-include", cfg.Keep},
	} {
		for _, glob := range f.globs {
			if err := rootfs.CheckGlob(glob); err != nil {
				return err
			}
			if err := l.record(f.list, glob); err != nil {
				return err
			}
			l["dpkg.cfg"] += f.option + "=" + glob + "\n"
		}
	}
	return nil
}

// addAccounts writes lines of passwd(5) and group(5). Nobody can log in as one of
// them. The package passwd moves the passwords to shadow(5).
func (l lists) addAccounts(cfg rootfs.Config) error {
	for _, g := range cfg.Groups {
		if err := l.record("group", strings.Join([]string{g.Name, "!", strconv.Itoa(g.GID), strings.Join(g.Members, ",")}, ":")); err != nil {
			return err
		}
	}
	for _, u := range cfg.Users {
		fields := []string{u.Name, "!", strconv.Itoa(u.UID), strconv.Itoa(u.GID), u.Comment, cmp.Or(u.Home, "/nonexistent"), cmp.Or(u.Shell, "/usr/sbin/nologin")}
		if err := l.record("passwd", strings.Join(fields, ":")); err != nil {
			return err
		}
	}
	return nil
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
