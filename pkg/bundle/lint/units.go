package lint

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/unit"
)

// sections are those that a kind of unit has beside [Unit] and [Install].
var sections = map[string][]string{
	".service": {"Service"}, ".timer": {"Timer"}, ".path": {"Path"}, ".socket": {"Socket"}, ".mount": {"Mount"},
	".automount": {"Automount"}, ".slice": {"Slice"}, ".swap": {"Swap"}, ".target": nil,
	// Quadlet writes the [Service] that the unit gets.
	".container": {"Container", "Service", "Quadlet"}, ".pod": {"Pod", "Service", "Quadlet"}, ".kube": {"Kube", "Service", "Quadlet"},
	".volume": {"Volume", "Service", "Quadlet"}, ".network": {"Network", "Service", "Quadlet"}, ".image": {"Image", "Service", "Quadlet"},
}

// unitKind returns the suffix of the unit that a file is, or is a drop-in for;
// nothing when it is no unit.
func unitKind(name string) string {
	if dir := path.Base(path.Dir(name)); path.Ext(name) == ".conf" && strings.HasSuffix(dir, ".d") {
		name = strings.TrimSuffix(dir, ".d")
	}
	if _, ok := sections[path.Ext(name)]; !ok {
		return ""
	}
	return path.Ext(name)
}

// unit checks a unit file and notes the containers that it starts.
func (l *linter) unit() {
	f, err := unit.Parse(l.body)
	var bad *unit.Error
	if errors.As(err, &bad) {
		l.fail(bad.Line, bad.Msg, "systemd would ignore this line, or the whole file")
		return
	}
	kind := unitKind(l.file)
	for _, s := range f.Sections {
		known := append([]string{"Unit", "Install"}, sections[kind]...)
		if !slices.Contains(known, s.Name) && !strings.HasPrefix(s.Name, "X-") {
			l.fail(s.Line, fmt.Sprintf("[%s]: a %s has no such section", s.Name, kind[1:]), "known are "+strings.Join(known, ", "))
		}
		for _, set := range s.Settings {
			l.place(s.Name, set)
		}
	}
	l.twice(f)
	l.commands(f)
	l.environment(f)
	if kind == ".container" {
		l.quadlet(f)
	}
}

// homes are settings that systemd ignores anywhere but in their section. A name
// that ends in a star stands for all that start so.
var homes = []struct {
	section string
	keys    []string
}{
	{"Unit", []string{"StartLimit*", "After", "Before", "Wants", "Requires", "BindsTo", "Description", "Documentation", "Condition*", "OnFailure"}},
	{"Install", []string{"WantedBy", "RequiredBy", "Alias", "Also"}},
	{"Service", []string{"ExecStart*", "ExecStop*", "ExecReload", "Restart", "RestartSec", "Type", "RemainAfterExit"}},
}

// place reports a setting in another section than its own.
func (l *linter) place(section string, set unit.Setting) {
	for _, home := range homes {
		if home.section == section || strings.HasPrefix(section, "X-") || home.section == "Service" && slices.Contains([]string{"Socket", "Mount", "Swap"}, section) {
			continue // the last three have commands of their own
		}
		if slices.ContainsFunc(home.keys, func(k string) bool { return matches(set.Key, k) }) {
			l.fail(set.Line, fmt.Sprintf("%s= is in [%s], where it does not count", set.Key, section), "move it to ["+home.section+"]")
		}
	}
}

func matches(key, form string) bool {
	if prefix, ok := strings.CutSuffix(form, "*"); ok {
		return strings.HasPrefix(key, prefix)
	}
	return key == form
}

// once are the settings of which only the last counts.
var once = []string{
	"Description", "Type", "Restart", "RestartSec", "TimeoutSec", "TimeoutStartSec", "TimeoutStopSec", "RemainAfterExit", "Delegate", "User",
	"Group", "WorkingDirectory", "KillMode", "KillSignal", "PIDFile", "StartLimitBurst", "StartLimitIntervalSec", "Image", "ContainerName", "Exec",
}

