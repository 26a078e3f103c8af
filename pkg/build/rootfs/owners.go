package rootfs

import (
	"archive/tar"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// changeOwner does what a script says with chmod(1), chown(1), chgrp(1) or
// dpkg-statoverride(1). A mode that is no number and an option are not in plain
// sight; what is not there belongs to another branch of the script.
func (t *Tree) changeOwner(command string, flags, words []string, a *accounts) {
	if command == "dpkg-statoverride" {
		t.overrideStat(flags, words, a)
		return
	}
	if len(flags) > 0 || len(words) < 2 {
		return
	}
	for _, p := range words[1:] {
		e := t.ownable(p)
		switch {
		case e == nil:
		case command == "chmod":
			e.chmod(words[0])
		case command == "chgrp":
			e.chown(a, ":"+words[0])
		default:
			e.chown(a, words[0])
		}
	}
}

// overrideStat does "dpkg-statoverride --update --add user group mode path", by
// which a path keeps owner and mode when its package is unpacked again.
func (t *Tree) overrideStat(flags, words []string, a *accounts) {
	if !slices.Contains(flags, "--add") || len(words) != 4 {
		return
	}
	e := t.ownable(words[3])
	mode, err := strconv.ParseInt(words[2], 8, 64)
	_, user := a.uid[words[0]]
	_, group := a.gid[words[1]]
	if e == nil || err != nil || mode&^0o7777 != 0 || !user || !group {
		return
	}
	t.overrides = append(t.overrides, fmt.Sprintf("%s %s %o %s\n", words[0], words[1], mode, words[3]))
	e.chown(a, words[0]+":"+words[1])
	e.chmod(words[2])
}

// ownable returns the file or directory at a path of a script, nil when there is
// none. A link has no mode, and leads to what another package owns.
func (t *Tree) ownable(p string) *Entry {
	p, ok := t.literal(path.Clean(p))
	e := t.entries[p]
	if !ok || e == nil || e.Type == tar.TypeSymlink {
		return nil
	}
	return e
}

// chmod sets a mode in octal digits. Any other stays unknown.
func (e *Entry) chmod(mode string) {
	if m, err := strconv.ParseInt(mode, 8, 64); err == nil && m&^0o7777 == 0 {
		e.Mode = m
	}
}

// chown sets "user", "user:group", ":group" or "user:", which means the user's own
// group. As Linux does, it takes setuid and setgid from a file.
func (e *Entry) chown(a *accounts, owner string) {
	user, group, both := strings.Cut(owner, ":")
	uid, known := a.uid[user]
	if !known && user != "" {
		return
	}
	gid, ok := a.gid[group]
	if group == "" && user != "" && both {
		gid, ok = a.primary[user], true
	}
	if !ok && group != "" {
		return
	}
	if user != "" {
		e.UID = uid
	}
	if ok {
		e.GID = gid
	}
	if e.Type == tar.TypeReg {
		e.Mode &^= 0o6000
	}
}
