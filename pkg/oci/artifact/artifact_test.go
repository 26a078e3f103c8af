package artifact_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

var subject = v1.Descriptor{
	MediaType: types.OCIImageIndex,
	Size:      1234,
	Digest:    v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)},
}

func signature() artifact.Artifact {
	return artifact.Artifact{
		ArtifactType: "application/vnd.example.signature",
		Layers:       []artifact.Content{{MediaType: "application/json", Body: []byte(`{"a":1}`), Annotations: map[string]string{"z": "1", "a": "2"}}},
		Annotations:  map[string]string{"org.opencontainers.image.created": "2026-01-01T00:00:00Z", "b": "c"},
		Subject:      &subject,
	}
}

// The bytes are the promise: a change here changes the digest of everything
// that was ever published.
func TestManifestIsWrittenByteForByte(t *testing.T) {
	img, err := signature().Image()
	if err != nil {
		t.Fatal(err)
	}
	got, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"artifactType":"application/vnd.example.signature",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,` +
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","data":"e30="},` +
		`"layers":[{"mediaType":"application/json","size":7,` +
		`"digest":"sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862","annotations":{"a":"2","z":"1"}}],` +
		`"subject":{"mediaType":"application/vnd.oci.image.index.v1+json","size":1234,"digest":"sha256:` + strings.Repeat("ab", 32) + `"},` +
		`"annotations":{"b":"c","org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSubjectIsReducedToWhatIdentifiesIt(t *testing.T) {
	plain, err := signature().Image()
	if err != nil {
		t.Fatal(err)
	}
	wordy := subject
	wordy.Annotations = map[string]string{"x": "y"}
	wordy.Platform = &v1.Platform{OS: "linux"}
	a := signature()
	a.Subject = &wordy
	other, err := a.Image()
	if err != nil {
		t.Fatal(err)
	}
	d1, _ := plain.Digest()
	d2, _ := other.Digest()
	if d1 != d2 {
		t.Errorf("one subject described twice: got %s and %s", d1, d2)
	}
}

func TestArtifactIsAWholeImage(t *testing.T) {
	for name, a := range map[string]artifact.Artifact{
		"signature":   signature(),
		"no layers":   {ArtifactType: "application/vnd.example"},
		"with config": {Config: artifact.Content{MediaType: "application/vnd.example.config", Body: []byte(`{"k":"v"}`)}, Layers: []artifact.Content{{MediaType: "text/plain", Body: []byte("x")}, {MediaType: "text/plain"}}},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := a.Image()
			if err != nil {
				t.Fatal(err)
			}
			m, err := img.Manifest()
			if err != nil || len(m.Layers) == 0 {
				t.Fatalf("got %v, %v; want at least one layer", m, err)
			}
			for _, d := range append(m.Layers, m.Config) {
				l, err := img.LayerByDigest(d.Digest)
				if err != nil {
					t.Fatal(err)
				}
				rc, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				got, n, err := v1.SHA256(rc)
				if err != nil || got != d.Digest || n != d.Size {
					t.Errorf("blob %s: got %s, %d bytes, %v", d.Digest, got, n, err)
				}
			}
		})
	}
}

func TestIncompleteArtifactIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		a    artifact.Artifact
		want string
	}{
		"no type":              {artifact.Artifact{}, "no artifactType"},
		"config without type":  {artifact.Artifact{ArtifactType: "a/b", Config: artifact.Content{Body: []byte("x")}}, "configuration has no media type"},
		"layer without type":   {artifact.Artifact{ArtifactType: "a/b", Layers: []artifact.Content{{MediaType: "a/b"}, {}}}, "layer 1 has no media type"},
		"subject without size": {artifact.Artifact{ArtifactType: "a/b", Subject: &v1.Descriptor{MediaType: "a/b", Digest: subject.Digest}}, "subject needs"},
		"subject unnamed":      {artifact.Artifact{ArtifactType: "a/b", Subject: &v1.Descriptor{MediaType: "a/b", Size: 1}}, "subject needs"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tt.a.Image(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// The caller may reuse its buffer: what was described is what is sent.
func TestContentIsCopied(t *testing.T) {
	body := []byte("before")
	img, err := artifact.Artifact{ArtifactType: "a/b", Layers: []artifact.Content{{MediaType: "text/plain", Body: body}}}.Image()
	if err != nil {
		t.Fatal(err)
	}
	copy(body, "after!")
	rc, err := mustLayer(t, img).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(rc); !bytes.Equal(got, []byte("before")) {
		t.Errorf("got %q, want what was described", got)
	}
}

func mustLayer(t *testing.T, img v1.Image) v1.Layer {
	t.Helper()
	ls, err := img.Layers()
	if err != nil || len(ls) == 0 {
		t.Fatalf("got %d layers, %v", len(ls), err)
	}
	return ls[0]
}
