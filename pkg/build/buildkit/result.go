package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/build/layer"
)

// Bounds of what a worker may send, in bytes.
const (
	maxResult    = 16 << 30 // all of it, compressed
	maxLayer     = 32 << 30 // a layer, uncompressed
	maxDocument  = 4 << 20  // manifest, config
	maxCopyright = 1 << 20  // a longer one is not looked at
	maxWindow    = 64 << 20 // of zstd
)

// bounded writes until it is too much. Closing it closes nothing.
type bounded struct {
	w    io.Writer
	left int64
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("the worker sends more than any image has")
	}
	return b.w.Write(p)
}

// Close implements [io.Closer].
func (b *bounded) Close() error { return nil }

// result is the image that a worker made: an OCI layout in a tar archive, in a
// file without a name. Only its layers are used. Close it when they have been read.
type result struct {
	worker Worker
	file   *os.File
	blobs  map[string]*io.SectionReader // by digest
	layers []v1.Descriptor
	diffs  []v1.Hash // what each layer is without compression
}

// Close frees the disk space.
func (r *result) Close() error { return r.file.Close() }

// read reads what the worker says that it made: the image of that digest. Its
// word for the platform must be the one that was asked for.
func (r *result) read(image string, j job) error {
	if err := r.index(); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	h, err := v1.NewHash(image)
	if err != nil {
		return fmt.Errorf("digest of the image: %w", err)
	}
	data, err := r.document(h)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if m.MediaType != types.OCIManifestSchema1 {
		return fmt.Errorf("manifest: got media type %.80q, want %s", m.MediaType, types.OCIManifestSchema1)
	}
	if data, err = r.document(m.Config.Digest); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if got := config.Platform(); got == nil || got.String() != j.platform.String() {
		return fmt.Errorf("it made an image for %v, want %s", got, j.platform)
	}
	if len(m.Layers) != j.layers || len(config.RootFS.DiffIDs) != j.layers {
		return fmt.Errorf("it made %d layers and wrote down %d, want %d", len(m.Layers), len(config.RootFS.DiffIDs), j.layers)
	}
	for _, l := range m.Layers {
		if l.MediaType != types.OCILayerZStd {
			return fmt.Errorf("layer %s: got media type %.80q, want %s", l.Digest, l.MediaType, types.OCILayerZStd)
		}
	}
	r.layers, r.diffs = m.Layers, config.RootFS.DiffIDs
	return nil
}

// index finds the blobs in the archive.
func (r *result) index() error {
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r.blobs = make(map[string]*io.SectionReader)
	tr := tar.NewReader(r.file)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		at, err := r.file.Seek(0, io.SeekCurrent) // the reader is no further than the content's begin
		if err != nil {
			return err
		}
		if hex, ok := strings.CutPrefix(path.Clean(h.Name), "blobs/sha256/"); ok && h.Typeflag == tar.TypeReg {
			r.blobs["sha256:"+hex] = io.NewSectionReader(r.file, at, h.Size)
		}
	}
}

// blob returns a blob from its beginning.
func (r *result) blob(h v1.Hash) (*io.SectionReader, error) {
	b, ok := r.blobs[h.String()]
	if !ok {
		return nil, fmt.Errorf("no %s in the result", h)
	}
	return io.NewSectionReader(b, 0, b.Size()), nil
}

// document returns a small blob, compared with its digest.
func (r *result) document(h v1.Hash) ([]byte, error) {
	b, err := r.blob(h)
	if err != nil {
		return nil, err
	}
	data, err := readAll(b, maxDocument)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got.String() != h.String() {
		return nil, fmt.Errorf("got %s, want %s", got, h)
	}
	return data, nil
}

func readAll(r io.Reader, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("more than %d bytes", max)
	}
	return data, nil
}

// notes are what is known about a layer that a worker made.
type notes struct {
	Licenses map[string]string `json:"licenses"` // SPDX expression by package, where it is known
}

// layer returns the layer with that index from the store, where it is compressed
// as the store does. Nothing in it may be younger than epoch.
func (r *result) layer(ctx context.Context, s *layer.Store, i int, epoch time.Time) (*layer.Layer, notes, error) {
	var n notes
	l, err := s.Get(ctx, "buildkit-"+r.diffs[i].Hex+"-"+s.Compression.Version(), &n, func(w io.Writer) (any, error) {
		blob, err := r.blob(r.layers[i].Digest)
		if err != nil {
			return nil, err
		}
		z, err := zstd.NewReader(blob, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return copyLayer(w, z, r.diffs[i], epoch)
	})
	if err != nil {
		return nil, n, fmt.Errorf("worker %s: layer %s: %w", r.worker, r.diffs[i], err)
	}
	return l, n, nil
}

// copyLayer copies a tar archive byte by byte and looks at it meanwhile: that it
// is the one that was announced, and a layer of which each client makes the same
// files. A worker that fails to rewrite times only logs it.
func copyLayer(w io.Writer, from io.Reader, want v1.Hash, epoch time.Time) (notes, error) {
	n := notes{Licenses: make(map[string]string)}
	verifier := digest.Digest(want.String()).Verifier()
	limited := &io.LimitedReader{R: from, N: maxLayer}
	tee := io.TeeReader(limited, io.MultiWriter(w, verifier))
	links := make(map[string]string) // of documentation
	tr := tar.NewReader(tee)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, err
		}
		if err := checkEntry(h, epoch); err != nil {
			return n, err
		}
		if err := n.note(h, tr, links); err != nil {
			return n, err
		}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return n, err
	}
	switch {
	case limited.N == 0:
		return n, fmt.Errorf("more than %d bytes", int64(maxLayer))
	case !verifier.Verified():
		return n, errors.New("it is not what the worker's config says")
	}
	for name, other := range links {
		if license, ok := n.Licenses[other]; ok {
			n.Licenses[name] = license
		}
	}
	return n, nil
}

func checkEntry(h *tar.Header, epoch time.Time) error {
	switch {
	case h.ModTime.After(epoch):
		return fmt.Errorf("entry %q: of %s, want none after %s: the worker did not rewrite times", h.Name, h.ModTime.UTC(), epoch.UTC())
	case strings.HasPrefix(path.Base(h.Name), ".wh."):
		return fmt.Errorf("entry %q: in an image layer such a name deletes a file", h.Name)
	}
	return nil
}

// note looks for the license of a package. A package whose documentation is a
// link to another's has that one's (Debian Policy 12.5).
func (n notes) note(h *tar.Header, body io.Reader, links map[string]string) error {
	rest, ok := strings.CutPrefix(h.Name, "usr/share/doc/")
	if !ok {
		return nil
	}
	name, file, _ := strings.Cut(rest, "/")
	switch {
	case h.Typeflag == tar.TypeSymlink && file == "":
		links[name] = path.Base(h.Linkname)
	case h.Typeflag == tar.TypeReg && file == "copyright" && h.Size <= maxCopyright:
		text, err := readAll(body, maxCopyright)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if expression := deb.License(text); expression != "" {
			n.Licenses[name] = expression
		}
	}
	return nil
}
