package rebuild

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/layer"
)

// Recover brings the local files of s that are not in dir there, out of the
// published image: what the lock has the digest of may come from anywhere. That
// the image has another file, or none, is an [*InputError].
func Recover(dir string, s *build.Spec, l *build.Lock, published v1.ImageIndex) error {
	if len(s.Local) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, platform := range s.Platforms {
		_, arch, _ := strings.Cut(platform, "/")
		for _, f := range s.Local {
			name := strings.ReplaceAll(f.Source, "{arch}", arch)
			if _, err := root.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				continue // it is there, or building will say why it cannot be read
			}
			img, err := imageOf(published, platform)
			if err != nil {
				return err
			}
			if err := recoverFile(root, name, f.Path, l, img); err != nil {
				return err
			}
		}
	}
	return nil
}

// imageOf returns the image for a platform.
func imageOf(index v1.ImageIndex, platform string) (v1.Image, error) {
	images, err := platforms(index)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(images, func(p platformImage) bool { return p.name == platform })
	if i < 0 {
		return nil, fmt.Errorf("the published index has no image for %s", platform)
	}
	return index.Image(images[i].digest)
}

// recoverFile copies the file at a path in the image to name, if it is the one that the lock means.
func recoverFile(root *os.Root, name, from string, l *build.Lock, img v1.Image) error {
	i := slices.IndexFunc(l.Local, func(f build.LockedFile) bool { return f.Name == name })
	if i < 0 {
		return &InputError{Name: name}
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	to, err := root.Create(name)
	if err != nil {
		return err
	}
	h := sha256.New()
	err = copyFrom(img, strings.TrimPrefix(from, "/"), io.MultiWriter(to, h), l.Local[i].Size)
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != l.Local[i].SHA256 {
		return errors.Join(&InputError{Name: name, Got: got, Want: l.Local[i].SHA256}, root.Remove(name))
	}
	return nil
}

// copyFrom copies at most limit bytes of a file to w: that of the last layer that has it.
func copyFrom(img v1.Image, name string, w io.Writer, limit int64) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range slices.Backward(layers) {
		found, err := copyFromLayer(l, name, w, limit)
		if found || err != nil {
			return err
		}
	}
	return fmt.Errorf("the published image has no %s: %w", name, fs.ErrNotExist)
}

func copyFromLayer(l v1.Layer, name string, w io.Writer, limit int64) (found bool, err error) {
	compressed, err := l.Compressed()
	if err != nil {
		return false, err
	}
	defer compressed.Close()
	mediaType, err := l.MediaType()
	if err != nil {
		return false, err
	}
	content, err := layer.Decompress(compressed, mediaType, maxContent)
	if err != nil {
		return false, err
	}
	defer content.Close()
	archive := tar.NewReader(content)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if h.Name == name && h.Typeflag == tar.TypeReg {
			_, err := io.Copy(w, io.LimitReader(archive, limit))
			return true, err
		}
	}
}
