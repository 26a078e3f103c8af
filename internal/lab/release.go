package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Released is what release.lock.json says about the last release.
type Released struct {
	Version   string     `json:"version"`
	Artifacts []Artifact `json:"artifacts"`
}

// Artifact is one thing that was released: the image or a bundle.
type Artifact struct {
	Name         string        `json:"name"`
	Digest       string        `json:"digest"`
	Tags         []string      `json:"tags"`
	Platforms    []Platform    `json:"platforms"`
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
// has two artifacts, the image for two platforms and one bundle; anything else
// is an error.
func ReadReleased(dir string) (*Released, error) {
	data, err := os.ReadFile(filepath.Join(dir, "release.lock.json"))
	if err != nil {
		return nil, err
	}
	var r Released
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("release.lock.json: %w", err)
	}
	if len(r.Artifacts) != 2 || len(r.Artifacts[0].Platforms) != 2 || len(r.Artifacts[1].Tags) == 0 {
		return nil, fmt.Errorf("release.lock.json: got %s, want an image for two platforms and one tagged bundle", data)
	}
	return &r, nil
}

// Image is the released image.
func (r *Released) Image() Artifact { return r.Artifacts[0] }

// Bundle is the released bundle.
func (r *Released) Bundle() Artifact { return r.Artifacts[1] }

// Platform is the digest of the image for a platform ("linux/amd64"), "" for none.
func (r *Released) Platform(name string) string {
	for _, p := range r.Image().Platforms {
		if p.Platform == name {
			return p.Digest
		}
	}
	return ""
}
