package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// errNotVerified refuses a Verified that no Verifier made.
var errNotVerified = errors.New("install: want a bundle that was verified, got none")

// Plan says what [Store.Install] would do, and fails where it would refuse. It
// writes nothing and does not wait for another call.
func (s *Store) Plan(ctx context.Context, v *verify.Verified) (Plan, error) {
	src, err := s.unpack(ctx, v)
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
// A zero v, a bundle for another kind of machine (a [*content.NoBundle]), a file
// for another owner without being root, and a path that is somebody else's (a
// [*Conflict]) are refused before anything is written. An
// [*Unfinished] error comes with the generation, which is active.
func (s *Store) Install(ctx context.Context, v *verify.Verified) (Generation, error) {
	src, err := s.unpack(ctx, v)
	if err != nil {
		return Generation{}, err
	}
	return s.install(ctx, src)
}

// unpack reads what a verified bundle holds: of an index, the one for this
// machine. Its list must be of a kind and version that is known here, for this
// machine, and agree with the manifest layer by layer. The files themselves are
// read when they are written.
func (s *Store) unpack(ctx context.Context, v *verify.Verified) (source, error) {
	if !v.Valid() {
		return source{}, errNotVerified
	}
	src, err := s.unpackManifest(ctx, v)
	if err != nil {
		return source{}, fmt.Errorf("read bundle %s@%s: %w", v.Repository(), v.Digest(), err)
	}
	return src, nil
}

// pick returns the manifest of the bundle for this machine.
func (s *Store) pick(v *verify.Verified) (*oci.Manifest, error) {
	root := v.Manifest()
	if !root.IsIndex() {
		return root, nil
	}
	index, err := root.Index()
	if err != nil {
		return nil, err
	}
	entry, err := content.Pick(index, s.Machine)
	if err != nil {
		return nil, err
	}
	for _, m := range v.Children() {
		if m.Descriptor.Digest == entry.Digest {
			return m, nil
		}
	}
	return nil, fmt.Errorf("manifest %s: nobody has verified it", entry.Digest)
}

// unpackList reads the list of a manifest and holds it against its layers.
func (s *Store) unpackList(ctx context.Context, v *verify.Verified, m *v1.Manifest) (*content.Bundle, error) {
	if m.ArtifactType != content.ArtifactType || m.Config.MediaType != content.MediaType {
		return nil, fmt.Errorf("got artifact type %q with config %q, want %q with %q", m.ArtifactType, m.Config.MediaType, content.ArtifactType, content.MediaType)
	}
	config, err := v.ReadBlob(ctx, m.Config, content.MaxSize)
	if err != nil {
		return nil, err
	}
	list, err := content.Read(config)
	if err != nil {
		return nil, err
	}
	return list, errors.Join(list.CheckLayers(m.Config, m.Layers), checkContent(list), s.checkMachine(list))
}

// checkMachine refuses what is for another kind of machine (CATALOGUE N20).
func (s *Store) checkMachine(list *content.Bundle) error {
	is := content.Machine{Family: list.Family, Role: list.Role}
	want := content.Machine{Family: cmp.Or(s.Machine.Family, is.Family), Role: cmp.Or(s.Machine.Role, is.Role)}
	if want != is {
		return &content.NoBundle{Want: want, Have: []content.Machine{is}}
	}
	return nil
}

func (s *Store) unpackManifest(ctx context.Context, v *verify.Verified) (source, error) {
	picked, err := s.pick(v)
	if err != nil {
		return source{}, err
	}
	m, err := picked.Image()
	if err != nil {
		return source{}, err
	}
	list, err := s.unpackList(ctx, v, m)
	if err != nil {
		return source{}, err
	}
	layers := make(map[string]v1.Descriptor, len(m.Layers))
	for _, l := range m.Layers {
		layers[l.Digest.String()] = l
	}
	src := source{digest: picked.Descriptor.Digest.String(), repository: v.Repository(), bundle: *list}
	if from := v.Sources(); len(from) > 0 {
		src.from = from[0].String()
	}
	src.open = func(ctx context.Context, f content.File) (io.ReadCloser, error) {
		body, err := v.ReadBlob(ctx, layers[f.Digest], content.MaxFileSize)
		return io.NopCloser(bytes.NewReader(body)), err
	}
	return src, nil
}
