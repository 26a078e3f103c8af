package imgtest

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/sign"
)

// ReleaseTime is the creation time of everything in a [Release].
func ReleaseTime() time.Time { return time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC) }

// Release is something that was signed and pushed the way imgctl does it, but
// with go-containerregistry alone: tests of package oci itself may use it too.
type Release struct {
	Repository string            // "127.0.0.1:5000/kubelet", asked without TLS
	Content    remote.Taggable   // v1.Image or v1.ImageIndex; nil: [SmallIndex] of the repository's name
	Tags       []string          // set last
	Signers    []sign.Signer     // none: unsigned
	Attest     map[string]string // predicate type → predicate, for every manifest
	NoBundles  bool              // only sha256-….sig tags
	NoLegacy   bool              // only bundles
}

// Push pushes the release and returns the digest of its content.
func (r Release) Push(t testing.TB) v1.Hash {
	t.Helper()
	if r.Content == nil {
		r.Content = SmallIndex(t, "kubelet")
	}
	root := push(t, r.Repository, "", r.Content)
	for _, d := range append([]v1.Descriptor{root}, children(t, r.Content)...) {
		r.vouch(t, d)
	}
	for _, tag := range r.Tags {
		push(t, r.Repository, tag, r.Content)
	}
	return root.Digest
}

// vouch signs and attests one manifest.
func (r Release) vouch(t testing.TB, d v1.Descriptor) {
	t.Helper()
	attach := func(s sign.Signer, predicateType, predicate string) {
		a, err := sign.Attest(t.Context(), s, d, "test", predicateType, []byte(predicate), ReleaseTime())
		if err != nil {
			t.Fatal(err)
		}
		img, err := a.Image()
		if err != nil {
			t.Fatal(err)
		}
		push(t, r.Repository, "", img)
	}
	for _, s := range r.Signers {
		if !r.NoBundles {
			attach(s, "https://sigstore.dev/cosign/sign/v1", "{}")
		}
		for _, predicateType := range slices.Sorted(maps.Keys(r.Attest)) {
			attach(s, predicateType, r.Attest[predicateType])
		}
	}
	if r.NoLegacy || len(r.Signers) == 0 {
		return
	}
	img, err := sign.Legacy(t.Context(), r.Repository, d.Digest, r.Signers...)
	if err != nil {
		t.Fatal(err)
	}
	push(t, r.Repository, sign.LegacyTag(d.Digest), img)
}

// SmallIndex is an index for linux/amd64 and linux/arm64 whose images hold a
// few bytes that depend on the text.
func SmallIndex(t testing.TB, text string) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        SmallImage(t, text, arch),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index
}

// SmallImage is an image whose one layer holds the text.
func SmallImage(t testing.TB, text, arch string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.AppendLayers(img, static.NewLayer([]byte(text+" for "+arch), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func children(t testing.TB, content remote.Taggable) []v1.Descriptor {
	t.Helper()
	index, ok := content.(v1.ImageIndex)
	if !ok {
		return nil
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m.Manifests
}

// push pushes content under a tag, or by digest where the tag is empty. It also
// maintains the fallback tag where a registry has no referrers API.
func push(t testing.TB, repository, tag string, content remote.Taggable) v1.Descriptor {
	t.Helper()
	d, err := partial.Descriptor(content.(partial.Describable))
	if err != nil {
		t.Fatal(err)
	}
	repo, err := name.NewRepository(repository, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var ref name.Reference = repo.Digest(d.Digest.String())
	if tag != "" {
		ref = repo.Tag(tag)
	}
	if err := remote.Push(ref, content, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return *d
}
