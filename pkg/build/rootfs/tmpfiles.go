package rootfs

import (
	"archive/tar"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// temporary is a line of tmpfiles.d(5).
type temporary struct {
	kind       byte   // the letter
	modifiers  string // what follows it
	path       string
	mode       string
	user, into string // into: its group
	argument   string
}

// createTemporary makes what systemd-tmpfiles(8) makes of the configurations with
// these names, as far as it stays on disk.
func (t *Tree) createTemporary(confs []string, a *accounts) error {
	if !t.has("/usr/bin/systemd-tmpfiles") {
		return nil
	}
	var lines []temporary
	for _, conf := range confs {
		file := "/usr/lib/tmpfiles.d/" + path.Base(conf)
		if !t.has(file) {
			continue
		}
		data, err := t.read(file)
		if err != nil {
			return err
		}
		lines = append(lines, parseTemporary(string(data))...)
	}
	slices.SortStableFunc(lines, func(a, b temporary) int { return strings.Compare(a.path, b.path) })
	for _, l := range lines {
		if err := t.createOne(l, a); err != nil {
			return fmt.Errorf("tmpfiles.d: %s: %w", l.path, err)
		}
	}
	return nil
}

// parseTemporary reads the lines that count on a new system that does not run:
// those for the boot alone do not, nor do those with a part that only the
// running system knows, or that put a credential into a file.
func parseTemporary(conf string) []temporary {
	var lines []temporary
	for text := range strings.Lines(conf) {
		fields := strings.Fields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		fields = append(fields, "-", "-", "-", "-")
		l := temporary{kind: fields[0][0], modifiers: fields[0][1:], path: fields[1], mode: fields[2], user: fields[3], into: fields[4]}
		if len(fields) > 10 {
			l.argument = strings.Join(fields[6:len(fields)-4], " ")
		}
		if strings.ContainsAny(l.modifiers, "!^") || strings.Contains(text, "%") || isVolatile(l.path) {
			continue
		}
		lines = append(lines, l)
	}
	return lines
}

// runtimePaths are what only a running system has.
var runtimePaths = []string{"/proc/", "/sys/", "/dev/", "/run/"}

// isVolatile reports whether a path is empty when a system starts.
func isVolatile(p string) bool {
	for _, dir := range runtimePaths {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	return false
}

// createOne does one line. Kinds that only clean up or only work on a running
// system do nothing.
func (t *Tree) createOne(l temporary, a *accounts) error {
	p, ok := t.literal(l.path)
	if !ok {
		return nil
	}
	old := t.entries[p]
	switch l.kind {
	case 'd', 'D', 'v', 'q', 'Q', 'e':
		if old == nil && l.kind != 'e' {
			if err := t.mkdirs(p); err != nil {
				return err
			}
			return l.own(t.entries[p], a, true)
		}
		if old != nil && old.Type == tar.TypeDir {
			return l.own(old, a, false)
		}
	case 'f':
		if old == nil {
			if err := t.putFile(p, 0o644, []byte(l.argument)); err != nil {
				return err
			}
			return l.own(t.entries[p], a, true)
		}
	case 'L':
		return t.createLink(l, p)
	case 'z':
		if old != nil && old.Type != tar.TypeSymlink {
			return l.own(old, a, false)
		}
	}
	return nil
}

// createLink makes a link, or with a plus sign puts it in the place of what is
// there, but for a directory.
func (t *Tree) createLink(l temporary, p string) error {
	old := t.entries[p]
	missing := strings.Contains(l.modifiers, "?") && !t.has(path.Join("/", path.Dir(p), l.argument))
	if l.argument == "" || missing || old != nil && (old.Type == tar.TypeDir || !strings.Contains(l.modifiers, "+")) {
		return nil
	}
	delete(t.entries, p)
	return t.putLink(p, l.argument)
}

// own applies mode and owner. Of what was there before, only what the line names
// is changed, and nothing that a colon keeps for what is new.
func (l temporary) own(e *Entry, a *accounts, created bool) error {
	mode, onlyNew := strings.CutPrefix(l.mode, ":")
	if m, err := strconv.ParseInt(strings.TrimLeft(mode, "~"), 8, 64); err == nil && (created || !onlyNew) {
		if m < 0 || m > 0o7777 {
			return fmt.Errorf("mode %q", l.mode)
		}
		e.Mode = m
	}
	for _, o := range []struct {
		name string
		ids  map[string]int
		id   *int
	}{{l.user, a.uid, &e.UID}, {l.into, a.gid, &e.GID}} {
		name, onlyNew := strings.CutPrefix(o.name, ":")
		if id, known := o.ids[name]; known && (created || !onlyNew) {
			*o.id = id
		}
	}
	return nil
}
