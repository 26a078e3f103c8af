package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// willWrite implements [backend]. A directory is made once there is something to put in.
func (l *layout) willWrite() {}

// place implements [backend].
func (l *layout) place() string { return l.name }

// remote implements [backend].
func (l *layout) remote() bool { return false }

// pause implements [backend]: what is written is there.
func (l *layout) pause(context.Context, time.Duration) error { return nil }

// mountBlob implements [backend]: a directory is one repository.
func (l *layout) mountBlob(context.Context, v1.Descriptor, backend) (bool, error) { return false, nil }

// replaceManifest implements [backend]: [layout.exclusive] keeps others out.
func (l *layout) replaceManifest(ctx context.Context, tag string, m *Manifest, _ string) error {
	return l.putManifest(ctx, tag, m)
}

// putBlob implements [backend]. What open gives has been verified by its end.
func (l *layout) putBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if err := l.prepare(); err != nil {
		return err
	}
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := atomicfile.Write(l.path(blobPath(d.Digest)), 0o644, &stoppable{ctx: ctx, r: rc}); err != nil {
		return &fault{kind: other, op: "write blob", object: object(l.name, d.Digest.String()), err: err}
	}
	return nil
}

// stoppable ends a copy when its context does.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// putManifest implements [backend]. Under a digest only the file is written:
// index.json lists what has a tag, and what [layout.keep] was asked to keep.
func (l *layout) putManifest(_ context.Context, ref string, m *Manifest) error {
	if err := l.prepare(); err != nil {
		return err
	}
	path := l.path(blobPath(m.Descriptor.Digest))
	// A whole file that is there stays: a rewrite would cost two syncs.
	if old, err := l.readFile("read", ref, blobPath(m.Descriptor.Digest)); err != nil || !bytes.Equal(old, m.Body) {
		if err := atomicfile.WriteBytes(path, 0o644, m.Body); err != nil {
			return &fault{kind: other, op: "write manifest", object: object(l.name, ref), err: err}
		}
	}
	if _, err := ParseDigest(ref); err == nil {
		return nil
	}
	return l.change(ref, func(ds []v1.Descriptor) []v1.Descriptor {
		ds = slices.DeleteFunc(ds, func(d v1.Descriptor) bool {
			tag, tagged := d.Annotations[annotRefName]
			return tagged && tag == ref || !tagged && d.Digest == m.Descriptor.Digest
		})
		d := m.Descriptor
		d.Annotations = map[string]string{annotRefName: ref}
		return append(ds, d)
	})
}

// keep implements [backend].
func (l *layout) keep(_ context.Context, m *Manifest) error {
	has := func(d v1.Descriptor) bool { return d.Digest == m.Descriptor.Digest }
	if ix, err := l.index("read", layoutIndex); err == nil && slices.ContainsFunc(ix.Manifests, has) {
		return nil
	}
	return l.change(m.Descriptor.Digest.String(), func(ds []v1.Descriptor) []v1.Descriptor {
		if slices.ContainsFunc(ds, has) {
			return ds
		}
		return append(ds, m.Descriptor)
	})
}

// exclusive implements [backend], for all processes on this machine.
func (l *layout) exclusive(tag string, change func() error) error {
	if err := l.prepare(); err != nil {
		return err
	}
	unlock, err := l.turn.Lock()
	if err != nil {
		return &fault{kind: other, op: "lock", object: object(l.name, tag), err: err}
	}
	defer unlock()
	return change()
}

// index reads index.json. ref is what is looked for, for errors.
func (l *layout) index(op, ref string) (*v1.IndexManifest, error) {
	body, err := l.readFile(op, ref, layoutIndex)
	if err != nil {
		return nil, err
	}
	ix, err := parseLayoutIndex(body)
	if err != nil {
		return nil, &fault{kind: malformed, op: "parse", object: filepath.Join(l.dir, layoutIndex), err: err}
	}
	return ix, nil
}

// parseLayoutIndex is stricter than image-spec in one thing: a tag is there once.
func parseLayoutIndex(body []byte) (*v1.IndexManifest, error) {
	m, err := parseManifest(body, "")
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		return nil, errNoIndex
	}
	var ix v1.IndexManifest
	if err := json.Unmarshal(body, &ix); err != nil {
		return nil, err
	}
	if err := checkDescriptors(ix.Manifests, MaxEntries); err != nil {
		return nil, err
	}
	tags := make(map[string]bool)
	for _, d := range ix.Manifests {
		tag, tagged := d.Annotations[annotRefName]
		if tagged && tags[tag] {
			return nil, fmt.Errorf("tag %q is there twice", clip(sanitize(tag)))
		}
		tags[tag] = tagged
	}
	return &ix, nil
}

// change rewrites index.json, with its entries sorted so that the same content
// gives the same file whatever the order of arrival.
func (l *layout) change(ref string, edit func([]v1.Descriptor) []v1.Descriptor) error {
	if err := l.prepare(); err != nil {
		return err
	}
	fail := func(err error) error {
		return &fault{kind: other, op: "write " + layoutIndex + " for", object: object(l.name, ref), err: err}
	}
	unlock, err := l.lock.Lock()
	if err != nil {
		return fail(err)
	}
	defer unlock()
	ix, err := l.index("read", ref)
	if NotFound(err) {
		ix, err = &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, nil
	}
	if err != nil {
		return err
	}
	ix.Manifests = edit(ix.Manifests)
	slices.SortStableFunc(ix.Manifests, func(a, b v1.Descriptor) int {
		return cmp.Or(cmp.Compare(a.Annotations[annotRefName], b.Annotations[annotRefName]), cmp.Compare(a.Digest.Hex, b.Digest.Hex))
	})
	body, err := json.Marshal(ix)
	if err != nil {
		return fail(err)
	}
	if err := atomicfile.WriteBytes(l.path(layoutIndex), 0o644, append(body, '\n')); err != nil {
		return fail(err)
	}
	return nil
}

// prepare makes the directories and the file that names the format.
func (l *layout) prepare() error {
	l.once.Do(func() {
		if l.onceErr = os.MkdirAll(l.path(layoutBlobs), 0o755); l.onceErr != nil {
			return
		}
		if _, err := os.Stat(l.path(layoutFile)); err != nil {
			l.onceErr = atomicfile.WriteBytes(l.path(layoutFile), 0o644, []byte(layoutBody))
		}
	})
	if l.onceErr != nil {
		return &fault{kind: other, op: "create", object: l.name, err: l.onceErr}
	}
	return nil
}

func (l *layout) path(p string) string { return filepath.Join(l.dir, filepath.FromSlash(p)) }
