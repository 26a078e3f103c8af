package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// What Flux goes by (https://github.com/fluxcd/pkg, oci/client): one layer that is
// a compressed tar, below the directory that a Kustomization's path starts at.
const (
	fluxConfig = "application/vnd.cncf.flux.config.v1+json"
	fluxLayer  = "application/vnd.cncf.flux.content.v1.tar+gzip"
)

// fluxImage returns the tree, and its list as bundle.lock, as an artifact that
// Flux's source-controller and its command line unpack. Whoever calls it has
// checked the tree.
func (t Tree) fluxImage(created time.Time) (v1.Image, error) {
	image, err := t.packFlux(created)
	if err != nil {
		return nil, fmt.Errorf("pack bundle %s for %s, for Flux: %w", t.Name, t.Machine, err)
	}
	return image, nil
}

func (t Tree) packFlux(created time.Time) (v1.Image, error) {
	archive, err := t.archive(created)
	if err != nil {
		return nil, err
	}
	inside, _, err := v1.SHA256(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(v1.ConfigFile{
		Created: v1.Time{Time: created.UTC()},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{inside}},
	})
	if err != nil {
		return nil, err
	}
	layer, err := compress(archive)
	if err != nil {
		return nil, err
	}
	annotations := t.annotations(created)
	annotations["org.opencontainers.image.revision"] = t.Version // which Flux shows
	return artifact.Artifact{
		Config:      artifact.Content{MediaType: fluxConfig, Body: config},
		Layers:      []artifact.Content{{MediaType: fluxLayer, Body: layer}},
		Annotations: annotations,
	}.Image()
}

// archive returns the files as a tar: names as below the root, in order. It holds
// no directories, which whoever unpacks it makes.
func (t Tree) archive(created time.Time) ([]byte, error) {
	list, err := t.content().Marshal()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range append([]File{{Path: "/" + content.LockTitle, Mode: 0o644, Owner: "root", Group: "root", Body: list}}, t.Files...) {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: f.Path[1:], Mode: int64(f.Mode), Size: int64(len(f.Body)), ModTime: created.UTC(),
			Uid: int(f.UID), Gid: int(f.GID), Uname: f.Owner, Gname: f.Group,
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}

// compress is that of a library that go.mod pins, and not of the standard one,
// which another release of Go may change.
func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}
