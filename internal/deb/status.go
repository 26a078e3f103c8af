package deb

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Conffile is a configuration file of a package as dpkg remembers it.
type Conffile struct {
	Path string // absolute: "/etc/bash.bashrc"
	MD5  string // of the file as the package has it, 32 hexadecimal digits
	// RemoveOnUpgrade says that an earlier version had the file and that it is
	// to go (deb-conffiles(5)). The package does not hold it, so it has no MD5.
	RemoveOnUpgrade bool
}

// Control is what a package says of itself in its control file.
type Control struct {
	Package       string
	Version       string
	Arch          string
	MultiArch     string // "" for "no"
	Source        string // the source package, Package when it has that name
	SourceVersion string
	Maintainer    string
	Homepage      string
	Essential     bool
}

// ParseControl reads the control file of a package.
func ParseControl(control []byte) (Control, error) {
	s, err := onlyStanza(control)
	if err != nil {
		return Control{}, fmt.Errorf("parse control file: %w", err)
	}
	p := &Package{Name: s.get("Package"), Version: s.get("Version"), Source: s.get("Source")}
	p.splitSource()
	c := Control{Package: p.Name, Version: p.Version, Arch: s.get("Architecture"), MultiArch: s.get("Multi-Arch"),
		Source: p.Source, SourceVersion: p.SourceVersion, Maintainer: s.get("Maintainer"), Homepage: s.get("Homepage"),
		Essential: s.get("Essential") == "yes"}
	if c.MultiArch == "no" {
		c.MultiArch = ""
	}
	if !isName(c.Package) || !isName(c.Source) || !isArch(c.Arch) {
		return Control{}, fmt.Errorf("parse control file: package %.80q of source %.80q for architecture %.80q", c.Package, c.Source, c.Arch)
	}
	if _, err := parseVersion(c.Version); err != nil {
		return Control{}, fmt.Errorf("parse control file of %s: %w", c.Package, err)
	}
	return c, nil
}

// InfoName returns what the package's files in /var/lib/dpkg/info are called, up
// to the dot: dpkg adds the architecture where packages of several can be
// installed side by side.
func (c Control) InfoName() string {
	if c.MultiArch == "same" {
		return c.Package + ":" + c.Arch
	}
	return c.Package
}

// ParseConffiles reads a package's conffiles member, in its order. What it
// returns has no MD5 yet: that comes from the package's files.
func ParseConffiles(member []byte) ([]Conffile, error) {
	var all []Conffile
	for line := range strings.Lines(string(member)) {
		line = strings.TrimRight(line, " \t\n")
		if line == "" {
			continue
		}
		name, remove := strings.CutPrefix(line, "remove-on-upgrade ")
		if !isCleanAbsolute(name) {
			return nil, fmt.Errorf("conffile %.200q: want a clean absolute path", line)
		}
		all = append(all, Conffile{Path: name, RemoveOnUpgrade: remove})
	}
	return all, nil
}

// isCleanAbsolute reports whether name is an absolute path in its shortest
// spelling that can stand on a line of its own.
func isCleanAbsolute(name string) bool {
	rest, absolute := strings.CutPrefix(name, "/")
	clean, why := cleanName(rest)
	return absolute && why == "" && clean == rest && clean != "." && !strings.ContainsAny(name, "\r\n\t")
}

// fieldKind says how dpkg writes a field's value.
type fieldKind int

const (
	asText fieldKind = iota
	asYes            // only when it is yes
	asMultiArch
	asVersion
	asRelations
	asStatus
	asConffiles
)

// statusField is a field that dpkg knows.
type statusField struct {
	name string
	kind fieldKind
}

// statusFields is the order in which dpkg writes what it knows (lib/dpkg/parse.c,
// fieldinfos). What it does not know follows in the order of the control file.
var statusFields = []statusField{
	{"Package", asText}, {"Essential", asYes}, {"Protected", asYes}, {"Status", asStatus},
	{"Priority", asText}, {"Section", asText}, {"Installed-Size", asText}, {"Origin", asText},
	{"Maintainer", asText}, {"Bugs", asText}, {"Architecture", asText}, {"Multi-Arch", asMultiArch},
	{"Source", asText}, {"Version", asVersion},
	{"Replaces", asRelations}, {"Provides", asRelations}, {"Depends", asRelations}, {"Pre-Depends", asRelations},
	{"Recommends", asRelations}, {"Suggests", asRelations}, {"Breaks", asRelations}, {"Conflicts", asRelations},
	{"Enhances", asRelations}, {"Conffiles", asConffiles}, {"Description", asText},
}

