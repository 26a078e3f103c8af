// Package bundle renders the files that make a machine a node.
//
// [Load] reads a bundle.yaml, [RenderAll] turns it into a [Tree] of files for each
// kind of machine, in which every image is pinned by digest, and [Pack] makes one
// OCI artifact of all trees. All of it is pure: the same input gives the same bytes, nothing
// asks a network or a clock, and a secret in a file fails the render, because a
// bundle is public. Package content reads what an artifact lists.
package bundle

import (
	"io/fs"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// ArtifactType is the OCI artifact type of a bundle, and of the index of those
// for several kinds of machines.
const ArtifactType = content.ArtifactType

// Tree is a rendered bundle.
type Tree struct {
	Name    string            // of the bundle
	Version string            // of Kubernetes: "v1.36.2"
	Machine content.Machine   // that it is for
	Images  map[string]string // name → repository@sha256:…
	Files   []File            // ascending by path
}

// File is one rendered file.
type File struct {
	Path         string      // absolute and clean, see content.CheckPath
	Mode         fs.FileMode // permission bits only
	Owner, Group string
	UID, GID     uint32 // their numbers
	Type         string // of SELinux
	Body         []byte
}
