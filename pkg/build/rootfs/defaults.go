package rootfs

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
)

// writeDefaults does what the scripts of Debian's essential packages do on a
// new system: base-files, base-passwd, libc-bin and some that most systems have.
// A file whose master no package has is left out.
func (t *Tree) writeDefaults() error {
	for _, c := range []struct{ master, path string }{
		{"/usr/share/base-files/dot.profile", "root/.profile"},
		{"/usr/share/base-files/dot.bashrc", "root/.bashrc"},
		{"/usr/share/base-files/profile", "etc/profile"},
		{"/usr/share/base-files/motd", "etc/motd"},
		{"/usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"},
		{"/usr/share/readline/inputrc", "etc/inputrc"},
	} {
		if !t.has(c.master) {
			continue
		}
		data, err := t.read(c.master)
		if err != nil {
			return err
		}
		if err := t.putMissing(c.path, 0o644, data); err != nil {
			return err
		}
	}
	for _, empty := range []struct {
		pkg, path string
		mode      int64
	}{
		{"base-passwd", "etc/subuid", 0o644},
		{"base-passwd", "etc/subgid", 0o644},
		{"libpam-modules", "etc/environment", 0o644},
		{"libpam-modules", "etc/security/opasswd", 0o600},
	} {
		if !t.packages[empty.pkg] {
			continue
		}
		if err := t.putMissing(empty.path, empty.mode, nil); err != nil {
			return err
		}
	}
	if t.packages["base-files"] {
		if err := t.defaultDirectories(); err != nil {
			return err
		}
	}
	return t.defaultLinks()
}

// defaultDirectories are those that base-files makes instead of shipping them,
// so that an administrator may remove them for good.
func (t *Tree) defaultDirectories() error {
	for _, d := range []string{"mnt", "srv", "opt", "etc/opt", "var/opt", "media",
		"usr/local/share/man", "usr/local/bin", "usr/local/games", "usr/local/lib", "usr/local/libexec",
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

// defaultLinks are those that base-files and tzdata make. Without an answer to
// tzdata's question the time zone is UTC.
func (t *Tree) defaultLinks() error {
	for _, l := range []struct{ pkg, path, target string }{
		{"base-files", "var/spool/mail", "../mail"},
		{"base-files", "usr/local/man", "share/man"},
		{"base-files", "etc/dpkg/origins/default", "debian"},
		{"tzdata", "etc/localtime", "/usr/share/zoneinfo/Etc/UTC"},
	} {
		if _, there := t.entries[l.path]; there || !t.packages[l.pkg] || l.target == "debian" && !t.has("/etc/dpkg/origins/debian") {
			continue
		}
		if err := t.putLink(l.path, l.target); err != nil {
			return err
		}
	}
	if !t.packages["base-files"] {
		return nil
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
