package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/internal/deb"
)

const dpkgDir = "var/lib/dpkg/"

// writeDatabase writes what dpkg knows of the installed packages, so that dpkg,
// apt and scanners find them. In an image without dpkg only scanners read it: the
// paragraphs of the packages and the lists of their files are enough for them.
func (t *Tree) writeDatabase(cfg Config, pkgs []*unpacked, f *filter) error {
	if len(pkgs) == 0 {
		return nil
	}
	var status bytes.Buffer
	for _, p := range pkgs {
		if err := t.writeInfo(p, f); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		entry, err := t.statusEntry(p)
		if err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		status.Write(entry)
		status.WriteByte('\n')
	}
	if err := t.putFile(dpkgDir+"status", 0o644, status.Bytes()); err != nil {
		return err
	}
	if !t.packages["dpkg"] {
		return nil
	}
	return t.writeDpkgState(cfg, pkgs)
}

// writeDpkgState writes what dpkg itself needs beside the packages.
func (t *Tree) writeDpkgState(cfg Config, pkgs []*unpacked) error {
	triggers := make(map[string][]string)
	for _, p := range pkgs {
		if err := p.collectTriggers(triggers); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	files := map[string]string{"arch-native": cfg.Arch + "\n", "info/format": "1\n", "triggers/Unincorp": ""}
	if len(t.overrides) > 0 {
		files["statoverride"] = strings.Join(t.overrides, "")
	}
	for name, lines := range triggers {
		files["triggers/"+name] = strings.Join(lines, "\n") + "\n"
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := t.putFile(dpkgDir+name, 0o644, []byte(files[name])); err != nil {
			return err
		}
	}
	for _, dir := range []string{"parts", "updates"} {
		if err := t.mkdirs(dpkgDir + dir); err != nil {
			return err
		}
	}
	return t.writeDpkgConfig(cfg)
}

// writeDpkgConfig tells dpkg what was left out, so that a package that is
// installed on top is treated alike.
func (t *Tree) writeDpkgConfig(cfg Config) error {
	if len(cfg.Exclude) == 0 {
		return nil
	}
	var b strings.Builder
	for _, glob := range cfg.Exclude {
		fmt.Fprintf(&b, "path-exclude %s\n", glob)
	}
	for _, glob := range cfg.Keep {
		fmt.Fprintf(&b, "path-include %s\n", glob)
	}
	return t.putFile("etc/dpkg/dpkg.cfg.d/imgctl", 0o644, []byte(b.String()))
}

// writeInfo writes the control files of one package, and the list of its paths.
// As dpkg has them, both lists name files that were left out, too.
func (t *Tree) writeInfo(p *unpacked, f *filter) error {
	prefix := dpkgDir + "info/" + p.control.InfoName() + "."
	if err := t.putFile(prefix+"list", 0o644, []byte("/.\n/"+strings.Join(p.names, "\n/")+"\n")); err != nil {
		return err
	}
	if _, ok := p.info["md5sums"]; !ok {
		sums, err := p.sums()
		if err != nil {
			return err
		}
		if err := t.putFile(prefix+"md5sums", 0o644, sums); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.info)) {
		e := &Entry{Path: prefix + name, Type: tar.TypeReg, Mode: p.modes[name], content: p.info[name]}
		if f.drops(e.Path) || !t.packages["dpkg"] && name != "md5sums" {
			continue
		}
		if err := t.put(e); err != nil {
			return err
		}
	}
	return nil
}

// sums makes the list of digests for a package that has none, as dpkg does:
// of every file that is no configuration file.
func (p *unpacked) sums() ([]byte, error) {
	conffiles, err := p.conffiles()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, e := range p.entries {
		isConffile := slices.ContainsFunc(conffiles, func(c deb.Conffile) bool { return c.Path == "/"+e.Path })
		if e.Type != tar.TypeReg || isConffile {
			continue
		}
		sum, err := e.content.md5()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, e.Path)
	}
	return b.Bytes(), nil
}

// md5 is what dpkg compares files with. It protects against accidents, not against people.
func (c content) md5() (string, error) {
	h := md5.New()
	if _, err := io.Copy(h, c.reader()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// conffiles returns the package's configuration files, without their digests.
func (p *unpacked) conffiles() ([]deb.Conffile, error) {
	c, ok := p.info["conffiles"]
	if !ok {
		return nil, nil
	}
	data, err := c.bytes(maxControl)
	if err != nil {
		return nil, fmt.Errorf("conffiles: %w", err)
	}
	return deb.ParseConffiles(data)
}

// statusEntry makes the package's paragraph of the status file. The digests of
// configuration files are those of the package, by which dpkg sees later what an
// administrator has changed.
func (t *Tree) statusEntry(p *unpacked) ([]byte, error) {
	all, err := p.conffiles()
	if err != nil {
		return nil, err
	}
	var present []deb.Conffile
	for _, c := range all {
		if !c.RemoveOnUpgrade {
			e, ok := t.entries[t.canonical(c.Path[1:])]
			if !ok || e.inode == nil {
				continue // left out
			}
			if c.MD5, err = e.content.md5(); err != nil {
				return nil, err
			}
		}
		present = append(present, c)
	}
	return deb.StatusEntry(p.rawControl, present...)
}

// lines returns the lines of a control file that say something.
func (p *unpacked) lines(name string) ([]string, error) {
	c, ok := p.info[name]
	if !ok {
		return nil, nil
	}
	data, err := c.bytes(maxControl)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var lines []string
	for _, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// collectTriggers notes what the package is interested in (deb-triggers(5)): paths
// go into the file "File", names have a file each.
func (p *unpacked) collectTriggers(into map[string][]string) error {
	lines, err := p.lines("triggers")
	if err != nil {
		return err
	}
	for _, line := range lines {
		directive, name, ok := strings.Cut(line, " ")
		name = strings.TrimSpace(name)
		if !ok || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("triggers: got %.80q, want a directive and a name", line)
		}
		if !strings.HasPrefix(directive, "interest") {
			continue
		}
		who := p.control.InfoName()
		if strings.HasSuffix(directive, "-noawait") {
			who += "/noawait"
		}
		switch {
		case strings.HasPrefix(name, "/"):
			into["File"] = append(into["File"], name+" "+who)
		case strings.ContainsAny(name, "/\x00") || name == "File" || name == "Unincorp":
			return fmt.Errorf("triggers: name %.80q", name)
		default:
			into[name] = append(into[name], who)
		}
	}
	return nil
}
