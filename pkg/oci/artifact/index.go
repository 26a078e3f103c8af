package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Index describes an index of artifacts (image-spec 1.1, "Image Index").
type Index struct {
	ArtifactType string
	Entries      []Entry // at least one, in this order
	Annotations  map[string]string
}

// Entry is one artifact of an index, and what the index says of it.
type Entry struct {
	Image        v1.Image
	ArtifactType string            // so that a client can choose without reading the manifest
	Annotations  map[string]string // of the descriptor
}

// ImageIndex returns the index with its fields in a fixed order and its
// annotations sorted. The entries have no platform: a client that chooses by
// platform finds none of them made for another one.
func (x Index) ImageIndex() (v1.ImageIndex, error) {
	if x.ArtifactType == "" || len(x.Entries) == 0 {
		return nil, errors.New("artifact: an index needs an artifactType and an entry")
	}
	m := indexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, ArtifactType: x.ArtifactType, Annotations: x.Annotations}
	ix := &index{images: make(map[v1.Hash]v1.Image, len(x.Entries))}
	for i, e := range x.Entries {
		d, err := e.descriptor()
		if err != nil {
			return nil, fmt.Errorf("artifact: entry %d: %w", i, err)
		}
		m.Manifests = append(m.Manifests, d)
		ix.images[d.Digest] = e.Image
	}
	var err error
	if ix.body, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("artifact: encode index: %w", err)
	}
	return ix, nil
}

// indexManifest has the fields in the order in which the specification lists them.
type indexManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

func (e Entry) descriptor() (v1.Descriptor, error) {
	body, err := e.Image.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := e.Image.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{
		MediaType: mediaType, Size: int64(len(body)), Digest: digestOf(body), ArtifactType: e.ArtifactType, Annotations: e.Annotations,
	}, nil
}

// index implements [v1.ImageIndex].
type index struct {
	body   []byte
	images map[v1.Hash]v1.Image
}

// MediaType is that of an OCI index.
func (x *index) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

// Digest is the sha256 of the manifest.
func (x *index) Digest() (v1.Hash, error) { return digestOf(x.body), nil }

// Size is the number of bytes of the manifest.
func (x *index) Size() (int64, error) { return int64(len(x.body)), nil }

// RawManifest returns the bytes that the digest is of.
func (x *index) RawManifest() ([]byte, error) { return bytes.Clone(x.body), nil }

// IndexManifest returns the manifest, parsed.
func (x *index) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(x.body))
}

// Image returns one of the entries.
func (x *index) Image(h v1.Hash) (v1.Image, error) {
	img, ok := x.images[h]
	if !ok {
		return nil, fmt.Errorf("artifact: no manifest %s", h)
	}
	return img, nil
}

// ImageIndex fails: there are no indexes in it.
func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("artifact: no index %s", h)
}
