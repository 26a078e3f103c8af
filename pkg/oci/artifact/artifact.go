// Package artifact builds the small OCI artifacts that imgctl publishes beside
// an image: signatures, attestations and bundles (image-spec 1.1, "Guidelines
// for Artifact Usage").
//
// An artifact is a [v1.Image] whose manifest is written down byte for byte, so
// that the same content always has the same digest. Nothing here touches the network.
package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// EmptyMediaType is the media type of the empty descriptor (image-spec 1.1),
// which stands where an artifact has no configuration or no content.
const EmptyMediaType = string(types.OCIEmptyJSON)

// Content is one blob of an artifact, held in memory.
type Content struct {
	MediaType   string
	Annotations map[string]string
	Body        []byte
	Inline      bool // also in the manifest, as the descriptor's data: one request reads both
}

// Artifact describes an artifact manifest.
type Artifact struct {
	ArtifactType string    // required, unless Config has a media type
	Config       Content   // zero: the empty descriptor of image-spec 1.1
	Layers       []Content // none: one empty descriptor, since a manifest has at least one layer
	Annotations  map[string]string
	Subject      *v1.Descriptor // what it refers to; nil: nothing
}

// Image returns the artifact as an image. Its manifest has the fields in a
// fixed order and its annotations sorted; of the subject it keeps media type,
// size and digest, so that two ways to describe one subject give one digest.
//
// An artifact without a type, a layer without a media type and a subject
// without digest or media type are errors: registries would refuse them, or
// worse, list them as something else.
func (a Artifact) Image() (v1.Image, error) {
	m := manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: a.ArtifactType, Annotations: a.Annotations}
	blobs := make(map[v1.Hash]blob, len(a.Layers)+1)
	add := func(c Content) v1.Descriptor {
		b := newBlob(c)
		blobs[b.desc.Digest] = b
		return b.desc
	}
	switch {
	case a.Config.MediaType == "" && a.ArtifactType == "":
		return nil, errors.New("artifact: no artifactType and no configuration to tell what it is")
	case a.Config.MediaType == "" && len(a.Config.Body) > 0:
		return nil, errors.New("artifact: the configuration has no media type")
	case a.Config.MediaType == "":
		m.Config = add(empty())
	default:
		m.Config = add(a.Config)
	}
	for i, c := range a.Layers {
		if c.MediaType == "" {
			return nil, fmt.Errorf("artifact: layer %d has no media type", i)
		}
		m.Layers = append(m.Layers, add(c))
	}
	if len(m.Layers) == 0 {
		m.Layers = append(m.Layers, add(empty()))
	}
	if s := a.Subject; s != nil {
		if s.MediaType == "" || s.Digest == (v1.Hash{}) || s.Size <= 0 {
			return nil, fmt.Errorf("artifact: the subject needs a media type, a size and a digest, got %q, %d, %q", s.MediaType, s.Size, s.Digest)
		}
		m.Subject = &v1.Descriptor{MediaType: s.MediaType, Size: s.Size, Digest: s.Digest}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("artifact: encode manifest: %w", err)
	}
	return partial.CompressedToImage(&image{body: body, config: m.Config.Digest, blobs: blobs})
}

// manifest is the image manifest of image-spec 1.1 with its fields in the
// order in which the specification lists them.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        v1.Descriptor     `json:"config"`
	Layers        []v1.Descriptor   `json:"layers"`
	Subject       *v1.Descriptor    `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// empty is the content of the empty descriptor.
func empty() Content { return Content{MediaType: EmptyMediaType, Body: []byte("{}")} }

// image implements [partial.CompressedImageCore].
type image struct {
	body   []byte
	config v1.Hash
	blobs  map[v1.Hash]blob
}

// MediaType says that an artifact is an OCI image manifest.
func (i *image) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest returns the bytes that the digest is of.
func (i *image) RawManifest() ([]byte, error) { return bytes.Clone(i.body), nil }

// RawConfigFile returns the configuration, "{}" when there is none.
func (i *image) RawConfigFile() ([]byte, error) { return bytes.Clone(i.blobs[i.config].body), nil }

// LayerByDigest returns a blob of the artifact, the configuration included.
func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	b, ok := i.blobs[h]
	if !ok {
		return nil, fmt.Errorf("artifact: no blob %s", h)
	}
	return b, nil
}

// blob implements [partial.CompressedLayer].
type blob struct {
	desc v1.Descriptor
	body []byte
}

// newBlob describes c. The empty content is also carried in the descriptor
// itself ("data"), as the specification does, so that readers need not fetch it.
func newBlob(c Content) blob {
	b := blob{body: bytes.Clone(c.Body), desc: v1.Descriptor{
		MediaType:   types.MediaType(c.MediaType),
		Size:        int64(len(c.Body)),
		Digest:      digestOf(c.Body),
		Annotations: c.Annotations,
	}}
	if c.Inline || c.MediaType == EmptyMediaType {
		b.desc.Data = b.body
	}
	return b
}

func digestOf(body []byte) v1.Hash {
	sum := sha256.Sum256(body)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// Digest is the sha256 of the content.
func (b blob) Digest() (v1.Hash, error) { return b.desc.Digest, nil }

// DiffID equals the digest: the content is stored as it is.
func (b blob) DiffID() (v1.Hash, error) { return b.desc.Digest, nil }

// Size is the number of bytes.
func (b blob) Size() (int64, error) { return b.desc.Size, nil }

// MediaType is that of the content.
func (b blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }

// Compressed opens the content.
func (b blob) Compressed() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.body)), nil }
