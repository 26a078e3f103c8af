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

// Part is a layer with the words that the image's history has for it.
type Part struct {
	Layer   v1.Layer
	Comment string
}

// HasSystem reports whether the image has a layer of packages and of what the
// spec puts beside them. A spec without packages may still have files and accounts.
func (in Input) HasSystem() bool {
	a := in.Spec.Additions
	return len(in.Packages()) > 0 || len(a.Groups)+len(a.Users)+len(a.Directories)+len(a.Files)+len(a.Links)+len(a.Alternatives) > 0
}

// HasPrograms reports whether the image has a layer of upstream's and local files.
func (in Input) HasPrograms() bool { return len(in.Spec.Upstream.Files)+len(in.Spec.Local) > 0 }

// SystemPart is the layer of packages.
func (in Input) SystemPart(l v1.Layer) Part {
	if len(in.Packages()) == 0 {
		return Part{l, "files of " + SpecFile}
	}
	return Part{l, fmt.Sprintf("Debian %s, %d packages", in.Lock.Debian.Suites[0].Codename, len(in.Packages()))}
}

// ProgramsPart is the layer of programs.
func (in Input) ProgramsPart(l v1.Layer) Part {
	if in.Target.Version == "" {
		return Part{l, "files beside " + SpecFile}
	}
	return Part{l, "Kubernetes " + in.Target.Version}
}

// Assemble puts layers and configuration together. No byte of it depends on
// anything but the arguments, so engines differ in nothing but their layers.
func Assemble(in Input, parts ...Part) (v1.Image, error) {
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
		history := v1.History{Created: created, CreatedBy: "imgctl build", Comment: p.Comment}
		mediaType, err := p.Layer.MediaType()
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: p.Layer, History: history, MediaType: mediaType}); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	return mutate.Annotations(img, annotations(in.Spec, in.Lock, in.Target)).(v1.Image), nil
}

func containerConfig(s *Spec) v1.Config {
	c := v1.Config{Entrypoint: s.Entrypoint, Cmd: s.Cmd, User: s.User, WorkingDir: s.Workdir, Labels: s.Labels}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		c.Env = append(c.Env, name+"="+s.Environment[name])
	}
	return c
}

// annotations are the spec's with those that only the lock knows.
func annotations(s *Spec, l *Lock, t Target) map[string]string {
	a := maps.Clone(s.Annotations)
	if a == nil {
		a = make(map[string]string)
	}
	a[annotationCreated] = l.Created.UTC().Format(time.RFC3339)
	if t.Version != "" {
		a[annotationVersion] = t.Version
	}
	return a
}

// plainImage is an image that says that it is no artifact. Without it the index
// would give the media type of the config as the artifact's type.
type plainImage struct{ v1.Image }

// ArtifactType is what package partial asks for.
func (plainImage) ArtifactType() (string, error) { return "", nil }

// makeIndex lists the images of all platforms, in the order given, which is sorted.
func makeIndex(s *Spec, l *Lock, t Target, platforms []v1.Platform, images []v1.Image) (v1.ImageIndex, error) {
	adds := make([]mutate.IndexAddendum, len(images))
	for i, img := range images {
		adds[i] = mutate.IndexAddendum{Add: plainImage{img}, Descriptor: v1.Descriptor{Platform: &platforms[i]}}
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.AppendManifests(index, adds...)
	index = mutate.Annotations(index, annotations(s, l, t)).(v1.ImageIndex)
	if _, err := index.Digest(); err != nil {
		return nil, fmt.Errorf("image index: %w", err)
	}
	return index, nil
}
