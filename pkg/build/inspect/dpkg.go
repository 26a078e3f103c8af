package inspect

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/imgctl/imgctl/internal/deb"
)

const dpkgDir = "/var/lib/dpkg/"

// database is what dpkg knows of an image, which may be nothing.
type database struct {
	packages  []dpkgPackage
	installed map[string]bool
	owners    map[string]string // package by the path where its file is
	info      map[string]string // package by the start of what its files below info are called
	choices   map[string]bool   // links that update-alternatives(1) manages
	problems  []problem
}

// dpkgPackage is a package of dpkg's status file.
type dpkgPackage struct {
	deb.Control
	State string // "installed"; "unpacked" and others say that something went wrong
}

// problem is something that is wrong with the database.
type problem struct{ path, pkg, detail string }

// database reads dpkg's database. What is wrong with it is among its problems.
func (f *FS) database() *database {
	db := &database{installed: make(map[string]bool), owners: make(map[string]string), info: make(map[string]string), choices: make(map[string]bool)}
	all, err := parseStatus(f.text(dpkgDir + "status"))
	if err != nil {
		db.problem(dpkgDir+"status", "", err.Error())
	}
	diversions, err := parseDiversions(f.text(dpkgDir + "diversions"))
	if err != nil {
		db.problem(dpkgDir+"diversions", "", err.Error())
	}
	for _, p := range all {
		switch p.State {
		case "installed":
		case "config-files", "not-installed": // removed
			continue
		default:
			db.problem(dpkgDir+"status", p.Package, fmt.Sprintf("package %s is %s, want installed", p.Package, p.State))
		}
		db.packages = append(db.packages, p)
		db.installed[p.Package] = true
		db.info[p.InfoName()] = p.Package
		db.addFiles(f, p, diversions)
	}
	db.addAlternatives(f)
	return db
}

func (db *database) problem(path, pkg, detail string) {
	db.problems = append(db.problems, problem{path, pkg, detail})
}

// addFiles notes where the files of a package are.
func (db *database) addFiles(f *FS, p dpkgPackage, diversions map[string]diversion) {
	list := dpkgDir + "info/" + p.InfoName() + ".list"
	if f.Entry(list) == nil {
		db.problem(list, p.Package, "the list of the package's files is missing")
		return
	}
	names, err := parseList(f.text(list))
	if err != nil {
		db.problem(list, p.Package, err.Error())
		return
	}
	for _, name := range names {
		if d, ok := diversions[name]; ok && d.by != p.Package {
			name = d.to
		}
		name = f.place(name)
		if db.owners[name] == "" {
			db.owners[name] = p.Package
		}
	}
}

// addAlternatives notes the links that update-alternatives(1) manages.
func (db *database) addAlternatives(f *FS) {
	for _, e := range f.entries {
		if path.Dir(e.Path)+"/" != dpkgDir+"alternatives/" || e.Type != File {
			continue
		}
		links, err := parseAlternative(path.Base(e.Path), e.text)
		if err != nil {
			db.problem(e.Path, "", err.Error())
		}
		for name, link := range links {
			db.choices["/etc/alternatives/"+name] = true
			db.choices[f.place(link)] = true
		}
	}
}

// owner returns the package that a path is from, "" when it is from none. Files of
// dpkg's own that are about one package are that package's.
func (db *database) owner(name string) string {
	if p := db.owners[name]; p != "" {
		return p
	}
	base, ok := strings.CutPrefix(name, dpkgDir+"info/")
	if !ok {
		return ""
	}
	return db.info[strings.TrimSuffix(base, path.Ext(base))]
}

// text returns the content of a file for which [keepsText] holds, nil when there is none.
func (f *FS) text(name string) []byte {
	if e := f.Entry(name); e != nil {
		return e.text
	}
	return nil
}

// parseStatus reads dpkg's status file.
func parseStatus(text []byte) ([]dpkgPackage, error) {
	var all []dpkgPackage
	for stanza := range bytes.SplitSeq(text, []byte("\n\n")) {
		if len(bytes.TrimSpace(stanza)) == 0 {
			continue
		}
		c, err := deb.ParseControl(stanza)
		if err != nil {
			return nil, err
		}
		state := state(string(stanza))
		if state == "" {
			return nil, fmt.Errorf("package %s: no status of three words", c.Package)
		}
		all = append(all, dpkgPackage{c, state})
	}
	return all, nil
}

// state returns the last of the three words of the field Status: what is wanted,
// whether dpkg must start anew, how far it is.
func state(stanza string) string {
	for line := range strings.Lines(stanza) {
		if value, ok := strings.CutPrefix(line, "Status:"); ok {
			if words := strings.Fields(value); len(words) == 3 {
				return words[2]
			}
		}
	}
	return ""
}

// parseList reads a package's list of files, one absolute path on a line.
func parseList(text []byte) ([]string, error) {
	var names []string
	for line := range strings.Lines(string(text)) {
		name := strings.TrimSuffix(line, "\n")
		if name == "/." {
			continue // the root, as dpkg spells it
		}
		if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("line %.200q: want a clean absolute path", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// diversion says that a file which others bring is elsewhere (dpkg-divert(1)).
type diversion struct {
	to string
	by string // the package for which it is; ":" for the administrator
}

// parseDiversions reads dpkg's diversions: three lines for each.
func parseDiversions(text []byte) (map[string]diversion, error) {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(text) == 0 {
		return nil, nil
	}
	if len(lines)%3 != 0 {
		return nil, fmt.Errorf("got %d lines, want three for each diversion", len(lines))
	}
	all := make(map[string]diversion)
	for i := 0; i < len(lines); i += 3 {
		from, to, by := lines[i], lines[i+1], lines[i+2]
		for _, name := range []string{from, to} {
			if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.ContainsRune(name, 0) {
				return nil, fmt.Errorf("line %.200q: want a clean absolute path", name)
			}
		}
		all[from] = diversion{to: to, by: by}
	}
	return all, nil
}

// parseAlternative returns the links of an alternative and its slaves, by their
// names. The file has a line for the mode, the link, then name and link of each
// slave up to an empty line; what follows are the choices.
func parseAlternative(name string, text []byte) (map[string]string, error) {
	head, _, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || len(lines)%2 != 0 {
		return nil, fmt.Errorf("not a file of update-alternatives: %.80q", head)
	}
	links := map[string]string{name: lines[1]}
	for i := 2; i < len(lines); i += 2 {
		links[lines[i]] = lines[i+1]
	}
	for name, link := range links {
		if name == "" || strings.ContainsAny(name, "/\x00") || !strings.HasPrefix(link, "/") || strings.ContainsRune(link, 0) {
			return nil, fmt.Errorf("link %.200q of %.80q: want an absolute path", link, name)
		}
	}
	return links, nil
}
