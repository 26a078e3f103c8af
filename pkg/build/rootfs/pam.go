package rootfs

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pamKinds are the files /etc/pam.d/common-*, and the word that starts their lines.
var pamKinds = []struct{ name, word string }{
	{"auth", "auth"}, {"account", "account"}, {"password", "password"}, {"session", "session"}, {"session-noninteractive", "session"},
}

// pamProfile is a file of /usr/share/pam-configs: fields, some with several lines.
type pamProfile struct {
	name   string
	fields map[string]string
}

// writePAM does what pam-auth-update(8) does on a new system: it puts the
// profiles that are enabled by default into the files that services include.
func (t *Tree) writePAM() error {
	if !t.has("/usr/sbin/pam-auth-update") {
		return nil
	}
	all, err := t.pamProfiles()
	if err != nil {
		return err
	}
	enabled := enabledPAM(all)
	for _, kind := range pamKinds {
		template, err := t.read("/usr/share/pam/common-" + kind.name)
		if err != nil {
			return err
		}
		blocks := pamBlocks(enabled, kind.name)
		if err := t.putMissing("etc/pam.d/common-"+kind.name, 0o644, []byte(fillPAM(string(template), kind.word, blocks))); err != nil {
			return err
		}
		if err := t.putFile("var/lib/pam/"+kind.name, 0o644, []byte(savedPAM(blocks))); err != nil {
			return err
		}
	}
	var seen strings.Builder
	for _, p := range all {
		seen.WriteString(p.name + "\n")
	}
	return t.putFile("var/lib/pam/seen", 0o644, []byte(seen.String()))
}

// pamProfiles reads the profiles, the most important first.
func (t *Tree) pamProfiles() ([]pamProfile, error) {
	var all []pamProfile
	for _, file := range t.glob([]string{"*"}, "/usr/share/pam-configs") {
		data, err := t.read(file)
		if err != nil {
			return nil, err
		}
		fields, err := parsePAM(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, pamProfile{path.Base(file), fields})
	}
	slices.SortFunc(all, func(a, b pamProfile) int {
		return cmp.Or(cmp.Compare(b.priority(), a.priority()), strings.Compare(b.name, a.name))
	})
	return all, nil
}

// enabledPAM returns the profiles that are enabled by default and that none before them is against.
func enabledPAM(all []pamProfile) []pamProfile {
	var enabled []pamProfile
	against := make(map[string]bool)
	for _, p := range all {
		if p.fields["Default"] != "yes" || against[p.name] {
			continue
		}
		enabled = append(enabled, p)
		for _, name := range strings.Split(p.fields["Conflicts"], ", ") {
			against[name] = true
		}
	}
	return enabled
}

func (p pamProfile) priority() int {
	n, err := strconv.Atoi(p.fields["Priority"])
	if err != nil {
		return 0
	}
	return n
}

// pamField is the first line of a field: a name, a colon, white space.
var pamField = regexp.MustCompile(`^(\S+):\s+(.*)`)

// parsePAM reads a profile. One for sessions holds for those without a terminal
// as well, unless it says otherwise.
func parsePAM(text string) (map[string]string, error) {
	fields := make(map[string]string)
	var name string
	for line := range strings.Lines(text) {
		if m := pamField.FindStringSubmatch(line); m != nil {
			name = strings.TrimSuffix(m[1], "-Final")
			fields[name] = strings.TrimSpace(m[2])
			continue
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if name == "" {
			return nil, fmt.Errorf("got %.40q, want a field", line)
		}
		fields[name] = strings.TrimLeft(fields[name]+"\n"+line, "\n")
	}
	if fields["Session-Interactive-Only"] != "yes" {
		for _, suffix := range []string{"-Type", "", "-Initial"} {
			fields["Session-noninteractive"+suffix] = fields["Session"+suffix]
		}
	}
	return fields, nil
}

// pamModule is what one profile puts into a block.
type pamModule struct {
	profile string
	lines   []string
}

// pamBlock are the modules of a kind that come first, or after the others.
type pamBlock struct{ primary, additional []pamModule }

// pamBlocks collects what the enabled profiles have for one kind. The first in
// a block may look different: nobody has asked for a password before it.
func pamBlocks(enabled []pamProfile, kind string) pamBlock {
	field := strings.ToUpper(kind[:1]) + kind[1:]
	var b pamBlock
	for _, p := range enabled {
		block := &b.primary
		switch p.fields[field+"-Type"] {
		case "":
			continue
		case "Additional":
			block = &b.additional
		}
		text := p.fields[field]
		if initial := p.fields[field+"-Initial"]; len(*block) == 0 && initial != "" {
			text = initial
		}
		*block = append(*block, pamModule{p.name, strings.Split(text, "\n")})
	}
	return b
}

// fillPAM puts the modules between the marks of a template.
func fillPAM(template, word string, b pamBlock) string {
	var out strings.Builder
	keep := true
	for line := range strings.Lines(template) {
		switch {
		case strings.HasPrefix(line, "# here are the per-package modules (the \"Primary\" block)"):
			out.WriteString(line + pamLines(word, b.primary, 0))
			if len(b.primary) == 0 {
				out.WriteString(word + "\t" + pamPermit)
			}
			keep = false
			continue
		case strings.HasPrefix(line, "# and here are more per-package modules (the \"Additional\" block)"):
			out.WriteString(line + pamLines(word, b.additional, 1))
			keep = false
			continue
		case strings.HasPrefix(line, "# here's the fallback"), strings.HasPrefix(line, "# end of pam-auth-update config"):
			keep = true
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

// pamPermit stands where no module does, so that there is something to jump over.
const pamPermit = "[default=1]\t\t\tpam_permit.so\n"

// pamLine splits a line into control with module and arguments.
var pamLine = regexp.MustCompile(`^((?:\[[^]]+\]|\w+)\s+\S+)\s*(.*)`)

// pamLines writes the modules of a block. "end" in a line becomes the number of
// lines to the end of the block, less those that are not jumped over.
func pamLines(word string, modules []pamModule, less int) string {
	left := -less
	for _, m := range modules {
		left += len(m.lines)
	}
	var out strings.Builder
	for _, m := range modules {
		for _, line := range m.lines {
			if parts := pamLine.FindStringSubmatch(line); parts != nil {
				line = strings.ReplaceAll(parts[1], "end", strconv.Itoa(left)) + " " + strings.Join(strings.Fields(parts[2]), " ")
			}
			out.WriteString(word + "\t" + line + "\n")
			left--
		}
	}
	return out.String()
}

// savedPAM is what pam-auth-update remembers, to tell later what an administrator has changed.
func savedPAM(b pamBlock) string {
	var out strings.Builder
	if len(b.primary) == 0 {
		out.WriteString("Module: null\n" + pamPermit)
	}
	for _, m := range slices.Concat(b.primary, b.additional) {
		out.WriteString("Module: " + m.profile + "\n" + strings.Join(m.lines, "\n") + "\n")
	}
	return out.String()
}
