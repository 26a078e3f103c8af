package rootfs

import (
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/build/rootfs/maint"
)

// manager is an instance of systemd: the system's or that of each user.
type manager struct{ name, state string }

var (
	systemManager = manager{"system", "var/lib/systemd/deb-systemd-helper-enabled/"}
	userManager   = manager{"user", "var/lib/systemd/deb-systemd-user-helper-enabled/"}
)

// wanted is a link by which a unit starts with another.
type wanted struct{ link, target string }

// enableUnits does what deb-systemd-helper(1) and systemctl(1) are told to
// enable. A unit that is looked for with "debian-installed" is meant to stay
// disabled until an administrator enables it.
func (t *Tree) enableUnits(commands []maint.Command) error {
	helper, systemctl := t.has("/usr/bin/deb-systemd-helper"), t.has("/usr/bin/systemctl")
	disabled := make(map[string]bool)
	for _, c := range commands {
		flags, words := c.Flags()
		if len(words) < 2 {
			continue
		}
		m := systemManager
		if slices.Contains(flags, "--user") {
			m = userManager
		}
		var err error
		switch verb, unit := words[0], words[1]; {
		case c[0] == "systemctl" && verb == "enable" && systemctl:
			err = t.linkUnit(m, unit)
		case c[0] != "deb-systemd-helper" || !helper:
		case verb == "debian-installed":
			disabled[unit] = true
		case verb == "enable" && !disabled[unit]:
			err = t.enableUnit(m, unit, systemctl)
		case verb == "update-state":
			err = t.noteUnit(m, unit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enableUnit links a unit, unless the distribution's presets are against it, and
// notes that it has done so.
func (t *Tree) enableUnit(m manager, unit string, systemctl bool) error {
	preset, err := t.preset(m, unit)
	if err != nil {
		return err
	}
	if preset || !systemctl {
		if err := t.linkUnit(m, unit); err != nil {
			return err
		}
	}
	links, err := t.unitLinks(m, unit, nil)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := t.putMissing(m.state+strings.TrimPrefix(l.link, m.config()), 0o644, nil); err != nil {
			return err
		}
	}
	return t.noteUnit(m, unit)
}

// config is the directory of the administrator's links.
func (m manager) config() string { return "etc/systemd/" + m.name + "/" }

// linkUnit makes the links that its section Install asks for.
func (t *Tree) linkUnit(m manager, unit string) error {
	links, err := t.unitLinks(m, unit, nil)
	if err != nil {
		return err
	}
	for _, l := range links {
		if t.entries[l.link] != nil {
			continue
		}
		if err := t.putLink(l.link, l.target); err != nil {
			return err
		}
	}
	return nil
}

// noteUnit writes down which links a unit has or could have, by which
// deb-systemd-helper tells later what an administrator has changed.
func (t *Tree) noteUnit(m manager, unit string) error {
	state := m.state + path.Base(unit) + ".dsh-also"
	if file, _ := t.unitFile(m, unit); file == "" || t.entries[state] != nil {
		return nil
	}
	links, err := t.unitLinks(m, unit, nil)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, l := range links {
		text.WriteString("/" + l.link + "\n")
	}
	return t.putFile(state, 0o644, []byte(text.String()))
}

// unitFile returns the path of a unit and the one that links name: when there is
// no systemctl, deb-systemd-helper finds the unit under its older path.
func (t *Tree) unitFile(m manager, unit string) (file, target string) {
	template := unit
	if name, instance, ok := strings.Cut(unit, "@"); ok {
		template = name + "@" + instance[max(strings.LastIndexByte(instance, '.'), 0):]
	}
	for _, name := range []string{unit, template} {
		file := "/usr/lib/systemd/" + m.name + "/" + path.Base(name)
		if _, err := t.file(file); err != nil {
			continue
		}
		if !t.has("/usr/bin/systemctl") && t.aliases["lib"] != "" {
			return file, strings.TrimPrefix(file, "/usr")
		}
		return file, file
	}
	return "", ""
}

// unitLinks returns the links of a unit and of those that are to be enabled with
// it, in the order in which deb-systemd-helper notes them: what it is wanted by
// comes last. seen are the units on the way here.
func (t *Tree) unitLinks(m manager, unit string, seen []string) ([]wanted, error) {
	file, target := t.unitFile(m, unit)
	if file == "" {
		return nil, nil
	}
	data, err := t.read(file)
	if err != nil {
		return nil, err
	}
	seen = append(seen, unit)
	name := path.Base(unit)
	var links []wanted
	var dirs []string
	for _, s := range installSection(string(data)) {
		switch s.key {
		case "Also":
			if slices.Contains(seen, s.word) {
				continue
			}
			more, err := t.unitLinks(m, s.word, seen)
			if err != nil {
				return nil, err
			}
			links = append(links, more...)
		case "Alias":
			links = append(links, wanted{m.config() + path.Base(s.word), target})
		case "WantedBy":
			dirs = append(dirs, path.Base(s.word)+".wants/")
		case "RequiredBy":
			dirs = append(dirs, path.Base(s.word)+".requires/")
		case "DefaultInstance":
			name = strings.Replace(path.Base(unit), "@.", "@"+s.word+".", 1)
		}
	}
	for _, dir := range dirs {
		links = append(links, wanted{m.config() + dir + name, target})
	}
	return links, nil
}

// setting is a word of a setting of a unit.
type setting struct{ key, word string }

// installSection returns the settings in the section Install. Words with a part
// that only systemd can fill in are left out, and those that cannot be a unit's name.
func installSection(unit string) []setting {
	var found []setting
	inside := false
	for line := range strings.Lines(unit) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[Install]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !inside || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		for _, word := range strings.Fields(value) {
			if word = strings.Trim(word, `"'`); word != "" && !strings.ContainsAny(word, "%/") {
				found = append(found, setting{strings.TrimSpace(key), word})
			}
		}
	}
	return found
}

// preset reports whether the distribution wants a unit enabled (systemd.preset(5)): the
// first line that matches decides, and no line means yes.
func (t *Tree) preset(m manager, unit string) (bool, error) {
	files := t.glob([]string{"/etc/systemd/" + m.name + "-preset/*.preset", "/usr/lib/systemd/" + m.name + "-preset/*.preset"}, "/")
	slices.SortStableFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	for _, file := range files {
		data, err := t.read(file)
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || fields[0] != "enable" && fields[0] != "disable" {
				continue
			}
			if ok, err := path.Match(fields[1], path.Base(unit)); err == nil && ok {
				return fields[0] == "enable", nil
			}
		}
	}
	return true, nil
}
