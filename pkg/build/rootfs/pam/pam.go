// Package pam does what pam-auth-update(8) of Debian does on a new system: it
// puts the profiles that packages bring into the files that services include.
package pam

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kinds are the files /etc/pam.d/common-*, and the word that starts their lines.
var kinds = []struct{ name, word string }{
	{"auth", "auth"}, {"account", "account"}, {"password", "password"}, {"session", "session"}, {"session-noninteractive", "session"},
}

// Kinds returns what the files are called behind "common-".
func Kinds() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// Configure returns the files, by path, that hold the profiles which are enabled
// by default, and what pam-auth-update remembers of them. profiles are the texts in
// /usr/share/pam-configs by name, templates those of /usr/share/pam/common-* by kind.
func Configure(profiles, templates map[string]string) (map[string]string, error) {
	all, err := parseAll(profiles)
	if err != nil {
		return nil, err
	}
	chosen := enabled(all)
	files := make(map[string]string)
	for _, k := range kinds {
		b := blocks(chosen, k.name)
		files["/etc/pam.d/common-"+k.name] = fill(templates[k.name], k.word, b)
		files["/var/lib/pam/"+k.name] = saved(b)
	}
	var seen strings.Builder
	for _, p := range all {
		seen.WriteString(p.name + "\n")
	}
	files["/var/lib/pam/seen"] = seen.String()
	return files, nil
}

// profile is fields, some with several lines.
type profile struct {
	name   string
	fields map[string]string
}

// parseAll returns the profiles, the most important first.
func parseAll(texts map[string]string) ([]profile, error) {
	var all []profile
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fields, err := parse(texts[name])
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", name, err)
		}
		all = append(all, profile{name, fields})
	}
	slices.SortFunc(all, func(a, b profile) int {
		return cmp.Or(cmp.Compare(b.priority(), a.priority()), strings.Compare(b.name, a.name))
	})
	return all, nil
}

func (p profile) priority() int {
	n, err := strconv.Atoi(p.fields["Priority"])
	if err != nil {
		return 0
	}
	return n
}

// enabled returns the profiles that are enabled by default and that none before
// them is against.
func enabled(all []profile) []profile {
	var chosen []profile
	against := make(map[string]bool)
	for _, p := range all {
		if p.fields["Default"] != "yes" || against[p.name] {
			continue
		}
		chosen = append(chosen, p)
		for _, name := range strings.Split(p.fields["Conflicts"], ", ") {
			against[name] = true
		}
	}
	return chosen
}

// fieldLine is the first line of a field: a name, a colon, white space.
var fieldLine = regexp.MustCompile(`^(\S+):\s+(.*)`)

// parse reads a profile. One for sessions holds for those without a terminal
// as well, unless it says otherwise.
func parse(text string) (map[string]string, error) {
	fields := make(map[string]string)
	var name string
	for line := range strings.Lines(text) {
		if m := fieldLine.FindStringSubmatch(line); m != nil {
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

// module is what one profile puts into a block.
type module struct {
	profile string
	lines   []string
}

// block are the modules of a kind that come first, or after the others.
type block struct{ primary, additional []module }

// blocks collects what the enabled profiles have for one kind. The first in
// a block may look different: nobody has asked for a password before it.
func blocks(chosen []profile, kind string) block {
	field := strings.ToUpper(kind[:1]) + kind[1:]
	var b block
	for _, p := range chosen {
		into := &b.primary
		switch p.fields[field+"-Type"] {
		case "":
			continue
		case "Additional":
			into = &b.additional
		}
		text := p.fields[field]
		if initial := p.fields[field+"-Initial"]; len(*into) == 0 && initial != "" {
			text = initial
		}
		*into = append(*into, module{p.name, strings.Split(text, "\n")})
	}
	return b
}

// fill puts the modules between the marks of a template.
func fill(template, word string, b block) string {
	var out strings.Builder
	keep := true
	for line := range strings.Lines(template) {
		switch {
		case strings.HasPrefix(line, "# here are the per-package modules (the \"Primary\" block)"):
			out.WriteString(line + lines(word, b.primary, 0))
			if len(b.primary) == 0 {
				out.WriteString(word + "\t" + permit)
			}
			keep = false
			continue
		case strings.HasPrefix(line, "# and here are more per-package modules (the \"Additional\" block)"):
			out.WriteString(line + lines(word, b.additional, 1))
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

// permit stands where no module does, so that there is something to jump over.
const permit = "[default=1]\t\t\tpam_permit.so\n"

// stackLine splits a line into control with module and arguments.
var stackLine = regexp.MustCompile(`^((?:\[[^]]+\]|\w+)\s+\S+)\s*(.*)`)

// lines writes the modules of a block. "end" in a line becomes the number of
// lines to the end of the block, less those that are not jumped over.
func lines(word string, modules []module, less int) string {
	left := -less
	for _, m := range modules {
		left += len(m.lines)
	}
	var out strings.Builder
	for _, m := range modules {
		for _, line := range m.lines {
			if parts := stackLine.FindStringSubmatch(line); parts != nil {
				line = strings.ReplaceAll(parts[1], "end", strconv.Itoa(left)) + " " + strings.Join(strings.Fields(parts[2]), " ")
			}
			out.WriteString(word + "\t" + line + "\n")
			left--
		}
	}
	return out.String()
}

// saved is what pam-auth-update remembers, to tell later what an administrator has changed.
func saved(b block) string {
	var out strings.Builder
	if len(b.primary) == 0 {
		out.WriteString("Module: null\n" + permit)
	}
	for _, m := range slices.Concat(b.primary, b.additional) {
		out.WriteString("Module: " + m.profile + "\n" + strings.Join(m.lines, "\n") + "\n")
	}
	return out.String()
}
