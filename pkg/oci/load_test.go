package oci_test

import (
	"context"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// What one repository holds can be published to others like something new.
func TestLoadedIndexIsPublishedUnchanged(t *testing.T) {
	ctx := context.Background()
	index := imgtest.SmallIndex(t, "loaded")
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var c oci.Client
	from := imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/a"
	to := imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/b"
	if _, err := c.Publish(ctx, oci.Release{Subject: index}, oci.Destination{Repository: from}); err != nil {
		t.Fatal(err)
	}
	src, err := c.Repository(from)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := src.Load(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	receipts, err := c.Publish(ctx, oci.Release{Subject: subject, Tags: []string{"v1"}}, oci.Destination{Repository: to}, oci.Destination{Repository: "oci:" + t.TempDir() + "/l"})
	if err != nil || receipts[0].Digest != want || receipts[1].Digest != want {
		t.Fatalf("got %v, %v; want %s at both", receipts, err, want)
	}
}

func TestLoadTellsImagesFromIndexes(t *testing.T) {
	ctx := context.Background()
	index := imgtest.SmallIndex(t, "kinds")
	var c oci.Client
	name := imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/a"
	if _, err := c.Publish(ctx, oci.Release{Subject: index}, oci.Destination{Repository: name}); err != nil {
		t.Fatal(err)
	}
	repo, err := c.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := repo.Load(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	ix, ok := loaded.(v1.ImageIndex)
	if !ok {
		t.Fatalf("got a %T, want an index", loaded)
	}
	m, err := ix.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	child := m.Manifests[0].Digest
	if _, err := ix.Image(child); err != nil {
		t.Errorf("got %v, want the image", err)
	}
	if _, err := ix.ImageIndex(child); !oci.Malformed(err) {
		t.Errorf("got %v, want an image refused as an index", err)
	}
	if _, err := repo.Load(ctx, v1.Hash{Algorithm: "sha256", Hex: "00" + h.Hex[2:]}); !oci.NotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
}
