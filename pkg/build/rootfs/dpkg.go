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
// apt and scanners find them.
func (t *Tree) writeDatabase(cfg Config, pkgs []*unpacked, f *filter) error {
	var status bytes.Buffer
	triggers := make(map[string][]string)
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
		if err := p.collectTriggers(triggers); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	files := map[string]string{
		"status": status.String(), "available": "", "diversions": "", "statoverride": "",
		"arch": cfg.Arch + "\n", "arch-native": cfg.Arch + "\n", "info/format": "1\n", "triggers/Unincorp": "",
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

// writeInfo writes the control files of one package, and the lists of its paths
// and their digests. Both lists name what is in the image: "dpkg --verify" finds
// nothing missing, and who reads them is not told of files that were left out.
func (t *Tree) writeInfo(p *unpacked, f *filter) error {
	prefix := dpkgDir + "info/" + p.control.InfoName() + "."
	var list strings.Builder
	list.WriteString("/.\n")
	for _, name := range p.names {
		if t.entries[t.canonical(name)] != nil {
			list.WriteString("/" + name + "\n")
		}
	}
	sums, err := t.presentSums(p)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"list": []byte(list.String()), "md5sums": sums} {
		if err := t.putFile(prefix+name, 0o644, data); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.info)) {
		e := &Entry{Path: prefix + name, Type: tar.TypeReg, Mode: p.modes[name], content: p.info[name]}
		if name == "md5sums" || f.drops(e.Path) {
			continue
		}
		if err := t.put(e); err != nil {
			return err
		}
	}
	return nil
}

// presentSums returns the package's md5sums without the files that were left out.
func (t *Tree) presentSums(p *unpacked) ([]byte, error) {
	c, ok := p.info["md5sums"]
	if !ok {
		return p.sums()
	}
	all, err := c.bytes(maxControl)
	if err != nil {
		return nil, fmt.Errorf("md5sums: %w", err)
	}
	var present bytes.Buffer
	for line := range bytes.Lines(all) {
		_, name, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte("  "))
		if t.entries[t.canonical(strings.TrimPrefix(string(name), "./"))] != nil {
			present.Write(line)
		}
	}
	return present.Bytes(), nil
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
