package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// MaxManifest is the most bytes a manifest may have: what the distribution
// specification asks every registry to take.
const MaxManifest = 4 << 20

// MaxEntries is the most layers, manifests or referrers that a manifest or a
// list may name.
const MaxEntries = 4096

// maxBlob bounds the size that a descriptor may claim: 1 TiB.
const maxBlob = 1 << 40

// Manifest is an image manifest or an index, with the bytes that its digest is of.
type Manifest struct {
	Descriptor v1.Descriptor // media type, size and digest of Body
	Body       []byte
}

// ParseManifest checks that body is an image manifest or an index and describes it.
//
// contentType is what the registry called it, "" where nobody did. It must be
// the mediaType in the body, if there is one, and both must fit the shape: an
// image has config and layers, an index has manifests, nothing has both. Where
// neither is given the shape decides between the two types of OCI.
// Docker's schema 1 is refused. The error is one for which [Malformed] holds.
func ParseManifest(body []byte, contentType string) (*Manifest, error) {
	m, err := parseManifest(body, contentType)
	if err != nil {
		return nil, &fault{kind: malformed, op: "parse", object: "manifest", err: err}
	}
	return m, nil
}

func parseManifest(body []byte, contentType string) (*Manifest, error) {
	if len(body) > MaxManifest {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(body), MaxManifest)
	}
	keys, err := topKeys(body)
	if err != nil {
		return nil, err
	}
	var head struct {
		SchemaVersion int64           `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, err
	}
	if head.SchemaVersion != 2 {
		return nil, fmt.Errorf("schemaVersion: got %d, want 2", head.SchemaVersion)
	}
	mediaType, err := agree(contentType, head.MediaType)
	if err != nil {
		return nil, err
	}
	if mediaType == "" { // image-spec only recommends it, and a layout has no headers
		mediaType = types.OCIManifestSchema1
		if keys["manifests"] {
			mediaType = types.OCIImageIndex
		}
	}
	if err := checkShape(keys, mediaType); err != nil {
		return nil, err
	}
	return &Manifest{Body: body, Descriptor: v1.Descriptor{MediaType: mediaType, Size: int64(len(body)), Digest: digestOf(body)}}, nil
}

// agree returns the one media type that the header and the body name, "" when
// neither names one.
func agree(contentType string, inBody types.MediaType) (types.MediaType, error) {
	if contentType == "" {
		return inBody, nil
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", fmt.Errorf("Content-Type %q: %w", clip(sanitize(contentType)), err)
	}
	if inBody != "" && types.MediaType(t) != inBody {
		return "", fmt.Errorf("Content-Type is %q, its mediaType is %q", clip(sanitize(t)), clip(sanitize(string(inBody))))
	}
	return types.MediaType(t), nil
}

// checkShape compares the media type with what the manifest holds
// (CVE-2021-41190: one document that two readers take for two things).
func checkShape(keys map[string]bool, mediaType types.MediaType) error {
	image := keys["config"] || keys["layers"]
	index := keys["manifests"]
	switch {
	case mediaType == types.DockerManifestSchema1, mediaType == types.DockerManifestSchema1Signed, keys["fsLayers"]:
		return errors.New("a schema 1 manifest: want OCI or Docker schema 2")
	case image && index:
		return errors.New("both an image and an index")
	case !image && !index:
		return errors.New("neither an image nor an index")
	case !mediaType.IsImage() && !mediaType.IsIndex():
		return fmt.Errorf("mediaType: got %q, want that of an image or an index", clip(sanitize(string(mediaType))))
	case mediaType.IsImage() != image:
		return fmt.Errorf("mediaType is %q, but it does not look so", mediaType)
	case image && !(keys["config"] && keys["layers"]):
		return errors.New("an image without config or layers")
	}
	return nil
}

// IsIndex reports whether the manifest is an index.
func (m *Manifest) IsIndex() bool { return m.Descriptor.MediaType.IsIndex() }

// Image parses an image manifest. Every descriptor in it has a valid digest
// and a size from 0 to 1 TiB; there are at most [MaxEntries] layers.
// A manifest that is no image, or breaks this, is [Malformed].
func (m *Manifest) Image() (*v1.Manifest, error) {
	if m.IsIndex() {
		return nil, m.malformed(errors.New("an index, want an image"))
	}
	var im v1.Manifest
	if err := json.Unmarshal(m.Body, &im); err != nil {
		return nil, m.malformed(err)
	}
	all := append([]v1.Descriptor{im.Config}, im.Layers...)
	if im.Subject != nil {
		all = append(all, *im.Subject)
	}
	if err := checkDescriptors(all, MaxEntries+2); err != nil {
		return nil, m.malformed(err)
	}
	return &im, nil
}

// Index parses an index. Besides what [Manifest.Image] checks, no two entries
// may be for the same platform ("unknown/unknown", which BuildKit gives to
// attestations, is none).
func (m *Manifest) Index() (*v1.IndexManifest, error) {
	if !m.IsIndex() {
		return nil, m.malformed(errors.New("an image, want an index"))
	}
	var im v1.IndexManifest
	if err := json.Unmarshal(m.Body, &im); err != nil {
		return nil, m.malformed(err)
	}
	all := im.Manifests
	if im.Subject != nil {
		all = append(slices.Clone(all), *im.Subject)
	}
	if err := checkDescriptors(all, MaxEntries+1); err != nil {
		return nil, m.malformed(err)
	}
	if err := checkPlatforms(im.Manifests); err != nil {
		return nil, m.malformed(err)
	}
	return &im, nil
}

// subject returns what the manifest refers to, and how the referrers list
// describes it: distribution-spec, "Pushing Manifests with Subject".
func (m *Manifest) subject() (subject *v1.Descriptor, listed v1.Descriptor, err error) {
	var part struct {
		Subject      *v1.Descriptor    `json:"subject"`
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
		Config       struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	if err := json.Unmarshal(m.Body, &part); err != nil {
		return nil, v1.Descriptor{}, m.malformed(err)
	}
	if part.ArtifactType == "" {
		part.ArtifactType = part.Config.MediaType
	}
	listed = v1.Descriptor{
		MediaType: m.Descriptor.MediaType, Size: m.Descriptor.Size, Digest: m.Descriptor.Digest,
		ArtifactType: part.ArtifactType, Annotations: part.Annotations,
	}
	return part.Subject, listed, nil
}

func (m *Manifest) malformed(err error) error {
	return &fault{kind: malformed, op: "parse", object: "manifest " + m.Descriptor.Digest.String(), err: err}
}

// checkDescriptors checks what will be used in paths, URLs and buffers.
func checkDescriptors(ds []v1.Descriptor, most int) error {
	if len(ds) > most {
		return fmt.Errorf("got %d entries, want at most %d", len(ds), MaxEntries)
	}
	for i, d := range ds {
		if err := checkDigest(d.Digest); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if d.Size < 0 || d.Size > maxBlob {
			return fmt.Errorf("entry %d: size: got %d, want 0 to %d", i, d.Size, int64(maxBlob))
		}
		if d.MediaType == "" {
			return fmt.Errorf("entry %d: no mediaType", i)
		}
		if d.Data != nil && (int64(len(d.Data)) != d.Size || digestOf(d.Data) != d.Digest) {
			return fmt.Errorf("entry %d: its data is not what its digest says", i)
		}
	}
	return nil
}

// checkPlatforms refuses two entries among which a puller would have to choose.
func checkPlatforms(ds []v1.Descriptor) error {
	seen := make(map[string]bool)
	for i, d := range ds {
		if d.Platform == nil || d.Platform.OS == "unknown" {
			continue
		}
		p := *d.Platform
		key := fmt.Sprintf("%q", []any{p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures, p.Features})
		if seen[key] {
			return fmt.Errorf("entry %d: platform %s is there twice", i, sanitize(p.String()))
		}
		seen[key] = true
	}
	return nil
}

// digestOf returns the sha256 digest of b.
func digestOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// sameContent reports whether two descriptors promise the same bytes.
func sameContent(a, b v1.Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
}
