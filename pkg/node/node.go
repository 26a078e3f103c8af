// Package node puts a verified bundle on a machine, and takes it back.
//
// Each installed bundle is a generation: a directory with every file of it and
// a record of what they must be. One symbolic link says which generation is
// active, so that all files change at once and a crash, also a power cut,
// leaves all old ones or all new ones:
//
//	/var/lib/imgctl/lock
//	/var/lib/imgctl/current -> generations/2
//	/var/lib/imgctl/generations/2/generation.json
//	/var/lib/imgctl/generations/2/tree/etc/systemd/system/kubelet.service
//	/etc/systemd/system/kubelet.service -> ../../../var/lib/imgctl/current/tree/etc/systemd/system/kubelet.service
//
// The order of an installation is: write and sync the generation, make the
// links that are missing (they dangle, or lead into the old generation, until
// then), rename current, remove the links that nobody needs any more. Every
// call that changes something first finishes or undoes what a killed one left.
//
// A path that exists and is not such a link belongs to somebody else and is
// never replaced, not even by equal bytes. Directories that a link needs are
// made and stay.
//
// The package does not verify signatures: its only key is a [verify.Verified].
// It starts and reloads nothing; that is for whoever called it.
package node

import (
	"log/slog"
	"time"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Store is the generations of one machine. Its zero value is this machine's.
// Calls exclude each other, also between processes, except [Store.List] and
// [Store.Status], which only read.
type Store struct {
	// Root is the directory that all paths are below. Default "/". It must exist.
	Root string
	// Machine is what this machine is. Of an index, its bundle is taken; a single
	// bundle must be for it as far as it is given.
	Machine content.Machine
	// Now is the time that is recorded. Default [time.Now].
	Now func() time.Time
	// Log is told what was changed, and whom a call waits for. Default: nobody.
	Log *slog.Logger
	// UnsafeOwners gives files to the caller instead of to their listed owners,
	// to look at a bundle without being root. Never for a machine that runs it.
	UnsafeOwners bool

	trap trap // tests only
}

// Generation is one installed bundle. A complete one is never changed.
type Generation struct {
	ID         int       `json:"id"`         // counts up from 1
	Digest     string    `json:"digest"`     // of the bundle's manifest, "sha256:…"
	Repository string    `json:"repository"` // the name that the policy knows it by
	Source     string    `json:"source"`     // the repository or directory that was asked first for the bytes
	Installed  time.Time `json:"installed"`  // UTC
	// Previous is the generation that was active when this one was installed: the
	// one that [Store.Rollback] goes to. 0 when there was none.
	Previous int `json:"previous,omitempty"`
	// Bundle says what the files must be, as the bundle's author listed them. Only
	// [Store.UnsafeOwners] makes it differ, in the owners.
	Bundle content.Bundle `json:"bundle"`
}

// Change is one difference between a generation's record and the disk.
type Change struct {
	Path string `json:"path"`
	What string `json:"what"` // "file", "link", "content", "size", "mode" or "owner"
	Got  string `json:"got"`
	Want string `json:"want"`
}

// String says the change in one line.
func (c Change) String() string {
	return c.What + " of " + c.Path + ": got " + c.Got + ", want " + c.Want
}

// Status is what is on the machine now.
type Status struct {
	Current  *Generation `json:"current"`           // nil when nothing is installed
	Previous *Generation `json:"previous"`          // what Rollback would go to; nil when there is none
	Changes  []Change    `json:"changes,omitempty"` // differences of Current, found by hashing every file
}
