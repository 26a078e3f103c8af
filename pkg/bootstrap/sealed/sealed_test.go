package sealed

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
)

func TestWhatIsSealedIsOneLayerARole(t *testing.T) {
	worker, controller := header+"worker", header+"controller"
	image, err := Pack(map[string][]byte{"worker": []byte(worker), "controller": []byte(controller)}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := image.RawManifest()
	if !strings.Contains(string(raw), `"artifactType":"`+ArtifactType+`"`) {
		t.Errorf("got %s", raw)
	}
	m.ArtifactType = ArtifactType
	for role, want := range map[string]string{"worker": worker, "controller": controller} {
		d, err := Layer(m, role)
		if err != nil || d.Size != int64(len(want)) || d.MediaType != seal.MediaType || d.Annotations["org.opencontainers.image.title"] != role+".age" {
			t.Errorf("%s: got %+v, %v", role, d, err)
		}
	}
	if _, err := Layer(m, "etcd"); err == nil || !strings.Contains(err.Error(), `only ["controller.age"`) {
		t.Errorf("another role: got %v", err)
	}
	m.ArtifactType = "application/x"
	if _, err := Layer(m, "worker"); err == nil {
		t.Error("another artifact was taken for one of sealed archives")
	}
}

// K12: what was not encrypted is never packed.
func TestK12WhatIsNotSealedIsNotPacked(t *testing.T) {
	for name, archives := range map[string]map[string][]byte{
		"nothing":       nil,
		"a private key": {"worker": []byte("-----BEGIN PRIVATE KEY-----\n")},
		"an empty file": {"worker": nil},
		"a header only": {"worker": []byte(header)},
		"one of two":    {"controller": []byte(header + "x"), "worker": []byte("kind: Secret\n")},
		"too much":      {"worker": append([]byte(header), make([]byte, seal.MaxSize)...)},
	} {
		if _, err := Pack(archives, time.Unix(0, 0)); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}
