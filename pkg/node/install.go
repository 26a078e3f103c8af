package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Plan is what [Store.Install] would do.
type Plan struct {
	Action Action `json:"action"`
	Digest string `json:"digest"`
	// Generation is the one that would be active afterwards.
	Generation int          `json:"generation"`
	Files      []FileAction `json:"files"` // sorted by path
}

// Action is what happens to the machine.
type Action string

// The actions of a plan.
const (
	DoNothing  Action = "nothing"  // this bundle is active, every file as it was signed
	DoInstall  Action = "install"  // it is written and becomes active
	DoActivate Action = "activate" // it is there, complete and intact, and becomes active
	DoRepair   Action = "repair"   // it is active, but was changed on disk: it is written again
	DoRelink   Action = "relink"   // it is active and intact, only links into it are missing
)

// FileAction is what happens to one path.
type FileAction struct {
	Path   string `json:"path"`
	Action string `json:"action"` // "add", "replace", "keep" or "remove"
}

func (s *Store) plan(ctx context.Context, src source) (p Plan, err error) {
	err = s.read(ctx, func(st *state) error {
		p, _, err = st.decide(s.candidate(src))
		return err
	})
	return p, err
}

func (s *Store) install(ctx context.Context, src source) (Generation, error) {
	var g Generation
	err := s.change(ctx, func(st *state) (func() error, error) {
		p, next, err := st.decide(s.candidate(src))
		if err != nil {
			return nil, err
		}
		g = next
		return func() error {
			if err := st.apply(ctx, p.Action, g, src); err != nil {
				return err
			}
			s.log().Info("installed", "action", p.Action, "generation", g.ID, "digest", g.Digest, "source", g.Source)
			return nil
		}, nil
	})
	return done(g, err, "install "+src.digest)
}

// done keeps the generation in the one case where it is active despite an error.
func done(g Generation, err error, what string) (Generation, error) {
	var u *Unfinished
	switch {
	case err == nil:
		return g, nil
	case errors.As(err, &u):
		return g, fmt.Errorf("%s: %w", what, err)
	}
	return Generation{}, fmt.Errorf("%s: %w", what, err)
}

// candidate is the generation that src would become, without its place in history.
func (s *Store) candidate(src source) Generation {
	g := Generation{Digest: src.digest, Repository: src.repository, Source: src.from, Installed: s.now(), Bundle: src.bundle}
	if s.UnsafeOwners {
		g.Bundle.Files = slices.Clone(g.Bundle.Files)
		for i := range g.Bundle.Files {
			g.Bundle.Files[i].UID, g.Bundle.Files[i].GID = uint32(os.Geteuid()), uint32(os.Getegid())
		}
	}
	return g
}

// decide compares g with the store: it returns what to do, and the generation
// that is active afterwards. It refuses what cannot be done.
func (st *state) decide(g Generation) (Plan, Generation, error) {
	if err := st.disk.who.checkOwners(g.Bundle.Files); err != nil {
		return Plan{}, Generation{}, err
	}
	if err := st.checkLinks(g); err != nil {
		return Plan{}, Generation{}, err
	}
	action, next, err := st.choose(g)
	if err != nil {
		return Plan{}, Generation{}, err
	}
	return Plan{Action: action, Digest: g.Digest, Generation: next.ID, Files: st.fileActions(next)}, next, nil
}

// choose finds the least that makes g active, and the generation that then is.
func (st *state) choose(g Generation) (Action, Generation, error) {
	action := DoInstall
	g.ID, g.Previous = st.next(), st.current
	if active, ok := st.generations[st.current]; ok && sameContent(active, g) {
		changes, err := st.changes(active)
		switch {
		case err != nil:
			return "", Generation{}, err
		case len(changes) > 0: // the new one takes its place in history
			action, g.Previous = DoRepair, active.Previous
		case len(st.linkChanges(active)) > 0:
			return DoRelink, active, nil
		default:
			return DoNothing, active, nil
		}
	}
	// A call that was killed before its last step, or a roll-back, may have left it.
	for _, id := range st.ids() {
		old := st.generations[id]
		if id == st.current || old.Previous != g.Previous || !sameContent(old, g) {
			continue
		}
		if changes, err := st.changes(old); err == nil && len(changes) == 0 {
			return DoActivate, old, nil
		}
	}
	return action, g, nil
}

// sameContent reports whether two generations are the same bundle with the same
// owners, which [Store.UnsafeOwners] may have changed.
func sameContent(a, b Generation) bool {
	return a.Digest == b.Digest && slices.Equal(a.Bundle.Files, b.Bundle.Files)
}

func (st *state) fileActions(next Generation) []FileAction {
	old := map[string]content.File{}
	for _, f := range st.generations[st.current].Bundle.Files {
		old[f.Path] = f
	}
	var all []FileAction
	for _, f := range next.Bundle.Files {
		action := "add"
		if was, ok := old[f.Path]; ok {
			action = "replace"
			if was == f {
				action = "keep"
			}
		}
		delete(old, f.Path)
		all = append(all, FileAction{Path: f.Path, Action: action})
	}
	for p := range old {
		all = append(all, FileAction{Path: p, Action: "remove"})
	}
	slices.SortFunc(all, func(a, b FileAction) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// apply does what was decided.
func (st *state) apply(ctx context.Context, a Action, g Generation, src source) error {
	switch a {
	case DoNothing: // the call that made it active may have been killed before this
		return st.disk.syncDir(storeDir)
	case DoInstall, DoRepair:
		if err := st.write(ctx, g, src); err != nil {
			return err
		}
		err := st.activate(g)
		if err != nil && st.current != g.ID {
			err = errors.Join(err, st.discard(g.ID))
		}
		return err
	}
	return st.activate(g)
}

func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now().UTC().Truncate(time.Second)
	}
	return s.Now().UTC().Truncate(time.Second)
}
