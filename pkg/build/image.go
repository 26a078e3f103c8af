package build

import (
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations that every manifest and the index have (image-spec, annotations.md).
const (
	annotationCreated = "org.opencontainers.image.created"
	annotationVersion = "org.opencontainers.image.version"
)

// part is a layer with the words that the image's history has for it.
type part struct {
	layer   v1.Layer
	comment string
}

// makeImage puts layers and configuration together. No byte of it depends on
// anything but the arguments.
func makeImage(in Input, parts ...part) (v1.Image, error) {
	created := v1.Time{Time: in.Lock.Created.UTC()}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = created
	config.OS, config.Architecture, config.Variant = in.Platform.OS, in.Platform.Architecture, in.Platform.Variant
	config.Config = containerConfig(in.Spec)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	for _, p := range parts {
		history := v1.History{Created: created, CreatedBy: "imgctl build", Comment: p.comment}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: p.layer, History: history, MediaType: types.OCILayer}); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	return mutate.Annotations(img, annotations(in.Spec, in.Lock)).(v1.Image), nil
}

func containerConfig(s *Spec) v1.Config {
	c := v1.Config{Entrypoint: s.Entrypoint, Cmd: s.Cmd, WorkingDir: s.Workdir, Labels: s.Labels}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		c.Env = append(c.Env, name+"="+s.Environment[name])
	}
	return c
}

// annotations are the spec's with those that only the lock knows.
func annotations(s *Spec, l *Lock) map[string]string {
	a := maps.Clone(s.Annotations)
	if a == nil {
		a = make(map[string]string)
	}
	a[annotationCreated] = l.Created.UTC().Format(time.RFC3339)
	a[annotationVersion] = l.Upstream.Version
	return a
}

// plainImage is an image that says that it is no artifact. Without it the index
// would give the media type of the config as the artifact's type.
type plainImage struct{ v1.Image }

// ArtifactType is what package partial asks for.
func (plainImage) ArtifactType() (string, error) { return "", nil }

// makeIndex lists the images of all platforms, in the order given, which is sorted.
func makeIndex(s *Spec, l *Lock, platforms []v1.Platform, images []v1.Image) (v1.ImageIndex, error) {
	adds := make([]mutate.IndexAddendum, len(images))
	for i, img := range images {
		adds[i] = mutate.IndexAddendum{Add: plainImage{img}, Descriptor: v1.Descriptor{Platform: &platforms[i]}}
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.AppendManifests(index, adds...)
	index = mutate.Annotations(index, annotations(s, l)).(v1.ImageIndex)
	if _, err := index.Digest(); err != nil {
		return nil, fmt.Errorf("image index: %w", err)
	}
	return index, nil
}
