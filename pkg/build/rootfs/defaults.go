package rootfs

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
)

// writeDefaults does what the scripts of Debian's essential packages do on a
// new system: base-files, base-passwd, libc-bin, and systemd's for /etc/machine-id.
// A file whose master no package has is left out.
func (t *Tree) writeDefaults() error {
	for _, c := range []struct {
		master, path string
		mode         int64
	}{
		{"/usr/share/base-files/dot.profile", "root/.profile", 0o644},
		{"/usr/share/base-files/dot.bashrc", "root/.bashrc", 0o644},
		{"/usr/share/base-files/profile", "etc/profile", 0o644},
		{"/usr/share/base-files/motd", "etc/motd", 0o644},
		{"/usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf", 0o644},
	} {
		if !t.has(c.master) {
			continue
		}
		data, err := t.read(c.master)
		if err != nil {
			return err
		}
		if err := t.putMissing(c.path, c.mode, data); err != nil {
			return err
		}
	}
	for _, empty := range []string{"etc/machine-id", "etc/environment", "etc/subuid", "etc/subgid"} {
		if err := t.putMissing(empty, 0o644, nil); err != nil {
			return err
		}
	}
	if err := t.defaultDirectories(); err != nil {
		return err
	}
	if err := t.loginRecords(); err != nil {
		return err
	}
	return t.defaultLinks()
}

// defaultDirectories are those that base-files makes instead of shipping them,
// so that an administrator may remove them for good.
func (t *Tree) defaultDirectories() error {
	for _, d := range []string{"mnt", "srv", "opt", "etc/opt", "var/opt", "media",
		"usr/local/share/man", "usr/local/share/ca-certificates", "usr/local/bin", "usr/local/games", "usr/local/lib", "usr/local/libexec",
		"usr/local/include", "usr/local/sbin", "usr/local/src", "usr/local/etc"} {
		if err := t.mkdirs(t.canonical(d)); err != nil {
			return err
		}
	}
	const mail = 8 // the group's number is fixed by base-passwd
	for _, d := range []Entry{
		{Path: "var/mail", Mode: 0o2775, GID: mail},
		{Path: "run/lock", Mode: 0o1777},
	} {
		if _, ok := t.entries[d.Path]; ok {
			continue
		}
		d.Type = tar.TypeDir
		if err := t.put(&d); err != nil {
			return err
		}
	}
	return nil
}

// loginRecords are the files in which login(1) and its kind count: base-files
// makes them, and nothing records a login where they are missing.
func (t *Tree) loginRecords() error {
	const utmp = 43 // the group's number is fixed by base-passwd
	for _, f := range []Entry{
		{Path: "var/log/wtmp", Mode: 0o664},
		{Path: "var/log/btmp", Mode: 0o660},
		{Path: "var/log/lastlog", Mode: 0o664},
	} {
		if _, ok := t.entries[f.Path]; ok {
			continue
		}
		f.Type, f.GID = tar.TypeReg, utmp
		if err := t.put(&f); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) defaultLinks() error {
	for _, l := range []Link{
		{"var/spool/mail", "../mail"},
		{"usr/local/man", "share/man"},
		{"etc/mtab", "../proc/self/mounts"},
		{"etc/dpkg/origins/default", "debian"},
	} {
		if _, ok := t.entries[l.Path]; ok || l.Target == "debian" && !t.has("/etc/dpkg/origins/debian") {
			continue
		}
		if err := t.putLink(l.Path, l.Target); err != nil {
			return err
		}
	}
	for _, l := range []Link{{"var/run", "/run"}, {"var/lock", "/run/lock"}} {
		if err := t.migrate(l); err != nil {
			return err
		}
	}
	return nil
}

// migrate replaces an empty directory of base-files by a link, as its script does.
func (t *Tree) migrate(l Link) error {
	if old, ok := t.entries[l.Path]; ok {
		if old.Type == tar.TypeSymlink {
			return nil
		}
		for p := range t.entries {
			if strings.HasPrefix(p, l.Path+"/") {
				return fmt.Errorf("/%s: want only /%s to be there", p, l.Path)
			}
		}
		delete(t.entries, l.Path)
	}
	return t.putLink(l.Path, l.Target)
}

// writeShells makes /etc/shells of the lists that packages bring, as
// update-shells(8) does: each shell under the given name, then under its real one.
func (t *Tree) writeShells() error {
	const template = "usr/share/debianutils/shells"
	if !t.has(template) {
		return nil
	}
	text, err := t.read(template)
	if err != nil {
		return err
	}
	shells, err := t.shells(append([]string{template}, t.glob([]string{"*"}, "/"+template+".d")...))
	if err != nil {
		return err
	}
	etc := string(text)
	for _, s := range shells {
		if !slices.Contains(strings.Split(etc, "\n"), s) {
			etc += s + "\n"
		}
	}
	if err := t.putMissing("etc/shells", 0o644, []byte(etc)); err != nil {
		return err
	}
	return t.putMissing("var/lib/shells.state", 0o644, []byte(strings.Join(shells, "\n")+"\n"))
}

// shells reads lists of shells: one on a line, comments after a number sign.
func (t *Tree) shells(lists []string) ([]string, error) {
	var shells []string
	for _, list := range lists {
		data, err := t.read(list)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "#")
			if line == "" {
				continue
			}
			real := "/" + t.canonical(strings.TrimPrefix(line, "/"))
			for _, s := range []string{line, real} {
				if !slices.Contains(shells, s) {
					shells = append(shells, s)
				}
			}
		}
	}
	return shells, nil
}
