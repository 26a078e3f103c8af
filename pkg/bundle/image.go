package bundle

import (
	"crypto/sha256"
	"fmt"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// Artifact is a bundle as it is published: an index that has two manifests for
// each kind of machine, the bundle of files and the same files for Flux.
type Artifact struct {
	Index v1.ImageIndex
	Tag   string // of the index: "typhoon-v1.36.2"
	Parts []Part // in the order of the index: all bundles first
}

// Part is one manifest of an [Artifact].
type Part struct {
	Name   string // "fcos-worker", "fcos-worker-flux"
	Digest v1.Hash
}

// TagOf is the tag of a part: "typhoon-v1.36.2-fcos-worker".
func (a *Artifact) TagOf(p Part) string { return a.Tag + "-" + p.Name }

// Pack makes one artifact of the trees of a bundle. created is written into its
// annotations and is the only time in it. A tree that a node would refuse, or
// that [Render] would not have made, is an error.
func Pack(trees []Tree, created time.Time) (*Artifact, error) {
	if len(trees) == 0 {
		return nil, fmt.Errorf("pack bundle: got nothing rendered")
	}
	a := &Artifact{Tag: trees[0].Name + "-" + trees[0].Version}
	x := artifact.Index{ArtifactType: ArtifactType, Annotations: trees[0].annotations(created)}
	for _, form := range []struct {
		suffix, kind string
		pack         func(Tree, time.Time) (v1.Image, error)
	}{{"", ArtifactType, Tree.Image}, {"-flux", fluxConfig, Tree.fluxImage}} {
		for _, t := range trees {
			image, err := form.pack(t, created)
			if err != nil {
				return nil, err
			}
			digest, err := image.Digest()
			if err != nil {
				return nil, err
			}
			a.Parts = append(a.Parts, Part{t.Machine.String() + form.suffix, digest})
			x.Entries = append(x.Entries, artifact.Entry{Image: image, ArtifactType: form.kind, Annotations: t.Machine.Annotations()})
		}
	}
	var err error
	a.Index, err = x.ImageIndex()
	return a, err
}

// Image returns the tree as an OCI artifact of type [ArtifactType]: the list of
// its files as config and as first layer, see [content.Bundle], and one layer a
// file, in order.
func (t Tree) Image(created time.Time) (v1.Image, error) {
	image, err := t.image(created)
	if err != nil {
		return nil, fmt.Errorf("pack bundle %s for %s: %w", t.Name, t.Machine, err)
	}
	return image, nil
}

func (t Tree) image(created time.Time) (v1.Image, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	list, err := t.content().Marshal()
	if err != nil {
		return nil, err
	}
	a := artifact.Artifact{
		ArtifactType: ArtifactType,
		Config:       artifact.Content{MediaType: content.MediaType, Body: list},
		Layers:       []artifact.Content{titled(content.LockTitle, content.MediaType, list)},
		Annotations:  t.annotations(created),
	}
	for _, f := range t.Files {
		a.Layers = append(a.Layers, titled(f.Path[1:], mediaType(f.Path), f.Body))
	}
	return a.Image()
}

func titled(title, mediaType string, body []byte) artifact.Content {
	return artifact.Content{MediaType: mediaType, Annotations: map[string]string{content.TitleAnnotation: title}, Body: body}
}

// annotations are those of everything that is made of the tree.
func (t Tree) annotations(created time.Time) map[string]string {
	return map[string]string{
		"org.opencontainers.image.created": created.UTC().Format(time.RFC3339),
		"org.opencontainers.image.title":   t.Name,
		"org.opencontainers.image.version": t.Version,
	}
}

// content lists the tree.
func (t Tree) content() *content.Bundle {
	b := &content.Bundle{
		APIVersion: content.APIVersion, Kind: content.Kind, Name: t.Name, Version: t.Version,
		Family: t.Machine.Family, Role: t.Machine.Role, Images: t.Images,
	}
	for _, f := range t.Files {
		b.Files = append(b.Files, content.File{
			Path: f.Path, Mode: content.Mode(f.Mode), Owner: f.Owner, Group: f.Group, UID: f.UID, GID: f.GID, Type: f.Type,
			Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(f.Body)), Size: int64(len(f.Body)),
		})
	}
	return b
}

// mediaType tells other clients what a layer is; imgctl goes by the list.
func mediaType(file string) string {
	if path.Ext(file) == ".yaml" {
		return "application/yaml" // RFC 9512
	}
	return "text/plain"
}
