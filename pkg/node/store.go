package node

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// List returns the complete generations, newest first. It only reads.
func (s *Store) List(ctx context.Context) ([]Generation, error) {
	var all []Generation
	err := s.read(ctx, func(st *state) error {
		for _, id := range st.ids() {
			all = append(all, st.generations[id])
		}
		return nil
	})
	return all, err
}

// Status says what is active, what [Store.Rollback] would go to, and every
// difference between the disk and what was installed, found by hashing every
// byte: size and time stamps prove nothing (CATALOGUE N19). It only reads. A
// machine without a bundle is no error; an active generation whose record cannot
// be read is a [*Damaged].
func (s *Store) Status(ctx context.Context) (Status, error) {
	var status Status
	err := s.read(ctx, func(st *state) error {
		if st.current == 0 {
			return nil
		}
		g, err := st.active()
		if err != nil {
			return err
		}
		status.Current = &g
		if p, ok := st.generations[g.Previous]; ok {
			status.Previous = &p
		}
		changes, err := st.changes(g)
		status.Changes = append(changes, st.linkChanges(g)...)
		return err
	})
	return status, err
}

// Prune removes all but the newest keep generations, and those whose record
// cannot be used. The active one and the one that [Store.Rollback] would go to
// always stay. It returns what was removed, also together with an error.
func (s *Store) Prune(ctx context.Context, keep int) ([]Generation, error) {
	var removed []Generation
	err := s.change(ctx, func(st *state) (func() error, error) {
		g, err := st.active()
		if err != nil {
			return nil, err
		}
		return func() error {
			for _, id := range st.prunable(g, keep) {
				old := st.generations[id]
				if err := st.discard(id); err != nil {
					return err
				}
				removed = append(removed, old)
			}
			return st.disk.syncDir(generationsDir)
		}, nil
	})
	if err != nil {
		err = fmt.Errorf("prune generations: %w", err)
	}
	return removed, err
}

// prunable are the generations that Prune removes, oldest first.
func (st *state) prunable(active Generation, keep int) []int {
	ids := st.ids()
	old := slices.Clone(ids[min(max(keep, 0), len(ids)):])
	old = slices.AppendSeq(old, maps.Keys(st.broken)) // of no use to anybody
	old = slices.DeleteFunc(old, func(id int) bool { return id == active.ID || id == active.Previous })
	slices.Sort(old)
	return old
}

func (s *Store) read(ctx context.Context, fn func(*state) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := s.openDisk()
	if err != nil {
		return err
	}
	defer d.root.Close()
	st, err := load(d)
	if err != nil {
		return err
	}
	return fn(st)
}

func (s *Store) openDisk() (*disk, error) {
	root, err := os.OpenRoot(s.root())
	if err != nil {
		return nil, err
	}
	d := &disk{root: root, who: identity{uid: os.Geteuid(), groups: []int{os.Getegid()}}, trap: s.trap}
	if groups, err := os.Getgroups(); err == nil {
		d.who.groups = append(d.who.groups, groups...)
	}
	if s.trap.who != nil {
		d.who = *s.trap.who
	}
	return d, nil
}

func (s *Store) root() string {
	if s.Root == "" {
		return "/"
	}
	return s.Root
}

func (s *Store) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// identity is who this process is to the file system.
type identity struct {
	uid    int
	groups []int
}

// checkOwners fails unless each file can be given to its owner: root gives to
// anybody, others only to themselves (chown(2)).
func (w identity) checkOwners(files []content.File) error {
	if w.uid == 0 {
		return nil
	}
	for _, f := range files {
		if int(f.UID) != w.uid || !slices.Contains(w.groups, int(f.GID)) {
			return fmt.Errorf("give %s to %d:%d: got user %d, want root: %w", f.Path, f.UID, f.GID, w.uid, fs.ErrPermission)
		}
	}
	return nil
}
