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

// Image returns the tree as an OCI artifact of type [ArtifactType]: the list of
// its files as config, see [content.Bundle], and one layer a file, in order.
// created is written into an annotation; it is the only time in it. A tree that
// a node would refuse, or that [Render] would not have made, is an error.
func (t Tree) Image(created time.Time) (v1.Image, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("pack bundle %s: %w", t.Name, err)
	}
	config, err := t.content().Marshal()
	if err != nil {
		return nil, fmt.Errorf("pack bundle %s: %w", t.Name, err)
	}
	a := artifact.Artifact{
		ArtifactType: ArtifactType,
		Config:       artifact.Content{MediaType: content.MediaType, Body: config},
		Annotations: map[string]string{
			"org.opencontainers.image.created": created.UTC().Format(time.RFC3339),
			"org.opencontainers.image.title":   t.Name,
			"org.opencontainers.image.version": t.Version,
		},
	}
	for _, f := range t.Files {
		a.Layers = append(a.Layers, artifact.Content{
			MediaType:   mediaType(f.Path),
			Annotations: map[string]string{content.TitleAnnotation: f.Path[1:]},
			Body:        f.Body,
		})
	}
	image, err := a.Image()
	if err != nil {
		return nil, fmt.Errorf("pack bundle %s: %w", t.Name, err)
	}
	return image, nil
}

// content lists the tree.
func (t Tree) content() *content.Bundle {
	b := &content.Bundle{APIVersion: content.APIVersion, Kind: content.Kind, Name: t.Name, Version: t.Version, Images: t.Images}
	for _, f := range t.Files {
		b.Files = append(b.Files, content.File{
			Path: f.Path, Mode: content.Mode(f.Mode), UID: f.UID, GID: f.GID,
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
