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

// rewrite changes what a tag points at by reading and writing it, such that
// nothing is lost that others add at the same time. edit returns the successor
// of old, which is nil where there is no tag; it returns nil when old has all
// that it should. It may be called many times.
//
// The specification has no way to do this in one step. Writers in this process
// take turns, in a directory those of all processes. A registry that gave an
// ETag is told to write only if it is still the same. Others ignore that, so
// the tag is read again, after a pause several times as long as reading and
// writing took, until it stays as it was: whoever had read it before we wrote
// has written by then, and what he overwrote is added again.
func (r *Repository) rewrite(ctx context.Context, tag string, edit func(ctx context.Context, old *Manifest) (*Manifest, error)) error {
	return r.back.exclusive(tag, func() error {
		var last v1.Hash // what we wrote or saw
		var wrote bool
		pause := settling
		for range maxRewrites {
			start := time.Now()
			old, etag, err := r.version(ctx, tag)
			if err != nil {
				return err
			}
			m, err := edit(ctx, old)
			switch {
			case err != nil:
				return err
			case m == nil && (!wrote || old.Descriptor.Digest == last):
				return nil
			case m == nil:
				last = old.Descriptor.Digest
			default:
				err := r.back.replaceManifest(ctx, tag, m, etag)
				if err != nil && !lostRace(err) {
					return err
				}
				if err == nil && !r.back.remote() {
					return nil // nobody else could write
				}
				last, wrote = m.Descriptor.Digest, true
				pause = max(pause, min(4*time.Since(start), 10*time.Second))
			}
			if err := r.back.pause(ctx, pause+jitter(pause)/2); err != nil {
				return err
			}
		}
		return &fault{kind: other, op: "change", object: object(r.name, tag), err: fmt.Errorf("other writers replaced it %d times", maxRewrites)}
	})
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