// StatusEntry returns the paragraph that dpkg has in /var/lib/dpkg/status for an
// installed package, byte for byte, without the empty line that follows it:
// dpkg's order of fields, relations and versions in its spelling, and the
// conffiles in the order given, which is that of the conffiles member.
func StatusEntry(control []byte, conffiles ...Conffile) ([]byte, error) {
	s, err := onlyStanza(control)
	if err != nil {
		return nil, fmt.Errorf("write dpkg status: %w", err)
	}
	if !isName(s.get("Package")) {
		return nil, fmt.Errorf("write dpkg status: package %.80q", s.get("Package"))
	}
	var out bytes.Buffer
	for _, f := range statusFields {
		value, err := statusValue(f.kind, s.get(f.name), conffiles)
		if err != nil {
			return nil, fmt.Errorf("write dpkg status of %s: %s: %w", s.get("Package"), f.name, err)
		}
		writeField(&out, f.name, value)
	}
	for _, f := range s {
		if !slices.ContainsFunc(statusFields, func(k statusField) bool { return strings.EqualFold(k.name, f.Name) }) {
			writeField(&out, f.Name, f.Value)
		}
	}
	return out.Bytes(), nil
}

// writeField writes one field, nothing when it is empty.
func writeField(out *bytes.Buffer, name, value string) {
	switch {
	case value == "":
	case value[0] == '\n':
		fmt.Fprintf(out, "%s:%s\n", name, value)
	default:
		fmt.Fprintf(out, "%s: %s\n", name, value)
	}
}

// statusValue returns value as dpkg writes it.
func statusValue(kind fieldKind, value string, conffiles []Conffile) (string, error) {
	switch kind {
	case asStatus:
		return "install ok installed", nil
	case asYes:
		if value != "yes" {
			return "", nil
		}
	case asMultiArch:
		if value == "no" {
			return "", nil
		}
	case asVersion:
		return canonicalVersion(value)
	case asRelations:
		return canonicalRelations(value)
	case asConffiles:
		return conffileLines(conffiles)
	}
	return value, nil
}

// canonicalVersion drops an epoch of zero that nothing needs.
func canonicalVersion(s string) (string, error) {
	v, err := parseVersion(s)
	if err != nil {
		return "", err
	}
	if strings.Contains(v.StringWithoutEpoch(), ":") {
		return fmt.Sprintf("%d:%s", v.Epoch, v.StringWithoutEpoch()), nil
	}
	return v.String(), nil
}

// canonicalRelations gives relations dpkg's blanks, commas and versions.
func canonicalRelations(value string) (string, error) {
	relations, err := parseRelations(value)
	if err != nil {
		return "", err
	}
	parts := make([]string, len(relations))
	for i, r := range relations {
		for j, p := range r {
			if p.Op == "" {
				continue
			}
			if r[j].Version, err = canonicalVersion(p.Version); err != nil {
				return "", err
			}
		}
		parts[i] = r.String()
	}
	return strings.Join(parts, ", "), nil
}

// conffileLines is the value of the Conffiles field.
func conffileLines(conffiles []Conffile) (string, error) {
	var b strings.Builder
	for _, c := range conffiles {
		hash := c.MD5
		if c.RemoveOnUpgrade && hash == "" {
			hash = "newconffile remove-on-upgrade"
		} else if !isHex(hash, 32) {
			return "", fmt.Errorf("md5 of %.200q: got %.40q", c.Path, hash)
		}
		if !isCleanAbsolute(c.Path) {
			return "", fmt.Errorf("conffile %.200q: want a clean absolute path", c.Path)
		}
		fmt.Fprintf(&b, "\n %s %s", c.Path, hash)
	}
	return b.String(), nil
}
