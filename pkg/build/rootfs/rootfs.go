// Package rootfs makes the file system of an image from Debian packages,
// without root, chroot, emulation or the packages' maintainer scripts.
//
// [Assemble] unpacks the packages, lays them over each other as dpkg would, and
// then writes down what maintainer scripts leave behind: accounts, configuration
// files, enabled units, the dynamic linker's cache, certificate links,
// alternatives, dpkg's database. All of it is a function of the packages and the
// [Config]: no clock, locale, user or core count has a say, and amd64 builds
// arm64 as well as itself.
//
// The rules come from what the tools are known to do and from what the scripts
// say in plain sight (package maint). What a package needs beyond them is said in
// the Config: numbers of accounts, owners, copies, links. That nothing is
// forgotten is proved by a comparison with a system on which dpkg has run the
// scripts, less the [Residue].
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Version changes whenever the same input gives other bytes, so that nothing
// made by an older one is taken for new.
const Version = 2

// Config says what to make of the packages.
type Config struct {
	Arch    string    // Debian's name: "amd64" or "arm64"
	Created time.Time // no file is younger; generated ones have exactly this time

	// Exclude and Keep are globs over absolute paths, in which * and ? match a
	// slash as well (dpkg's path-exclude and path-include). Keep wins.
	Exclude, Keep []string

	Groups       []Group
	Users        []User
	Directories  []Directory
	Files        []File
	Links        []Link
	Alternatives []Alternative
}

// Group is a group beyond those of base-passwd.
type Group struct {
	Name    string   `yaml:"name" json:"name"`
	GID     int      `yaml:"gid" json:"gid"`
	Members []string `yaml:"members" json:"members,omitempty"`
}

// User is a user beyond those of base-passwd. Nobody can log in as one.
type User struct {
	Name    string `yaml:"name" json:"name"`
	UID     int    `yaml:"uid" json:"uid"`
	GID     int    `yaml:"gid" json:"gid"`
	Comment string `yaml:"comment" json:"comment,omitempty"`
	Home    string `yaml:"home" json:"home,omitempty"`   // "": /nonexistent
	Shell   string `yaml:"shell" json:"shell,omitempty"` // "": /usr/sbin/nologin
}

// Owner is who a path belongs to and what may be done with it. Every field may be empty.
type Owner struct {
	Mode  string `yaml:"mode" json:"mode,omitempty"`   // octal; "": 0755 for directories, 0644 for files
	User  string `yaml:"user" json:"user,omitempty"`   // by name; "": root
	Group string `yaml:"group" json:"group,omitempty"` // by name; "": root
}

// Directory is a directory that must be there. One that a package ships gets this owner and mode.
type Directory struct {
	Path  string `yaml:"path" json:"path"`
	Owner `yaml:",inline"`
}

// File is a file beyond those of the packages: a copy of one of them, or Content.
type File struct {
	Path    string `yaml:"path" json:"path"`
	Copy    string `yaml:"copy" json:"copy,omitempty"`       // absolute path in the image
	Content string `yaml:"content" json:"content,omitempty"` // with Copy empty; may be empty too
	Owner   `yaml:",inline"`
}

// Link is a symbolic link.
type Link struct {
	Path   string `yaml:"path" json:"path"`
	Target string `yaml:"target" json:"target"` // as the link says it: absolute or relative
}

// Alternative is one choice of what Link means, as update-alternatives(1)
// installs it. Of several with one Name, that of the highest Priority is taken.
type Alternative struct {
	Name     string  `yaml:"name" json:"name"`
	Link     string  `yaml:"link" json:"link"`
	Path     string  `yaml:"path" json:"path"`
	Priority int     `yaml:"priority" json:"priority"`
	Slaves   []Slave `yaml:"slaves" json:"slaves,omitempty"`
}

// Slave is a link that follows an [Alternative]. It is left out when Path is not in the image.
type Slave struct {
	Name string `yaml:"name" json:"name"`
	Link string `yaml:"link" json:"link"`
	Path string `yaml:"path" json:"path"`
}

// Package is a package to unpack.
type Package struct {
	Name    string
	Version string
	File    string // where the .deb is on disk
}

// Assemble makes the tree of pkgs, which are laid over each other in their
// order. dir is where the packages' files are held until the tree is closed, in
// files that have no name. The capacity of slots, at least 1, bounds how many
// packages are unpacked at once, over all calls that share it.
func Assemble(ctx context.Context, cfg Config, pkgs []Package, dir string, slots chan struct{}) (*Tree, error) {
	if _, ok := machines[cfg.Arch]; !ok {
		return nil, fmt.Errorf("assemble: architecture %q: want amd64 or arm64", cfg.Arch)
	}
	if cap(slots) == 0 {
		return nil, errors.New("assemble: slots without room: nothing could be unpacked")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	filter, err := newFilter(cfg.Exclude, cfg.Keep)
	if err != nil {
		return nil, err
	}
	u := &unpacker{filter: filter, dir: dir, slots: slots}
	defer u.release()
	unpacked, err := u.unpackAll(ctx, pkgs)
	if err != nil {
		u.close()
		return nil, err
	}
	t, err := merge(unpacked)
	if err == nil {
		t.spools = u.spools
		err = t.configure(cfg, unpacked, filter)
	}
	if err != nil {
		u.close()
		return nil, err
	}
	return t, nil
}

// configure does what the packages' maintainer scripts would. The order matters:
// owners need accounts, what scripts leave alone must be there before them, the
// Config's files come last of all, and the database and the linker's cache name
// what is left after pruning.
func (t *Tree) configure(cfg Config, pkgs []*unpacked, filter *filter) error {
	t.created = cfg.Created
	accounts, err := t.writeAccounts(cfg)
	if err != nil {
		return err
	}
	t.resolveOwners(accounts)
	scripts, err := readScripts(pkgs)
	if err != nil {
		return err
	}
	steps := []func() error{
		t.writeDefaults,
		t.writeShells,
		t.writeCertificates,
		t.writePAM,
		func() error { return t.runScripts(scripts, accounts) },
		func() error { return t.writeSpec(cfg, accounts) },
		func() error { return t.writeAlternatives(cfg.Alternatives, t.scriptedAlternatives(scripts)) },
		func() error { t.prune(cfg, filter); return nil },
		t.linkUsr,
		func() error { return t.writeDatabase(cfg, pkgs, filter) },
		func() error { return t.writeLinkerCache(cfg.Arch) },
		t.checkEntries,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	t.Licenses = licenses(pkgs)
	return nil
}
