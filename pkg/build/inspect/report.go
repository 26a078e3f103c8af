package inspect

import (
	"cmp"
	"slices"
	"strings"
)

// Report says what is in an image and what takes the space.
type Report struct {
	Architecture string         `json:"architecture"`
	Compressed   int64          `json:"compressed"`   // bytes of all layers
	Uncompressed int64          `json:"uncompressed"` // bytes of all layers' tar archives
	Counts       Counts         `json:"counts"`
	Layers       []Layer        `json:"layers"`     // from the bottom
	Packages     []PackageUsage `json:"packages"`   // the largest first
	Largest      []FileUsage    `json:"largest"`    // the largest files
	Privileged   []Privileged   `json:"privileged"` // sorted by path
}

// Counts says how many entries of each kind the image has.
type Counts struct {
	Files       int `json:"files"` // each once, however many names it has
	HardLinks   int `json:"hardLinks"`
	Directories int `json:"directories"`
	Links       int `json:"links"`
	Others      int `json:"others"` // devices and FIFOs
	ELF         int `json:"elf"`    // programs and libraries
	Packages    int `json:"packages"`
}

// PackageUsage is what a package takes in the image.
type PackageUsage struct {
	Name    string `json:"name"` // "" for the files of no package
	Version string `json:"version,omitempty"`
	Bytes   int64  `json:"bytes"` // of files; each once, however many names it has
	Files   int    `json:"files"` // and links
}

// FileUsage is a file and its size.
type FileUsage struct {
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	Package string `json:"package,omitempty"`
}

// Privileged is a file that gives rights which its user does not have.
type Privileged struct {
	Path       string `json:"path"`
	Mode       string `json:"mode"`                 // octal: "4755"
	Owner      string `json:"owner"`                // user and group, by number: "0:0"
	Capability string `json:"capability,omitempty"` // the attribute security.capability, hexadecimal
	Package    string `json:"package,omitempty"`
}

// largestFiles is how many files a report names.
const largestFiles = 20

// Report describes the image.
func (f *FS) Report() Report {
	db := f.database()
	r := Report{Architecture: f.Architecture, Compressed: int64(f.Compressed()), Uncompressed: int64(f.Uncompressed()),
		Layers: f.Layers, Packages: f.usage(db)}
	for _, e := range f.entries {
		r.Counts.add(e)
		if e.Type == File && (e.Mode&0o6000 != 0 || e.Capability() != "") {
			r.Privileged = append(r.Privileged, Privileged{e.Path, e.mode(), e.owner(), e.Capability(), db.owner(e.Path)})
		}
		if e.Type == File && e.isFirstName() {
			r.Largest = append(r.Largest, FileUsage{e.Path, e.Size, db.owner(e.Path)})
		}
	}
	r.Counts.Packages = len(db.packages)
	slices.SortFunc(r.Largest, func(a, b FileUsage) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Path, b.Path))
	})
	r.Largest = slices.Clip(r.Largest[:min(largestFiles, len(r.Largest))])
	return r
}

// isFirstName reports whether e is to be counted: a file with several names is once.
func (e *Entry) isFirstName() bool { return e.Inode == "" || e.Inode == e.Path }

func (c *Counts) add(e *Entry) {
	switch {
	case e.Type == Directory:
		c.Directories++
	case !e.isFirstName():
		c.HardLinks++
	case e.Type == File:
		c.Files++
	case e.Type == Symlink:
		c.Links++
	default:
		c.Others++
	}
	if e.ELF != nil && e.isFirstName() {
		c.ELF++
	}
}

// usage returns what each package takes, the largest first. Files that a
// package's scripts have made are of no package.
func (f *FS) usage(db *database) []PackageUsage {
	byName := make(map[string]*PackageUsage)
	for _, p := range db.packages {
		byName[p.Package] = &PackageUsage{Name: p.Package, Version: p.Version}
	}
	for _, e := range f.entries {
		if e.Type == Directory {
			continue
		}
		name := db.owner(e.Path)
		if byName[name] == nil {
			byName[name] = &PackageUsage{Name: name}
		}
		byName[name].Files++
		if e.isFirstName() {
			byName[name].Bytes += e.Size
		}
	}
	all := make([]PackageUsage, 0, len(byName))
	for _, u := range byName {
		all = append(all, *u)
	}
	slices.SortFunc(all, func(a, b PackageUsage) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	})
	return all
}
