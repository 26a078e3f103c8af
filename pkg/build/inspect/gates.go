package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// Gates are what an image may have although [FS.Check] refuses it in others. The
// zero value allows nothing, and has no bound for the size.
//
// Every list is of globs over absolute paths, in which * and ? match a slash as
// well and nothing else has a meaning. A path is its own glob.
type Gates struct {
	// MaxSize is how large the image may be.
	MaxSize MaxSize `yaml:"maxSize" json:"maxSize,omitzero"`
	// Setuid are files that may run as their owner or with their group, or that
	// may have capabilities.
	Setuid []string `yaml:"setuid" json:"setuid,omitempty"`
	// WorldWritable are directories that everybody may write to. They must have
	// the sticky bit, so that nobody can take away the files of others.
	WorldWritable []string `yaml:"worldWritable" json:"worldWritable,omitempty"`
	// Dangling are links that lead nowhere. Links to files of a running system,
	// below /proc, /sys, /dev and /run, need not be among them.
	Dangling []string `yaml:"dangling" json:"dangling,omitempty"`
	// Unowned are files that neither a package nor the spec brings, caches and logs
	// among them.
	Unowned []string `yaml:"unowned" json:"unowned,omitempty"`
	// MissingLibraries are programs, libraries and scripts that may lack what they
	// need: plugins for what is not in the image.
	MissingLibraries []string `yaml:"missingLibraries" json:"missingLibraries,omitempty"`
	// ForeignELF are programs and libraries for other machines.
	ForeignELF []string `yaml:"foreignELF" json:"foreignELF,omitempty"`
}

// MaxSize bounds the size of an image, the sum of its layers. Zero is no bound.
type MaxSize struct {
	Compressed   Size `yaml:"compressed" json:"compressed,omitempty"`     // bytes as they are pulled
	Uncompressed Size `yaml:"uncompressed" json:"uncompressed,omitempty"` // bytes of the tar archives
}

// Merge returns the gates of a variant, which with adds to those of its spec: what
// either allows is allowed, and a size of with replaces that of g.
func (g Gates) Merge(with Gates) Gates {
	if with.MaxSize.Compressed != 0 {
		g.MaxSize.Compressed = with.MaxSize.Compressed
	}
	if with.MaxSize.Uncompressed != 0 {
		g.MaxSize.Uncompressed = with.MaxSize.Uncompressed
	}
	added := with.lists()
	for i, l := range g.lists() {
		*l.globs = slices.Concat(*l.globs, *added[i].globs)
	}
	return g
}

// Validate says what is wrong with the gates, nil for nothing.
func (g Gates) Validate() error {
	for _, l := range g.lists() {
		for _, glob := range *l.globs {
			if err := checkGlob(glob); err != nil {
				return fmt.Errorf("%s: %w", l.gate, err)
			}
		}
	}
	return nil
}

// list is one of the lists of [Gates].
type list struct {
	gate  Gate
	globs *[]string
}

func (g *Gates) lists() []list {
	return []list{
		{GateSetuid, &g.Setuid}, {GateWorldWritable, &g.WorldWritable}, {GateDangling, &g.Dangling},
		{GateUnowned, &g.Unowned}, {GateMissingLibraries, &g.MissingLibraries}, {GateForeignELF, &g.ForeignELF},
	}
}

// checkGlob says what is wrong with a glob, nil for nothing.
func checkGlob(glob string) error {
	if !strings.HasPrefix(glob, "/") {
		return fmt.Errorf("glob %.200q: want one that starts with a slash", glob)
	}
	if strings.ContainsAny(glob, "[]\\\x00") {
		return fmt.Errorf("glob %.200q: only * and ? have a meaning, brackets and backslashes are not supported", glob)
	}
	return nil
}

// matchAny reports whether one of the globs matches the path.
func matchAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool { return match(glob, name) })
}

// match matches whole paths, as dpkg's path-exclude does: a star matches any
// number of bytes, slashes included. Only the last star seen is ever retried, so the
// time is at most the product of the lengths.
func match(glob, s string) bool {
	star, retry := -1, 0
	g, i := 0, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, retry = g, i
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == s[i]):
			g++
			i++
		case star >= 0:
			retry++
			g, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