// twice reports settings that are given again where one counts. An empty
// assignment takes back what was before it.
func (l *linter) twice(f *unit.File) {
	oneshot := false
	for _, set := range f.All("Service", "Type") {
		oneshot = set.Value == "oneshot"
	}
	seen := make(map[string]int) // "Section.Key" → line
	for _, s := range f.Sections {
		for _, set := range s.Settings {
			key := s.Name + "." + set.Key
			single := slices.Contains(once, set.Key) || set.Key == "ExecStart" && !oneshot
			if before := seen[key]; before > 0 && single && set.Value != "" {
				l.fail(set.Line, fmt.Sprintf("%s= is given in line %d already, and one counts", set.Key, before), "give it once")
			}
			seen[key] = set.Line
			if set.Value == "" {
				seen[key] = 0
			}
		}
	}
}

// commands checks the command lines of a unit.
func (l *linter) commands(f *unit.File) {
	for _, s := range f.Sections {
		for _, set := range s.Settings {
			switch {
			case s.Name == "Service" && strings.HasPrefix(set.Key, "Exec"):
				l.command(set)
			case set.Key == "Environment":
				if _, err := unit.Split(set.Value); err != nil {
					l.fail(set.Line, fmt.Sprintf("Environment=: %v", err), "")
				}
			}
		}
	}
}

func (l *linter) command(set unit.Setting) {
	commands, err := set.Commands()
	if err != nil {
		l.fail(set.Line, err.Error(), "systemd would ignore this line")
		return
	}
	for _, c := range commands {
		switch program := c.Words[0]; {
		case strings.HasPrefix(program, "$"):
			l.fail(c.Line, fmt.Sprintf("%s=: %s: a variable cannot be the program", set.Key, program), "write its absolute path")
			continue
		case !strings.HasPrefix(program, "/") && !strings.HasPrefix(program, "%"):
			l.fail(c.Line, fmt.Sprintf("%s=: %q is not absolute", set.Key, program), "write the absolute path: which program it is must not depend on the machine")
		}
		if run, ok := parseRun(c.Words); ok {
			l.add(c.Line, run)
		} else {
			l.containers = append(l.containers, l.direct(c))
		}
	}
}

// direct is a program that a unit starts without a container. It mounts nothing.
func (l *linter) direct(c unit.Command) container {
	d := container{file: l.file, line: c.Line, program: path.Base(c.Words[0]), privileged: true}
	for _, w := range c.Words[1:] {
		text, _ := unit.Literal(w, true)
		d.args = append(d.args, text)
		d.lines = append(d.lines, lineOf(l.body, c.Line, w))
	}
	return d
}

// add notes the container of a run command.
func (l *linter) add(line int, c container) {
	c.file, c.line = l.file, line
	if c.image == "" {
		l.fail(line, "the command names no image", "")
		return
	}
	for _, a := range c.args {
		c.lines = append(c.lines, lineOf(l.body, line, a))
	}
	l.containers = append(l.containers, c.resolved())
}

// quadletOptions are the keys of a [Container] that stand for an option of podman run.
var quadletOptions = map[string]string{
	"AddCapability": "--cap-add", "AddDevice": "--device", "ContainerName": "--name", "Entrypoint": "--entrypoint", "Mount": "--mount",
	"Network": "--network", "User": "--user", "UserNS": "--userns", "Volume": "--volume",
}

// quadlet notes the container that Quadlet would start.
func (l *linter) quadlet(f *unit.File) {
	c := container{name: strings.TrimSuffix(path.Base(l.file), ".container")}
	line := 1
	for _, s := range f.Sections {
		for _, set := range s.Settings {
			if s.Name != "Container" {
				continue
			}
			if set.Key == "Image" {
				line = set.Line
			}
			if err := c.quadletKey(set.Key, set.Value); err != nil {
				l.fail(set.Line, fmt.Sprintf("%s=: %v", set.Key, err), "")
			}
		}
	}
	l.add(line, c)
}

func (c *container) quadletKey(key, value string) error {
	if option, ok := quadletOptions[key]; ok {
		c.option([]string{option + "=" + value})
		return nil
	}
	switch key {
	case "Image":
		c.image = value
	case "SecurityLabelDisable":
		c.privileged = c.privileged || value == "true"
	case "Exec", "PodmanArgs":
		words, err := unit.Split(value)
		if err != nil {
			return err
		}
		if key == "Exec" {
			c.args = words
			return nil
		}
		for i := 0; i < len(words); i++ {
			i += c.option(words[i:])
		}
	}
	return nil
}
