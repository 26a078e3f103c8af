package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// maxRewrites is how often a tag is read while others write it, too.
	maxRewrites = 40
	// settling is the shortest pause before a tag that was written is read again.
	settling = 100 * time.Millisecond
)

// rewriting changes what a tag points at by reading and writing it, such that
// nothing is lost that others add at the same time.
//
// The specification has no way to do this in one step. Writers in this process
// take turns, in a directory those of all processes. A registry that gave an
// ETag is told to write only if it is still the same. Others ignore that, so
// the tag is read again, after a pause of twice what reading and writing took,
// until it stays as it was: whoever had read it before we wrote has written by
// then, and what he overwrote is added again.
type rewriting struct {
	repo *Repository
	tag  string
	// edit returns the successor of old, which is nil where there is no tag; it
	// returns nil when old has all that it should. It may be called many times.
	edit func(ctx context.Context, old *Manifest) (*Manifest, error)

	last   v1.Hash // what we wrote or saw
	wrote  bool
	stable bool // it has all that it should, and stays
	pause  time.Duration
}

// rewrite changes a tag. Where that has to settle, it does so beside all else:
// see [delivery.settled].
func (d *delivery) rewrite(ctx context.Context, tag string, edit func(ctx context.Context, old *Manifest) (*Manifest, error)) error {
	w := &rewriting{repo: d.repo, tag: tag, edit: edit, pause: settling}
	for range maxRewrites {
		if err := d.repo.back.exclusive(tag, func() error { return w.step(ctx) }); err != nil {
			return err
		}
		if w.stable {
			return nil
		}
		if w.wrote {
			d.later(w)
			return nil
		}
		if err := w.yield(ctx); err != nil { // somebody else was faster
			return err
		}
	}
	return w.lost()
}

// settle looks again until what was written stays. It reports whether others had
// overwritten it.
func (w *rewriting) settle(ctx context.Context) (overwritten bool, err error) {
	rest := w.rest
	for range maxRewrites {
		if err := rest(ctx); err != nil {
			return overwritten, err
		}
		if err := w.repo.back.exclusive(w.tag, func() error { return w.step(ctx) }); err != nil || w.stable {
			return overwritten, err
		}
		overwritten, rest = true, w.yield
	}
	return overwritten, w.lost()
}

// rest waits until whoever had read the tag before we wrote it has written.
func (w *rewriting) rest(ctx context.Context) error {
	return w.repo.back.pause(ctx, w.pause)
}

// yield waits a little longer than that, so that writers who met do not meet again.
func (w *rewriting) yield(ctx context.Context) error {
	return w.repo.back.pause(ctx, w.pause+jitter(w.pause)/2)
}

func (w *rewriting) lost() error {
	return &fault{kind: other, op: "change", object: object(w.repo.name, w.tag), err: fmt.Errorf("other writers replaced it %d times", maxRewrites)}
}

// step reads the tag, and writes what it lacks.
func (w *rewriting) step(ctx context.Context) error {
	start := time.Now()
	old, etag, err := w.repo.version(ctx, w.tag)
	if err != nil {
		return err
	}
	m, err := w.edit(ctx, old)
	switch {
	case err != nil:
		return err
	case m == nil:
		if w.stable = !w.wrote; !w.stable {
			w.stable, w.last = old.Descriptor.Digest == w.last, old.Descriptor.Digest
		}
		return nil
	}
	err = w.repo.back.replaceManifest(ctx, w.tag, m, etag)
	switch {
	case lostRace(err):
		return nil
	case err != nil:
		return err
	}
	w.last, w.wrote = m.Descriptor.Digest, true
	w.stable = !w.repo.back.remote() // nobody else could write
	w.pause = max(w.pause, min(2*time.Since(start), 10*time.Second))
	return nil
}

// version reads what a tag points at, nil where there is no tag, and its ETag.
func (r *Repository) version(ctx context.Context, tag string) (*Manifest, string, error) {
	doc, err := r.back.manifest(ctx, tag)
	if NotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	m, err := r.parse(doc, tag)
	return m, doc.etag, err
}

// lostRace reports whether a registry has refused to replace what another
// writer has changed.
func lostRace(err error) bool {
	var answer *statusError
	return errors.As(err, &answer) && answer.code == http.StatusPreconditionFailed
}

// lateTag is how often a tag is looked at after it was moved: pauses of 0.25 s,
// 0.5 s, … together half a minute.
const lateTag = 8

// shows waits until the tag points at want. A registry may have taken the write
// and answer from a cache, or from a replica, for a while.
func (r *Repository) shows(ctx context.Context, tag string, was, want v1.Hash) error {
	if !r.back.remote() {
		return nil
	}
	for try := range lateTag {
		if try > 0 {
			if err := r.back.pause(ctx, 250*time.Millisecond<<(try-1)); err != nil {
				return err
			}
		}
		at, err := r.Resolve(ctx, tag)
		switch {
		case NotFound(err):
		case err != nil:
			return err
		case at.Digest == want:
			return nil
		case at.Digest != was: // somebody else has moved it in the meantime
			return &Changed{Repository: r.name, Tag: tag, Got: at.Digest, Want: want}
		}
	}
	found := was.String()
	if was == (v1.Hash{}) {
		found = "no such tag"
	}
	return &fault{kind: other, op: "tag", object: object(r.name, tag), err: fmt.Errorf("the registry took it and does not show it: got %s, want %s", found, want)}
}
