package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/lockedfile"
)

const (
	layoutFile   = "oci-layout"
	layoutBody   = `{"imageLayoutVersion":"1.0.0"}`
	layoutIndex  = "index.json"
	layoutBlobs  = "blobs/sha256"
	annotRefName = "org.opencontainers.image.ref.name"
)

// layout is an OCI layout directory (image-spec 1.1, "Image Layout"), or, to read,
// an archive of one. Tags are the ref.name annotations of index.json, referrers
// are listed under their fallback tags, as regctl and others do.
//
// Blobs are written first and index.json last, each by a rename, so that a
// crash at any point leaves a valid layout. Several processes may write.
type layout struct {
	dir  string
	name string
	lock *lockedfile.Mutex // between processes and goroutines: who writes index.json
	turn *lockedfile.Mutex // the same: who changes a tag by reading and writing

	tar     archive   // where dir is a file
	once    sync.Once // makes the directories
	onceErr error
}

func newLayout(dir string) *layout {
	return &layout{
		dir: dir, name: layoutPrefix + dir,
		lock: lockedfile.MutexAt(filepath.Join(dir, ".index.lock")),
		turn: lockedfile.MutexAt(filepath.Join(dir, ".change.lock")),
	}
}

// open opens a regular file of the layout for reading. Links that lead out of
// it are not followed.
func (l *layout) open(op, ref, path string) (io.ReadCloser, int64, error) {
	from := openRegular
	if isRegular(l.dir) {
		from = l.tar.open
	}
	f, size, err := from(l.dir, path)
	switch {
	case err == nil:
		return f, size, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, &fault{kind: notFound, op: op, object: object(l.name, ref), err: err}
	default:
		return nil, 0, &fault{kind: unreachable, op: op, object: object(l.name, ref), err: err}
	}
}

func isRegular(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

func openRegular(dir, path string) (io.ReadCloser, int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not make us wait
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, fi.Size(), nil
}

// readFile reads a document of at most [MaxManifest] bytes.
func (l *layout) readFile(op, ref, path string) ([]byte, error) {
	f, size, err := l.open(op, ref, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > MaxManifest {
		return nil, badContent(op, object(l.name, ref), "got %d bytes, want at most %d", size, MaxManifest)
	}
	body, err := io.ReadAll(io.LimitReader(f, MaxManifest))
	if err != nil {
		return nil, &fault{kind: unreachable, op: op, object: object(l.name, ref), err: err}
	}
	return body, nil
}

func blobPath(h v1.Hash) string { return layoutBlobs + "/" + h.Hex }

// manifest implements [backend].
func (l *layout) manifest(_ context.Context, ref string) (*document, error) {
	const op = "get manifest"
	h, err := ParseDigest(ref)
	if err == nil {
		body, err := l.readFile(op, ref, blobPath(h))
		return &document{body: body}, err
	}
	d, err := l.find(op, ref)
	if err != nil {
		return nil, err
	}
	body, err := l.readFile(op, ref, blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if got := digestOf(body); got != d.Digest {
		return nil, &DigestError{Object: "manifest " + object(l.name, ref), What: "sha256", Got: got.String(), Want: d.Digest.String()}
	}
	return &document{body: body, contentType: string(d.MediaType)}, nil
}

// head implements [backend].
func (l *layout) head(ctx context.Context, ref string) (v1.Descriptor, error) {
	h, err := ParseDigest(ref)
	if err != nil {
		return l.find("look up manifest", ref)
	}
	doc, err := l.manifest(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	m, err := parseManifest(doc.body, "")
	if err != nil || m.Descriptor.Digest != h { // a broken file is like none: it is written again
		return v1.Descriptor{}, &fault{kind: notFound, op: "look up manifest", object: object(l.name, ref), err: fs.ErrNotExist}
	}
	return m.Descriptor, nil
}

// find returns the descriptor of a tag.
func (l *layout) find(op, tag string) (v1.Descriptor, error) {
	ix, err := l.index(op, tag)
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, d := range ix.Manifests {
		if d.Annotations[annotRefName] == tag {
			return v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest}, nil
		}
	}
	return v1.Descriptor{}, &fault{kind: notFound, op: op, object: object(l.name, tag), err: errors.New("no such tag")}
}

// blob implements [backend].
func (l *layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, _, err := l.open("get blob", d.Digest.String(), blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	return f, nil
}

// hasBlob implements [backend]. Files have their name only once they are
// whole, so name and size are enough.
func (l *layout) hasBlob(_ context.Context, d v1.Descriptor) (bool, error) {
	f, size, err := l.open("look up blob", d.Digest.String(), blobPath(d.Digest))
	if NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return size == d.Size, f.Close()
}

// referrers implements [backend]: a layout has only fallback tags.
func (l *layout) referrers(context.Context, v1.Hash) ([]v1.Descriptor, referrersAPI, error) {
	return nil, apiRefuses, nil
}
