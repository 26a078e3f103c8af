package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Released is what release.lock.json says about the last release.
type Released struct {
	Artifacts []Artifact `json:"artifacts"`
}

// Artifact is one thing that was released: the image or a bundle.
type Artifact struct {
	Name         string        `json:"name"`
	Version      string        `json:"version"` // of Kubernetes
	Variant      string        `json:"variant"` // of an image
	Digest       string        `json:"digest"`
	Tags         []string      `json:"tags"`
	Platforms    []Platform    `json:"platforms"` // of a bundle: by machine, "fcos-worker"
	Destinations []Destination `json:"destinations"`
}

// Platform is the image for one platform.
type Platform struct {
	Platform string   `json:"platform"` // "linux/amd64"
	Digest   string   `json:"digest"`
	Tags     []string `json:"tags"`
}

// Destination is where an artifact is, and whether it is all there: "released".
type Destination struct {
	Repository string `json:"repository"`
	State      string `json:"state"`
}

// ReadReleased reads the release.lock.json in dir. A release of this repository
// has images for two platforms, the default variant first, and one bundle at the
// end, for one kind of machine and Flux; anything else is an error.
func ReadReleased(dir string) (*Released, error) {
	data, err := os.ReadFile(filepath.Join(dir, "release.lock.json"))
	if err != nil {
		return nil, err
	}
	var r Released
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("release.lock.json: %w", err)
	}
	for i, a := range r.Artifacts {
		last := i == len(r.Artifacts)-1
		if len(a.Platforms) != 2 || last && len(a.Tags) == 0 {
			return nil, fmt.Errorf("release.lock.json: got %s, want images for two platforms and one tagged bundle of two manifests", data)
		}
	}
	if len(r.Artifacts) < 2 {
		return nil, fmt.Errorf("release.lock.json: got %s, want at least an image and a bundle", data)
	}
	return &r, nil
}

// Images are the released images, the default variant first.
func (r *Released) Images() []Artifact { return r.Artifacts[:len(r.Artifacts)-1] }

// Image is the released image of the default variant.
func (r *Released) Image() Artifact { return r.Artifacts[0] }

// Bundle is the released bundle.
func (r *Released) Bundle() Artifact { return r.Artifacts[len(r.Artifacts)-1] }

// Platform is the digest of the image for a platform ("linux/amd64"), "" for none.
func (r *Released) Platform(name string) string {
	for _, p := range r.Image().Platforms {
		if p.Platform == name {
			return p.Digest
		}
	}
	return ""
}
