// Package sealed makes one OCI artifact of the archives of package seal, and finds
// a role's archive in it. It is apart from seal so that making secrets does not
// link what publishing them needs.
package sealed

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// ArtifactType is that of an OCI artifact of sealed archives.
const ArtifactType = "application/vnd.imgctl.bootstrap.secrets.v1"

// extension is what the files and layers of sealed archives end in.
const extension = ".age"

// Title is the name of the file, and of the layer, that is sealed for a role.
func Title(role string) string { return role + extension }

// Pack makes an OCI artifact of what is sealed for each role: one layer a role. It
// may lie anywhere, since only the machines can open it.
func Pack(archives map[string][]byte, created time.Time) (v1.Image, error) {
	if len(archives) == 0 {
		return nil, errors.New("pack what is sealed: got nothing, want one role or more")
	}
	a := artifact.Artifact{
		ArtifactType: ArtifactType,
		Annotations:  map[string]string{"org.opencontainers.image.created": created.UTC().Format(time.RFC3339)},
	}
	for _, role := range slices.Sorted(maps.Keys(archives)) {
		if !sealedForm(archives[role]) {
			return nil, fmt.Errorf("pack %s: got something that is not sealed", Title(role))
		}
		a.Layers = append(a.Layers, artifact.Content{
			MediaType: seal.MediaType, Annotations: map[string]string{content.TitleAnnotation: Title(role)}, Body: archives[role],
		})
	}
	return a.Image()
}

// header begins every file of age (https://age-encryption.org/v1).
const header = "age-encryption.org/v1\n"

// sealedForm keeps what was never encrypted from being published by mistake.
func sealedForm(data []byte) bool {
	return len(data) <= seal.MaxSize && len(data) > len(header) && string(data[:len(header)]) == header
}

// Layer returns the layer of such an artifact that is sealed for the role.
func Layer(m *v1.Manifest, role string) (v1.Descriptor, error) {
	if m.ArtifactType != ArtifactType {
		return v1.Descriptor{}, fmt.Errorf("got artifact type %.100q, want %s", m.ArtifactType, ArtifactType)
	}
	var titles []string
	for _, l := range m.Layers {
		title := l.Annotations[content.TitleAnnotation]
		if title == Title(role) && l.MediaType == seal.MediaType {
			return l, nil
		}
		titles = append(titles, fmt.Sprintf("%.40q", title))
	}
	return v1.Descriptor{}, fmt.Errorf("nothing is sealed for role %q, only %.200s", role, fmt.Sprint(titles))
}
