package build

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// LockDiff is how a lock differs from an older one: what an update brings. All
// lists are sorted, so that the same locks give the same bytes.
type LockDiff struct {
	Kubernetes []VersionDiff `json:"kubernetes,omitempty"`
	Suites     []SuiteDiff   `json:"suites,omitempty"`
	Packages   []PackageDiff `json:"packages,omitempty"`
	Local      []FileDiff    `json:"local,omitempty"`
	Images     []ImageDiff   `json:"images,omitempty"` // every one that both have packages for
	// Unknown says what could not be asked, and is therefore missing above.
	Unknown []string `json:"unknown,omitempty"`
}

// Empty reports whether both locks mean the same bytes. That a suite has another
// date does not count: it is published again every few hours.
func (d LockDiff) Empty() bool { return len(d.Kubernetes)+len(d.Packages)+len(d.Local) == 0 }

// Change is what became of something that is locked.
type Change string

// The changes, as [LockDiff] has them.
const (
	Added      Change = "added"
	Removed    Change = "removed"
	Updated    Change = "updated"
	Downgraded Change = "downgraded"
	Replaced   Change = "replaced" // other bytes under the same version or name
)

// VersionDiff is a release of Kubernetes that changed.
type VersionDiff struct {
	Change Change `json:"change"`
	Asked  string `json:"asked,omitempty"` // the channel, when the spec names one
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
}

// SuiteDiff is a suite of which Debian has another state. Old or New is "" when
// only the other lock has the suite.
type SuiteDiff struct {
	Suite string `json:"suite"`
	Old   string `json:"old,omitempty"` // the state's time, in RFC 3339
	New   string `json:"new,omitempty"`
}

// PackageDiff is a Debian package that changed, in the same way in all Images.
type PackageDiff struct {
	Change   Change `json:"change"`
	Name     string `json:"name"`
	Source   string `json:"source"`
	Old      string `json:"old,omitempty"` // version
	New      string `json:"new,omitempty"`
	Security bool   `json:"security,omitempty"` // the new version is from the archive of security updates
	// CVEs are the vulnerabilities that the package's changelog names for versions
	// above Old. Only [Locker.Check] and [Locker.Explain] look.
	CVEs   []string      `json:"cves,omitempty"`
	Images []PackageSize `json:"images"`
}

// PackageSize is a changed package in one image. Sizes are in bytes, of the
// package file.
type PackageSize struct {
	Variant  string `json:"variant,omitempty"`
	Platform string `json:"platform"`
	Old      int64  `json:"old"`
	New      int64  `json:"new"`
}

// FileDiff is a file beside the spec that changed.
type FileDiff struct {
	Change Change `json:"change"`
	Name   string `json:"name"`
	Old    int64  `json:"old"` // bytes
	New    int64  `json:"new"`
}

// ImageDiff is what all packages of one image weigh, in bytes of package files.
type ImageDiff struct {
	Variant     string `json:"variant,omitempty"`
	Platform    string `json:"platform"`
	OldPackages int    `json:"oldPackages"`
	NewPackages int    `json:"newPackages"`
	Old         int64  `json:"old"`
	New         int64  `json:"new"`
}

// Diff compares two locks of one spec. It asks nobody: CVEs and Unknown are empty.
func Diff(old, new *Lock) LockDiff {
	d := LockDiff{Kubernetes: diffReleases(old.Upstream, new.Upstream), Suites: diffSuites(old.Debian.Suites, new.Debian.Suites), Local: diffFiles(old.Local, new.Local)}
	d.Packages, d.Images = diffPackages(old.Debian.Packages, new.Debian.Packages)
	return d
}

// diffReleases pairs the releases: those of the same channel, else of the same
// version, else of the same minor release.
func diffReleases(old, new []LockedUpstream) []VersionDiff {
	left, right := slices.Clone(old), slices.Clone(new)
	var diffs []VersionDiff
	for _, same := range []func(a, b LockedUpstream) bool{
		func(a, b LockedUpstream) bool { return a.Asked != "" && a.Asked == b.Asked },
		func(a, b LockedUpstream) bool { return a.Version == b.Version },
		func(a, b LockedUpstream) bool { return semver.MajorMinor(a.Version) == semver.MajorMinor(b.Version) },
	} {
		right = slices.DeleteFunc(right, func(b LockedUpstream) bool {
			i := slices.IndexFunc(left, func(a LockedUpstream) bool { return same(a, b) })
			if i < 0 {
				return false
			}
			if change := releaseChange(left[i], b); change != "" {
				diffs = append(diffs, VersionDiff{Change: change, Asked: b.Asked, Old: left[i].Version, New: b.Version})
			}
			left = slices.Delete(left, i, i+1)
			return true
		})
	}
	for _, a := range left {
		diffs = append(diffs, VersionDiff{Change: Removed, Asked: a.Asked, Old: a.Version})
	}
	for _, b := range right {
		diffs = append(diffs, VersionDiff{Change: Added, Asked: b.Asked, New: b.Version})
	}
	slices.SortFunc(diffs, func(a, b VersionDiff) int {
		return semver.Compare(cmp.Or(b.New, b.Old), cmp.Or(a.New, a.Old)) // the newest first
	})
	return diffs
}

