package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/bundle/plane"
)

// Render returns the files of the bundle.
//
// pin is asked for every image, with the reference that c has for it, and
// answers with repository@sha256:…. An answer without a digest fails the
// render, and so does one that names another digest than the reference did, a
// tag or a placeholder that is left in any file, and anything that looks like a
// secret. Nothing of a secret is in the error.
func Render(c *Config, pin func(ref string) (string, error)) (Tree, error) {
	t, err := render(c, pin)
	if err != nil {
		return Tree{}, fmt.Errorf("render bundle %s: %w", c.Name, err)
	}
	return t, nil
}

func render(c *Config, pin func(ref string) (string, error)) (Tree, error) {
	if err := c.Check(); err != nil {
		return Tree{}, err
	}
	images, err := pinAll(c.Images, pin)
	if err != nil {
		return Tree{}, err
	}
	files, err := renderFiles(c, images)
	if err != nil {
		return Tree{}, err
	}
	t := Tree{Name: c.Name, Version: c.Kubernetes, Images: images}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		t.Files = append(t.Files, File{Path: path, Mode: 0o644, Body: files[path]})
	}
	return t, t.check()
}

func pinAll(refs map[string]string, pin func(ref string) (string, error)) (map[string]string, error) {
	images := make(map[string]string, len(refs))
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		ref := refs[name]
		pinned, err := pin(ref)
		if err != nil {
			return nil, fmt.Errorf("pin image %s: %w", name, err)
		}
		if err := content.CheckPinned(pinned); err != nil {
			return nil, fmt.Errorf("pin image %s: %w", name, err)
		}
		if _, want, ok := strings.Cut(ref, "@"); ok && !strings.HasSuffix(pinned, "@"+want) {
			return nil, fmt.Errorf("pin image %s: got %s, want the digest of %s", name, pinned, ref)
		}
		images[name] = pinned
	}
	return images, nil
}

// renderFiles returns the bodies of all files by path.
func renderFiles(c *Config, images map[string]string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, f := range []struct {
		path string
		make func() ([]byte, error)
	}{
		{unitPath, func() ([]byte, error) { return kubeletUnit(c) }},
		{imageDropInPath, func() ([]byte, error) { return imageDropIn(images[kubeletImage]) }},
		{kubeletConfigPath, func() ([]byte, error) { return kubeletConfig(c) }},
	} {
		body, err := f.make()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		files[f.path] = body
	}
	manifests, err := plane.Rights(false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifestsPath, err)
	}
	for name, body := range manifests {
		files[manifestsPath+name] = body
	}
	return files, nil
}
