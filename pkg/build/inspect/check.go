package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Gate names a rule that images must keep. Where exceptions can be made, it is
// the key of [Gates] under which they stand.
type Gate string

// The gates, in the order in which their violations are reported.
const (
	GatePlatform         Gate = "platform"         // the image is for the machine that it is said to be for
	GatePackages         Gate = "packages"         // dpkg's database says what the lock says, and that all went well
	GateSize             Gate = "maxSize"          // the image is not too large
	GateSetuid           Gate = "setuid"           // no file gives rights that its user does not have
	GateWorldWritable    Gate = "worldWritable"    // nothing can be written by everybody
	GateSpecial          Gate = "special"          // no device, no FIFO, no extended attribute that nobody looks at
	GateForeignELF       Gate = "foreignELF"       // every program and library is one for the machine
	GateMissingLibraries Gate = "missingLibraries" // every program has its libraries and every script its interpreter
	GateDangling         Gate = "dangling"         // every link leads somewhere
	GateLeftover         Gate = "leftover"         // no cache of a package manager, no log, no temporary file
	GateUnowned          Gate = "unowned"          // every file is from a package or from the spec
)

// Hint says what can be done about a violation, "" where nothing can be said.
func (g Gate) Hint() string {
	switch g {
	case GateSetuid, GateDangling, GateUnowned, GateForeignELF, GateMissingLibraries:
		return fmt.Sprintf("leave it out by packages.exclude, or allow it by gates.%s", g)
	case GateLeftover:
		return "remove it where it is made, or allow it by gates.unowned"
	case GateWorldWritable:
		return "give it another mode; a directory with the sticky bit can be allowed by gates.worldWritable"
	case GateSize:
		return "leave something out by packages.exclude, or raise gates.maxSize"
	}
	return ""
}

// Violation is something in an image that a gate does not let through.
type Violation struct {
	Gate    Gate   `json:"gate"`
	Path    string `json:"path,omitempty"`    // absolute; "" when it is about the whole image
	Package string `json:"package,omitempty"` // the package that the path is from, "" for none
	Detail  string `json:"detail"`
}

// String is one line.
func (v Violation) String() string {
	s := string(v.Gate) + ": "
	if v.Path != "" {
		s += v.Path + ": "
	}
	s += v.Detail
	if v.Package != "" && v.Path != "" {
		s += " (package " + v.Package + ")"
	}
	return s
}

// Expect is what an image was meant to be.
type Expect struct {
	// Architecture is that of the platform: "amd64" or "arm64".
	Architecture string
	// Packages are those that the lock names. Nil means that nothing is known of them.
	Packages []Package
	// Owned are globs, as in [Gates], of the files that the spec brings. Links above
	// the last part are followed: /bin/x is /usr/bin/x where /bin is a link.
	Owned []string
}

// Check returns what the gates do not let through, in the order of the gates and,
// of each, of the paths.
func (f *FS) Check(g Gates, want Expect) []Violation {
	c := &check{fs: f, gates: g, want: want, db: f.database()}
	c.owned = make([]string, len(want.Owned))
	for i, glob := range want.Owned {
		c.owned[i] = f.place(glob)
	}
	c.platform()
	c.packages()
	c.size()
	for _, e := range f.entries {
		c.privileges(e)
		c.writable(e)
		c.special(e)
		c.dangling(e)
		c.origin(e)
	}
	c.programs()
	slices.SortStableFunc(c.found, func(a, b Violation) int {
		return cmp.Or(a.Gate.order()-b.Gate.order(), strings.Compare(a.Path, b.Path), strings.Compare(a.Detail, b.Detail))
	})
	return c.found
}

func (g Gate) order() int {
	return slices.Index([]Gate{GatePlatform, GatePackages, GateSize, GateSetuid, GateWorldWritable, GateSpecial,
		GateForeignELF, GateMissingLibraries, GateDangling, GateLeftover, GateUnowned}, g)
}

// check is one call of [FS.Check].
type check struct {
	fs    *FS
	gates Gates
	want  Expect
	db    *database
	owned []string
	found []Violation
}

// refuse notes a violation. name is "" when it is about the whole image.
func (c *check) refuse(g Gate, name, format string, args ...any) {
	c.found = append(c.found, Violation{Gate: g, Path: name, Package: c.db.owner(name), Detail: fmt.Sprintf(format, args...)})
}

