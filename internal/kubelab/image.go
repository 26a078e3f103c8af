package kubelab

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image makes one image that holds all components, which every machine that is
// started from now on has under the name cluster.test/NAME@DIGEST for each of the
// names. Nothing is ever pulled.
func (l *Lab) Image(names ...string) (v1.Hash, error) {
	image, err := l.components()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("make image: %w", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("make image: %w", err)
	}
	references := []string{sandboxImage}
	for _, name := range names {
		references = append(references, Reference(name, digest))
	}
	dir, archive := filepath.Join(l.dir, "image"), filepath.Join(l.dir, "image.tar")
	if err := writeLayout(dir, image, references); err != nil {
		return v1.Hash{}, fmt.Errorf("make image: %w", err)
	}
	if err := archiveOf(archive, dir); err != nil {
		return v1.Hash{}, fmt.Errorf("make image: %w", err)
	}
	l.image = archive
	return digest, os.RemoveAll(dir)
}

// Reference is the name of an image on the machines.
func Reference(name string, digest v1.Hash) string {
	return "cluster.test/" + name + "@" + digest.String()
}

// components is an image of one layer: the program, under each of its names.
func (l *Lab) components() (v1.Image, error) {
	program, err := os.ReadFile(filepath.Join(l.bin, pauseProgram))
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	const dir = "usr/local/bin/"
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + "kube", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	for _, name := range Programs() {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dir + name, Linkname: "kube", Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{"/" + dir + pauseProgram}, Env: []string{"PATH=/" + dir}},
	}
	image, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), config)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer))
}

// writeLayout writes an OCI layout that lists the image once under each name, as
// containerd imports it.
func writeLayout(dir string, image v1.Image, references []string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, name := range references {
		if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"io.containerd.image.name": name})); err != nil {
			return err
		}
	}
	return nil
}

// archiveOf writes the files of a directory as a tar.
func archiveOf(archive, dir string) error {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return addFile(w, root, name, d)
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addFile(w *tar.Writer, root fs.FS, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
