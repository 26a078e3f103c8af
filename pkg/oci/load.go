package oci

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Load returns the image or index h of the repository as a subject for
// [Client.Publish]: a [v1.Image] or a [v1.ImageIndex]. Its manifest is read now;
// what it names is read and checked when it is asked for, for as long as ctx lives.
func (r *Repository) Load(ctx context.Context, h v1.Hash) (Taggable, error) {
	m, err := r.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	if m.IsIndex() {
		return &loadedIndex{loaded{ctx, r, m}}, nil
	}
	im, err := m.Image()
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&loadedImage{loaded{ctx, r, m}, im})
}

// loaded is a manifest of a repository. The interfaces of v1 have no context,
// so that of [Repository.Load] is kept.
type loaded struct {
	ctx  context.Context
	repo *Repository
	m    *Manifest
}

// MediaType implements [Taggable].
func (l *loaded) MediaType() (types.MediaType, error) { return l.m.Descriptor.MediaType, nil }

// RawManifest implements [Taggable].
func (l *loaded) RawManifest() ([]byte, error) { return l.m.Body, nil }

// loadedImage is a [partial.CompressedImageCore].
type loadedImage struct {
	loaded
	manifest *v1.Manifest
}

func (l *loadedImage) RawConfigFile() ([]byte, error) {
	return l.repo.ReadBlob(l.ctx, l.manifest.Config, MaxManifest)
}

func (l *loadedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]v1.Descriptor{l.manifest.Config}, l.manifest.Layers...) {
		if d.Digest == h {
			return &loadedLayer{l.loaded, d}, nil
		}
	}
	return nil, fmt.Errorf("layer %s: not in image %s", h, l.m.Descriptor.Digest)
}

// loadedLayer is a [partial.CompressedLayer].
type loadedLayer struct {
	loaded
	desc v1.Descriptor
}

func (l *loadedLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *loadedLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *loadedLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *loadedLayer) Compressed() (io.ReadCloser, error)  { return l.repo.Blob(l.ctx, l.desc) }

// loadedIndex is a [v1.ImageIndex].
type loadedIndex struct{ loaded }

func (l *loadedIndex) Digest() (v1.Hash, error) { return l.m.Descriptor.Digest, nil }
func (l *loadedIndex) Size() (int64, error)     { return l.m.Descriptor.Size, nil }

func (l *loadedIndex) IndexManifest() (*v1.IndexManifest, error) { return l.m.Index() }

func (l *loadedIndex) Image(h v1.Hash) (v1.Image, error) {
	return loadChild[v1.Image](&l.loaded, h)
}

func (l *loadedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return loadChild[v1.ImageIndex](&l.loaded, h)
}

func loadChild[T any](l *loaded, h v1.Hash) (T, error) {
	var none T
	t, err := l.repo.Load(l.ctx, h)
	if err != nil {
		return none, err
	}
	child, ok := t.(T)
	if !ok {
		return none, badContent("read", object(l.repo.name, h.String()), "it is a %T, want a %T", t, none)
	}
	return child, nil
}
