package rootfs

import (
	"archive/tar"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/imgctl/imgctl/pkg/build/rootfs/maint"
)

// ownedByTheRuntime are files that whoever starts a container puts over the
// image's. A package that makes one finds it made when the scripts are run in a container.
var ownedByTheRuntime = []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"}

// scripts are the preinst and the postinst of one package, as far as they can be read.
type scripts struct {
	pkg *unpacked
	maint.Script
}

// readScripts reads the scripts that run when a package is installed.
func readScripts(pkgs []*unpacked) ([]scripts, error) {
	all := make([]scripts, len(pkgs))
	for i, p := range pkgs {
		all[i].pkg = p
		for _, name := range []string{"preinst", "postinst"} {
			c, ok := p.info[name]
			if !ok {
				continue
			}
			data, err := c.bytes(maxControl)
			if err != nil {
				return nil, fmt.Errorf("package %s: %s: %w", p.Name, name, err)
			}
			s := maint.Parse(string(data))
			all[i].Commands = append(all[i].Commands, s.Commands...)
			all[i].Documents = append(all[i].Documents, s.Documents...)
		}
	}
	return all, nil
}

// runScripts does what the scripts say in plain sight: files they write or have
// ucf(1) copy, owners and modes, systemd's units and temporary files. Accounts
// must be there.
func (t *Tree) runScripts(all []scripts, a *accounts) error {
	for _, s := range all {
		if err := t.runScript(s, a); err != nil {
			return fmt.Errorf("package %s: scripts: %w", s.pkg.Name, err)
		}
	}
	return nil
}

func (t *Tree) runScript(s scripts, a *accounts) error {
	for _, d := range s.Documents {
		if err := t.writeDocument(d, s.Commands); err != nil {
			return err
		}
	}
	for _, c := range s.Commands {
		flags, words := c.Flags()
		var err error
		switch c[0] {
		case "ucf":
			err = t.copyWithUCF(words)
		case "systemd-sysusers":
			err = t.checkSysusers(words, a)
		case "adduser", "addgroup":
			err = a.checkAdded(words)
		case "chmod", "chown", "chgrp", "dpkg-statoverride":
			t.changeOwner(c[0], flags, words, a)
		case "systemd-tmpfiles":
			if slices.Contains(flags, "--create") {
				err = t.createTemporary(words, a)
			}
		}
		if err != nil {
			return err
		}
	}
	return t.enableUnits(s.Commands)
}

// writeDocument writes a file that is not there yet into a directory that is, or
// that the script makes: its other branches, such as those for an upgrade, have neither.
func (t *Tree) writeDocument(d maint.Document, commands []maint.Command) error {
	p, ok := t.literal(d.Path)
	if !ok || t.entries[p] != nil || slices.Contains(ownedByTheRuntime, p) {
		return nil
	}
	dir := path.Dir(p)
	made := slices.ContainsFunc(commands, func(c maint.Command) bool { return c[0] == "mkdir" && slices.Contains(c, "/"+dir) })
	if e := t.entries[dir]; e == nil && !made || e != nil && e.Type != tar.TypeDir {
		return nil
	}
	return t.putFile(p, 0o644, []byte(d.Text))
}

// literal returns where an absolute path of a script is, and whether it is one
// that can be used: clean, with no variable part.
func (t *Tree) literal(p string) (string, bool) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return "", false
	}
	return t.canonical(p[1:]), true
}

// copyWithUCF copies a configuration file as ucf(1) does on a new system. The
// last two words are from where and to where.
func (t *Tree) copyWithUCF(words []string) error {
	if len(words) < 2 {
		return nil
	}
	from, err := t.file(words[len(words)-2])
	to, ok := t.literal(words[len(words)-1])
	if err != nil || !ok || t.entries[to] != nil {
		return nil // not there, or made by another
	}
	return t.put(&Entry{Path: to, Type: tar.TypeReg, Mode: from.Mode, UID: from.UID, GID: from.GID, content: from.content, elf: from.elf})
}

// checkSysusers makes sure that there is every account that sysusers.d(5) files want.
func (t *Tree) checkSysusers(confs []string, a *accounts) error {
	for _, conf := range confs {
		file := "/usr/lib/sysusers.d/" + path.Base(conf)
		if !t.has(file) {
			continue
		}
		data, err := t.read(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || !slices.Contains([]string{"u", "u!", "g"}, fields[0]) {
				continue
			}
			if err := a.checkKnown(fields[1], fields[0] == "g"); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

// checkAdded makes sure that there is the account that adduser(8) would make.
func (a *accounts) checkAdded(words []string) error {
	if len(words) == 0 || strings.Contains(words[len(words)-1], "/") {
		return nil // the account is not in plain sight
	}
	name := words[len(words)-1]
	if _, isGroup := a.gid[name]; isGroup {
		return nil
	}
	return a.checkKnown(name, false)
}

// checkKnown refuses a name without a number: which one a script would take
// depends on what it finds taken, and an image's numbers must stay.
func (a *accounts) checkKnown(name string, group bool) error {
	ids, list := a.uid, "users"
	if group {
		ids, list = a.gid, "groups"
	}
	if _, ok := ids[name]; !ok {
		return fmt.Errorf("wants an account %q that is not in %s: give it a number there", name, list)
	}
	return nil
}

// scriptedAlternatives are those that update-alternatives(1) is told of in plain
// sight and whose file is there.
func (t *Tree) scriptedAlternatives(all []scripts) []Alternative {
	var found []Alternative
	for _, s := range all {
		for _, c := range s.Commands {
			if a, ok := parseAlternative(c); ok && t.has(a.Path) {
				found = append(found, a)
			}
		}
	}
	return found
}

// parseAlternative understands "update-alternatives --install link name path
// priority [--slave link name path]…".
func parseAlternative(c maint.Command) (Alternative, bool) {
	i := slices.Index(c, "--install")
	if c[0] != "update-alternatives" || i < 0 || len(c) < i+5 {
		return Alternative{}, false
	}
	priority, err := strconv.Atoi(c[i+4])
	if err != nil {
		return Alternative{}, false
	}
	a := Alternative{Link: c[i+1], Name: c[i+2], Path: c[i+3], Priority: priority}
	for rest := c[i+5:]; len(rest) >= 4 && rest[0] == "--slave"; rest = rest[4:] {
		a.Slaves = append(a.Slaves, Slave{Link: rest[1], Name: rest[2], Path: rest[3]})
	}
	return a, true
}
