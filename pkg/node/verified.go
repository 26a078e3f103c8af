package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/verify"
)

// errNotVerified refuses a Verified that no Verifier made.
var errNotVerified = errors.New("install: want a bundle that was verified, got none")

// Plan says what [Store.Install] would do, and fails where it would refuse. It
// writes nothing and does not wait for another call.
func (s *Store) Plan(ctx context.Context, v *verify.Verified) (Plan, error) {
	src, err := unpack(ctx, v)
	if err != nil {
		return Plan{}, err
	}
	return s.plan(ctx, src)
}

// Install makes a verified bundle the active generation. All its files change at
// once: whenever it is stopped, each path has either its old or its new content,
// and all of them the same. When the bundle is active and intact, nothing is
// written.
//
// A zero v, a file for another owner without being root, and a path that is
// somebody else's (a [*Conflict]) are refused before anything is written. An
// [*Unfinished] error comes with the generation, which is active.
func (s *Store) Install(ctx context.Context, v *verify.Verified) (Generation, error) {
	src, err := unpack(ctx, v)
	if err != nil {
		return Generation{}, err
	}
	return s.install(ctx, src)
}

// unpack reads what a verified bundle holds: its list, which must be of a kind
// and version that is known here and agree with the manifest layer by layer.
// The files themselves are read when they are written.
func unpack(ctx context.Context, v *verify.Verified) (source, error) {
	if !v.Valid() {
		return source{}, errNotVerified
	}
	src, err := unpackManifest(ctx, v)
	if err != nil {
		return source{}, fmt.Errorf("read bundle %s@%s: %w", v.Repository(), v.Digest(), err)
	}
	return src, nil
}

func unpackManifest(ctx context.Context, v *verify.Verified) (source, error) {
	m, err := v.Manifest().Image()
	if err != nil {
		return source{}, err
	}
	if m.ArtifactType != content.ArtifactType || m.Config.MediaType != content.MediaType {
		return source{}, fmt.Errorf("got artifact type %q with config %q, want %q with %q", m.ArtifactType, m.Config.MediaType, content.ArtifactType, content.MediaType)
	}
	config, err := v.ReadBlob(ctx, m.Config, content.MaxSize)
	if err != nil {
		return source{}, err
	}
	list, err := content.Read(config)
	if err != nil {
		return source{}, err
	}
	if err := errors.Join(list.CheckLayers(m.Layers), checkContent(list)); err != nil {
		return source{}, err
	}
	layers := make(map[string]v1.Descriptor, len(m.Layers))
	for _, l := range m.Layers {
		layers[l.Digest.String()] = l
	}
	src := source{digest: v.Digest().String(), repository: v.Repository(), bundle: *list}
	if from := v.Sources(); len(from) > 0 {
		src.from = from[0].String()
	}
	src.open = func(ctx context.Context, f content.File) (io.ReadCloser, error) {
		body, err := v.ReadBlob(ctx, layers[f.Digest], content.MaxFileSize)
		return io.NopCloser(bytes.NewReader(body)), err
	}
	return src, nil
}
