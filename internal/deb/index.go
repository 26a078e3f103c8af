package deb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxPackages bounds one index. Debian 13 has 69 000 packages for amd64.
const maxPackages = 1 << 20

// Package is one binary package of an index.
type Package struct {
	Name          string
	Version       string
	Arch          string // "all", or the architecture of the index
	Source        string // name of the source package
	SourceVersion string // its version, mostly equal to Version
	Filename      string // relative to the archive: "pool/main/b/bash/bash_5.2.37-2+b5_amd64.deb"
	Size          int64  // of the file, in bytes
	SHA256        string // of the file, 64 hexadecimal digits
	Essential     bool
	Priority      string // "required", "important", "standard", "optional", "extra"
	MultiArch     string // "", "no", "same", "foreign" or "allowed"
	Suite         string // codename of the suite that has it: "trixie-security"
	Archive       string // name of the archive that the suite is in: [Main] or [Security]

	provides []Relation
	raw      relationFields
}

// relationFields are the relationships as they are published. They are parsed
// when the closure asks for them: an index has a hundred times more packages.
type relationFields struct{ preDepends, depends, conflicts, breaks string }

// Index is the packages of one architecture of a suite, or of several that
// [Merge] put together, "all" included.
type Index struct {
	Arch string

	packages  map[string][]*Package // by name, newest first
	providers map[string][]provider // by provided name
}

// provider is a package that provides a name; version is "" when it says none.
type provider struct {
	pkg     *Package
	version string
}

// parseIndex reads a Packages file of the given architecture.
func parseIndex(r io.Reader, arch string) (*Index, error) {
	ix := newIndex(arch)
	stanzas := newStanzaReader(r)
	for n := 0; ; n++ {
		s, err := stanzas.next()
		if err == io.EOF {
			return ix, nil
		}
		if err != nil {
			return nil, err
		}
		if n == maxPackages {
			return nil, fmt.Errorf("more than %d packages", maxPackages)
		}
		p, err := parsePackage(s, arch)
		if err != nil {
			return nil, fmt.Errorf("package %.80q: %w", s.get("Package"), err)
		}
		ix.add(p)
	}
}

func newIndex(arch string) *Index {
	return &Index{Arch: arch, packages: make(map[string][]*Package), providers: make(map[string][]provider)}
}

// Merge returns what several suites offer together for one architecture: of each
// package only the highest version, and of equal ones that of the first index.
// What a security suite replaced is not there any more, so that no constraint can
// bring it back; an installation that needs it is unsatisfiable.
//
// The indexes are of one architecture. They stay as they are.
func Merge(indexes ...*Index) *Index {
	if len(indexes) == 0 {
		return newIndex("")
	}
	newest := make(map[string]*Package)
	for _, ix := range indexes {
		for name, same := range ix.packages {
			if old := newest[name]; old == nil || compareVersions(same[0].Version, old.Version) > 0 {
				newest[name] = same[0]
			}
		}
	}
	merged := newIndex(indexes[0].Arch)
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		merged.add(newest[name])
	}
	return merged
}

// belongsTo notes where the packages are from.
func (ix *Index) belongsTo(suite, archive string) {
	for _, same := range ix.packages {
		for _, p := range same {
			p.Suite, p.Archive = suite, archive
		}
	}
}

// add inserts p. Of two with the same name the newer is found first.
func (ix *Index) add(p *Package) {
	same := ix.packages[p.Name]
	i := 0
	for i < len(same) && compareVersions(same[i].Version, p.Version) >= 0 {
		i++
	}
	same = append(same, nil)
	copy(same[i+1:], same[i:])
	same[i] = p
	ix.packages[p.Name] = same
	for _, r := range p.provides {
		for _, v := range r {
			ix.providers[v.Name] = append(ix.providers[v.Name], provider{pkg: p, version: offered(v)})
		}
	}
}

// Len returns how many packages the index has.
func (ix *Index) Len() int {
	n := 0
	for _, same := range ix.packages {
		n += len(same)
	}
	return n
}

// Lookup returns the newest package of that name.
func (ix *Index) Lookup(name string) (Package, bool) {
	if same := ix.packages[name]; len(same) > 0 {
		return *same[0], true
	}
	return Package{}, false
}

// parsePackage reads one stanza of a Packages file.
func parsePackage(s stanza, arch string) (*Package, error) {
	p := &Package{}
	var size string
	for _, f := range s { // strings are cloned: the rest of the stanza is not to be kept alive
		switch strings.ToLower(f.Name) {
		case "package":
			p.Name = strings.Clone(f.Value)
		case "version":
			p.Version = strings.Clone(f.Value)
		case "architecture":
			p.Arch = strings.Clone(f.Value)
		case "source":
			p.Source = strings.Clone(f.Value)
		case "filename":
			p.Filename = strings.Clone(f.Value)
		case "sha256":
			p.SHA256 = strings.Clone(f.Value)
		case "size":
			size = f.Value
		case "essential":
			p.Essential = f.Value == "yes"
		case "priority":
			p.Priority = strings.Clone(f.Value)
		case "multi-arch":
			p.MultiArch = strings.Clone(f.Value)
		case "depends":
			p.raw.depends = strings.Clone(f.Value)
		case "pre-depends":
			p.raw.preDepends = strings.Clone(f.Value)
		case "conflicts":
			p.raw.conflicts = strings.Clone(f.Value)
		case "breaks":
			p.raw.breaks = strings.Clone(f.Value)
		}
	}
	p.splitSource()
	var err error
	if p.Size, err = strconv.ParseInt(size, 10, 64); err != nil || p.Size <= 0 {
		return nil, fmt.Errorf("field Size: got %.20q", size)
	}
	if p.provides, err = parseRelations(s.get("Provides")); err != nil {
		return nil, fmt.Errorf("field Provides: %w", err)
	}
	return p, p.check(arch)
}

// splitSource takes "glibc (2.41-12)" apart and fills in what is left out when
// it equals the binary package's.
func (p *Package) splitSource() {
	name, version, _ := strings.Cut(p.Source, " (")
	p.Source, p.SourceVersion = name, strings.TrimSuffix(version, ")")
	if p.Source == "" {
		p.Source = p.Name
	}
	if p.SourceVersion == "" {
		p.SourceVersion = p.Version
	}
}

// check refuses values that could not be what they claim to be. They go into
// paths, URLs and SBOMs.
func (p *Package) check(arch string) error {
	if !isName(p.Name) {
		return errors.New("not a package name")
	}
	if _, err := parseVersion(p.Version); err != nil {
		return err
	}
	if !isName(p.Source) {
		return fmt.Errorf("field Source: got %.80q, want a package name", p.Source)
	}
	if _, err := parseVersion(p.SourceVersion); err != nil {
		return fmt.Errorf("field Source: %w", err)
	}
	if p.Arch != arch && p.Arch != "all" {
		return fmt.Errorf("field Architecture: got %.40q, want %s or all", p.Arch, arch)
	}
	if !isHex(p.SHA256, 64) {
		return fmt.Errorf("field SHA256: got %.80q, want 64 hexadecimal digits", p.SHA256)
	}
	return checkFilename(p.Filename)
}

// checkFilename refuses a file name that could leave the archive or that would
// mean something else in a URL.
func checkFilename(name string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("file name %.120q: want a clean path relative to the archive", name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`%?#\:;"<>`, c) >= 0 {
			return fmt.Errorf("file name %.120q: character %q", name, c)
		}
	}
	return nil
}
