package content

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TitleAnnotation names the file that a layer holds: its path without the first
// slash, so that other clients can unpack a bundle too (image-spec 1.1).
const TitleAnnotation = "org.opencontainers.image.title"

// CheckLayers reports the first difference between the list and the layers of
// the manifest that it is the config of. They agree when there is one layer for
// each file, in the same order, with the file's digest, size and title: then
// every client that reads either gets the same files.
func (b *Bundle) CheckLayers(layers []v1.Descriptor) error {
	if len(layers) != len(b.Files) {
		return fmt.Errorf("bundle content: got %d layers, want %d, one a file", len(layers), len(b.Files))
	}
	for i, f := range b.Files {
		l := layers[i]
		if got, want := l.Annotations[TitleAnnotation], f.Path[1:]; got != want {
			return fmt.Errorf("bundle content: title of layer %d: got %.300q, want %q", i, got, want)
		}
		if l.Digest.String() != f.Digest || l.Size != f.Size {
			return fmt.Errorf("bundle content: layer of %s: got %s (%d bytes), want %s (%d bytes)", f.Path, l.Digest, l.Size, f.Digest, f.Size)
		}
	}
	return nil
}
