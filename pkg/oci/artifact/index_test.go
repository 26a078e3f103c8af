package artifact_test

import (
	"bytes"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

func image(t *testing.T, text string) v1.Image {
	t.Helper()
	img, err := artifact.Artifact{ArtifactType: "a/b", Layers: []artifact.Content{{MediaType: "text/plain", Body: []byte(text)}}}.Image()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestAnIndexListsItsArtifactsInOrder(t *testing.T) {
	entries := []artifact.Entry{
		{Image: image(t, "b"), ArtifactType: "a/b", Annotations: map[string]string{"z": "1", "a": "2"}},
		{Image: image(t, "a"), ArtifactType: "c/d"},
	}
	x, err := artifact.Index{ArtifactType: "a/index", Entries: entries, Annotations: map[string]string{"k": "v"}}.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(x); err != nil {
		t.Error(err)
	}
	raw, err := x.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"a/index","manifests":[{`
	if !bytes.HasPrefix(raw, []byte(head)) || bytes.Contains(raw, []byte("platform")) || !bytes.Contains(raw, []byte(`"annotations":{"a":"2","z":"1"}`)) {
		t.Errorf("got %s", raw)
	}
	m, err := x.IndexManifest()
	if err != nil || len(m.Manifests) != 2 {
		t.Fatalf("got %v, %v", m, err)
	}
	for i, d := range m.Manifests {
		want, _ := entries[i].Image.Digest()
		if d.Digest != want || d.ArtifactType != entries[i].ArtifactType {
			t.Errorf("entry %d: got %s of type %s, want %s", i, d.Digest, d.ArtifactType, want)
		}
		if got, err := x.Image(d.Digest); err != nil || got != entries[i].Image {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if _, err := x.Image(v1.Hash{}); err == nil {
		t.Error("an image that is not in it was found")
	}
}

func TestAnIncompleteIndexIsRefused(t *testing.T) {
	entry := []artifact.Entry{{Image: image(t, "a")}}
	for name, x := range map[string]artifact.Index{"no type": {Entries: entry}, "no entry": {ArtifactType: "a/b"}} {
		if _, err := x.ImageIndex(); err == nil || !strings.Contains(err.Error(), "needs an artifactType and an entry") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