// releaseChange says how a release differs from the older one; "" when it does not.
func releaseChange(old, new LockedUpstream) Change {
	switch c := semver.Compare(new.Version, old.Version); {
	case c > 0:
		return Updated
	case c < 0:
		return Downgraded
	}
	for platform, pins := range new.Files {
		for _, p := range pins {
			if was, ok := old.pin(platform, p.Path); ok && otherBytes(was, p) {
				return Replaced
			}
		}
	}
	return ""
}

// otherBytes reports whether no file could meet both pins.
func otherBytes(a, b upstream.Pin) bool {
	return a.SHA256 != "" && b.SHA256 != "" && a.SHA256 != b.SHA256 || a.SHA512 != "" && b.SHA512 != "" && a.SHA512 != b.SHA512
}

func diffSuites(old, new []LockedSuite) []SuiteDiff {
	const layout = "2006-01-02T15:04:05Z"
	states := make(map[string]*SuiteDiff)
	at := func(name string) *SuiteDiff {
		if states[name] == nil {
			states[name] = &SuiteDiff{Suite: name}
		}
		return states[name]
	}
	for _, s := range old {
		at(s.Suite).Old = s.Date.UTC().Format(layout)
	}
	for _, s := range new {
		at(s.Suite).New = s.Date.UTC().Format(layout)
	}
	var diffs []SuiteDiff
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if s := states[name]; s.Old != s.New {
			diffs = append(diffs, *s)
		}
	}
	return diffs
}

func diffFiles(old, new []LockedFile) []FileDiff {
	var diffs []FileDiff
	for _, f := range new {
		i := slices.IndexFunc(old, func(o LockedFile) bool { return o.Name == f.Name })
		switch {
		case i < 0:
			diffs = append(diffs, FileDiff{Change: Added, Name: f.Name, New: f.Size})
		case old[i].SHA256 != f.SHA256:
			diffs = append(diffs, FileDiff{Change: Replaced, Name: f.Name, Old: old[i].Size, New: f.Size})
		}
	}
	for _, o := range old {
		if !slices.ContainsFunc(new, func(f LockedFile) bool { return o.Name == f.Name }) {
			diffs = append(diffs, FileDiff{Change: Removed, Name: o.Name, Old: o.Size})
		}
	}
	slices.SortFunc(diffs, func(a, b FileDiff) int { return strings.Compare(a.Name, b.Name) })
	return diffs
}

// diffPackages compares the packages of every image that both locks have.
func diffPackages(old, new map[string]map[string][]LockedPackage) ([]PackageDiff, []ImageDiff) {
	var diffs []PackageDiff
	var images []ImageDiff
	for _, key := range slices.Sorted(maps.Keys(new)) {
		for _, platform := range slices.Sorted(maps.Keys(new[key])) {
			was, is := old[key][platform], new[key][platform]
			if was == nil {
				continue
			}
			images = append(images, ImageDiff{Variant: variantOf(key), Platform: platform,
				OldPackages: len(was), NewPackages: len(is), Old: weight(was), New: weight(is)})
			for _, d := range diffImage(was, is) {
				d.Images[0].Variant, d.Images[0].Platform = variantOf(key), platform
				diffs = gather(diffs, d)
			}
		}
	}
	slices.SortStableFunc(diffs, func(a, b PackageDiff) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), deb.CompareVersions(a.Old, b.Old), deb.CompareVersions(a.New, b.New))
	})
	return diffs, images
}

// variantOf is the inverse of [lockKey].
func variantOf(key string) string {
	if key == defaultVariant {
		return ""
	}
	return key
}

func weight(packages []LockedPackage) int64 {
	var size int64
	for _, p := range packages {
		size += p.Size
	}
	return size
}

// gather adds d to those that say the same of other images.
func gather(diffs []PackageDiff, d PackageDiff) []PackageDiff {
	i := slices.IndexFunc(diffs, func(o PackageDiff) bool {
		return o.Name == d.Name && o.Change == d.Change && o.Old == d.Old && o.New == d.New && o.Security == d.Security
	})
	if i < 0 {
		return append(diffs, d)
	}
	diffs[i].Images = append(diffs[i].Images, d.Images...)
	return diffs
}

// diffImage compares the packages of one image.
func diffImage(old, new []LockedPackage) []PackageDiff {
	var diffs []PackageDiff
	for _, p := range new {
		was, there := findPackage(old, p.Name)
		if there && was.SHA256 == p.SHA256 {
			continue
		}
		d := PackageDiff{Change: Added, Name: p.Name, Source: p.Source, Old: was.Version, New: p.Version,
			Security: p.Archive == deb.Security, Images: []PackageSize{{Old: was.Size, New: p.Size}}}
		if there {
			d.Change = packageChange(was.Version, p.Version)
		}
		diffs = append(diffs, d)
	}
	for _, p := range old {
		if _, there := findPackage(new, p.Name); !there {
			diffs = append(diffs, PackageDiff{Change: Removed, Name: p.Name, Source: p.Source, Old: p.Version, Images: []PackageSize{{Old: p.Size}}})
		}
	}
	return diffs
}

func packageChange(old, new string) Change {
	switch c := deb.CompareVersions(new, old); {
	case c > 0:
		return Updated
	case c < 0:
		return Downgraded
	}
	return Replaced
}
