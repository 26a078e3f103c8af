package node

import (
	"context"
	"errors"
	"fmt"
	"path"
)

// Rollback makes the generation active that was active before the current one
// was installed. It needs no network. Every file of it is hashed first: one that
// was changed is a [*Damaged] error. [ErrNoPrevious] means that there is none.
// Errors write nothing, but for [*Unfinished], as in [Store.Install].
func (s *Store) Rollback(ctx context.Context) (Generation, error) {
	return s.activate(ctx, "roll back", func(st *state) (int, error) {
		g, err := st.active()
		if err != nil {
			return 0, err
		}
		if g.Previous == 0 {
			return 0, fmt.Errorf("generation %d: %w", g.ID, ErrNoPrevious)
		}
		return g.Previous, nil
	})
}

// Activate makes a generation of [Store.List] active, as [Store.Rollback] does.
func (s *Store) Activate(ctx context.Context, id int) (Generation, error) {
	return s.activate(ctx, fmt.Sprintf("activate generation %d", id), func(*state) (int, error) { return id, nil })
}

func (s *Store) activate(ctx context.Context, what string, which func(*state) (int, error)) (Generation, error) {
	var g Generation
	err := s.change(ctx, func(st *state) (func() error, error) {
		id, err := which(st)
		if err != nil {
			return nil, err
		}
		if g, err = st.usable(id); err != nil {
			return nil, err
		}
		return func() error {
			if err := st.activate(g); err != nil {
				return err
			}
			s.log().Info("activated", "generation", g.ID, "digest", g.Digest)
			return nil
		}, nil
	})
	return done(g, err, what)
}

// active is the active generation.
func (st *state) active() (Generation, error) {
	if st.current == 0 {
		return Generation{}, ErrNothingInstalled
	}
	return st.generation(st.current)
}

// usable returns a generation that could be made active: complete, every byte
// as it was installed, and no path of it taken by somebody else.
func (st *state) usable(id int) (Generation, error) {
	g, err := st.generation(id)
	if err != nil {
		return Generation{}, err
	}
	changes, err := st.changes(g)
	if err != nil {
		return Generation{}, err
	}
	if len(changes) > 0 {
		return Generation{}, &Damaged{ID: id, Changes: changes}
	}
	return g, st.checkLinks(g)
}

// activate makes a complete generation active. Before the switch it leaves, on
// an error, the links as they were; after it, the error is an [*Unfinished].
func (st *state) activate(g Generation) error {
	err := st.enable(g)
	if st.current != g.ID {
		return errors.Join(err, st.removeStale())
	}
	if err == nil {
		err = st.removeStale()
	}
	if err != nil {
		return &Unfinished{ID: g.ID, Err: err}
	}
	return nil
}

// enable is the order that makes it safe: what current will lead to, and what
// leads to current, is durable before current changes. That includes what a
// killed call has made and not synced, so it does not matter who made it.
func (st *state) enable(g Generation) error {
	if err := st.makeLinks(g); err != nil {
		return err
	}
	dirs := map[string]bool{}
	addUp(dirs, generationsDir, ".")
	for _, f := range g.Bundle.Files {
		addUp(dirs, path.Dir(rel(f.Path)), ".")
	}
	if err := st.disk.syncDirs(dirs); err != nil {
		return err
	}
	if st.current == g.ID { // a killed call may not have made that durable
		return st.disk.syncDir(storeDir)
	}
	return st.switchTo(g)
}

// recover undoes or finishes what a killed call left. There is nothing to write
// after one that ended.
func (st *state) recover() error {
	for _, name := range st.litter {
		if err := st.disk.removeAll(name); err != nil {
			return err
		}
	}
	return st.removeStale()
}

// discard removes a generation. It is no generation any more before the first of
// its files goes.
func (st *state) discard(id int) error {
	staging := stagingOf(id)
	if err := st.disk.removeAll(staging); err != nil {
		return err
	}
	if err := st.disk.rename(dirOf(id), staging); err != nil {
		return err
	}
	delete(st.generations, id)
	delete(st.broken, id)
	return st.disk.removeAll(staging)
}
