package content

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TitleAnnotation names the file that a layer holds: its path without the first
// slash, so that other clients can unpack a bundle too (image-spec 1.1).
const TitleAnnotation = "org.opencontainers.image.title"

// LockTitle is the title of the layer that holds the list.
const LockTitle = "bundle.lock"

// CheckLayers reports the first difference between the list and the layers of
// the manifest that it is the config of. They agree when the first layer is the
// list itself, and there is one more for each file, in the same order, with the
// file's digest, size and title: then every client that reads either gets the
// same files.
func (b *Bundle) CheckLayers(config v1.Descriptor, layers []v1.Descriptor) error {
	if len(layers) != len(b.Files)+1 {
		return fmt.Errorf("bundle content: got %d layers, want %d, the list and one a file", len(layers), len(b.Files)+1)
	}
	if err := checkLayer(layers[0], LockTitle, config.Digest.String(), config.Size); err != nil {
		return err
	}
	for i, f := range b.Files {
		if err := checkLayer(layers[i+1], f.Path[1:], f.Digest, f.Size); err != nil {
			return err
		}
	}
	return nil
}

func checkLayer(l v1.Descriptor, title, digest string, size int64) error {
	if got := l.Annotations[TitleAnnotation]; got != title {
		return fmt.Errorf("bundle content: title of a layer: got %.300q, want %q", got, title)
	}
	if l.Digest.String() != digest || l.Size != size {
		return fmt.Errorf("bundle content: layer of %s: got %s (%d bytes), want %s (%d bytes)", title, l.Digest, l.Size, digest, size)
	}
	return nil
}