// platform compares the config with what the image is said to be for.
func (c *check) platform() {
	if got, want := c.fs.Architecture, c.want.Architecture; got != want {
		c.refuse(GatePlatform, "", "the image's config says %q, want %q", got, want)
	}
	if _, ok := machines[c.want.Architecture]; !ok {
		c.refuse(GatePlatform, "", "architecture %q: want amd64 or arm64", c.want.Architecture)
	}
}

// packages compares dpkg's database with the lock.
func (c *check) packages() {
	for _, p := range c.db.problems {
		c.found = append(c.found, Violation{Gate: GatePackages, Path: p.path, Package: p.pkg, Detail: p.detail})
	}
	if c.want.Packages == nil {
		return
	}
	versions := make(map[string]string)
	for _, p := range c.db.packages {
		versions[p.Package] = p.Version
	}
	for _, p := range c.want.Packages {
		got, ok := versions[p.Name]
		switch {
		case !ok:
			c.refuse(GatePackages, "", "package %s %s is not in the image", p.Name, p.Version)
		case got != p.Version:
			c.refuse(GatePackages, "", "package %s: got version %s, want %s", p.Name, got, p.Version)
		}
		delete(versions, p.Name)
	}
	for name, version := range versions {
		c.refuse(GatePackages, "", "package %s %s is not in the lock", name, version)
	}
}

// privileges refuses files that give rights. A directory with setgid does not: it
// decides the group of what is made in it.
func (c *check) privileges(e *Entry) {
	bits := e.Mode & 0o6000
	if e.Type != File || bits == 0 && e.Capability() == "" || matchAny(c.gates.Setuid, e.Path) {
		return
	}
	if bits != 0 {
		c.refuse(GateSetuid, e.Path, "mode %s, owner %s", e.mode(), e.owner())
	}
	if e.Capability() != "" {
		c.refuse(GateSetuid, e.Path, "capability %s", e.Capability())
	}
}

func (c *check) writable(e *Entry) {
	if e.Type == Symlink || e.Mode&0o002 == 0 {
		return
	}
	const sticky = 0o1000
	if e.Type == Directory && e.Mode&sticky != 0 && matchAny(c.gates.WorldWritable, e.Path) {
		return
	}
	c.refuse(GateWorldWritable, e.Path, "%s of mode %s", e.Type, e.mode())
}

// special refuses what no package for containers brings.
func (c *check) special(e *Entry) {
	switch e.Type {
	case CharDevice, BlockDevice:
		c.refuse(GateSpecial, e.Path, "%s %s", e.Type, e.Target)
	case FIFO:
		c.refuse(GateSpecial, e.Path, "%s", e.Type)
	}
	for name := range e.Attributes {
		if name != capability || e.Type != File {
			c.refuse(GateSpecial, e.Path, "extended attribute %s", name)
		}
	}
}

// runtimePaths are what a link may lead into although the image has nothing there.
var runtimePaths = []string{"/proc", "/sys", "/dev", "/run"}

func (c *check) dangling(e *Entry) {
	if e.Type != Symlink || matchAny(c.gates.Dangling, e.Path) {
		return
	}
	_, err := c.fs.Lookup(e.Path)
	var ends *fs.PathError
	if !errors.As(err, &ends) {
		return
	}
	running := func(dir string) bool { return isBelow(ends.Path, dir) }
	if errors.Is(ends.Err, fs.ErrNotExist) && slices.ContainsFunc(runtimePaths, running) {
		return
	}
	detail := fmt.Sprintf("points to %s", e.Target)
	if ends.Path != e.Target {
		detail += ", ends at " + ends.Path
	}
	c.refuse(GateDangling, e.Path, "%s: %v", detail, ends.Err)
}

// origin refuses files that are left over from the build, and those of which
// nobody knows where they are from.
func (c *check) origin(e *Entry) {
	if e.Type == Directory || c.db.owner(e.Path) != "" || matchAny(c.owned, e.Path) || matchAny(c.gates.Unowned, e.Path) {
		return
	}
	if why := leftover(e); why != "" {
		c.refuse(GateLeftover, e.Path, "%s", why)
		return
	}
	if c.db.choices[e.Path] && e.Type == Symlink || c.db.generated(e) {
		return
	}
	c.refuse(GateUnowned, e.Path, "%s that neither a package nor the spec brings", e.Type)
}
