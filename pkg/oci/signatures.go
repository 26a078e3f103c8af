package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// addSignature adds the layers of p to those that a legacy tag has already:
// another signer's signature stays.
func (d *delivery) addSignature(ctx context.Context, tag string, p *parcel) error {
	wrote := v1.Hash{}
	err := d.rewrite(ctx, tag, func(ctx context.Context, old *Manifest) (*Manifest, error) {
		next, err := p, error(nil)
		if old != nil {
			if next, err = d.repo.appendLayers(ctx, old, p); err != nil || next == nil {
				return nil, err
			}
			for _, b := range next.blobs {
				if err := d.send(ctx, b, func() (io.ReadCloser, error) { return b.open(ctx) }); err != nil {
					return nil, err
				}
			}
		}
		wrote = next.digest()
		d.sent(next.manifest.Descriptor.Size)
		return next.manifest, nil
	})
	if err != nil {
		return fmt.Errorf("sign %s:%s: %w", d.repo, tag, err)
	}
	if wrote != (v1.Hash{}) {
		d.client.log().Info("signed", "repo", d.repo.name, "tag", tag, "digest", wrote)
	}
	return nil
}

// missingLayers returns the layers of p that old does not have. A layer is the
// same only with the same annotations: they hold the signature.
func missingLayers(old *Manifest, p *parcel) ([]v1.Descriptor, error) {
	have, err := old.Image()
	if err != nil {
		return nil, err
	}
	want, err := p.manifest.Image()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(want.Layers), func(l v1.Descriptor) bool {
		return slices.ContainsFunc(have.Layers, func(h v1.Descriptor) bool {
			return sameContent(h, l) && maps.Equal(h.Annotations, l.Annotations)
		})
	}), nil
}

// appendLayers returns old with the layers of p that it lacks, nil when it
// lacks none. The only blob of the result is its new configuration; the
// layers' own are those of p and of old.
func (r *Repository) appendLayers(ctx context.Context, old *Manifest, p *parcel) (*parcel, error) {
	missing, err := missingLayers(old, p)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	im, err := old.Image()
	if err != nil {
		return nil, err
	}
	im.Layers = append(im.Layers, missing...)
	var blobs []source
	if im.Config.MediaType == types.OCIConfigJSON || im.Config.MediaType == types.DockerConfigJSON {
		config, err := r.ReadBlob(ctx, im.Config, MaxManifest)
		if err != nil {
			return nil, err
		}
		if config, err = appendDiffIDs(config, missing); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", im.Config.Digest, err)
		}
		im.Config.Digest, im.Config.Size, im.Config.Data = digestOf(config), int64(len(config)), nil
		blobs = []source{{desc: im.Config, open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(config)), nil
		}}}
	}
	body, err := json.Marshal(im)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(body, string(old.Descriptor.MediaType))
	if err != nil {
		return nil, err
	}
	return newParcel(m, blobs)
}

// appendDiffIDs adds the layers to a configuration, as image-spec asks: one
// diff id for each. The content of a signature is not compressed, so that its
// diff id is its digest.
func appendDiffIDs(config []byte, layers []v1.Descriptor) ([]byte, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(config, &whole); err != nil {
		return nil, err
	}
	var rootfs struct {
		Type    string    `json:"type"`
		DiffIDs []v1.Hash `json:"diff_ids"`
	}
	if raw, ok := whole["rootfs"]; ok {
		if err := json.Unmarshal(raw, &rootfs); err != nil {
			return nil, err
		}
	}
	rootfs.Type = "layers"
	for _, l := range layers {
		rootfs.DiffIDs = append(rootfs.DiffIDs, l.Digest)
	}
	raw, err := json.Marshal(rootfs)
	if err != nil {
		return nil, err
	}
	if whole == nil {
		whole = make(map[string]json.RawMessage)
	}
	whole["rootfs"] = raw
	delete(whole, "history") // it would describe fewer layers than there are
	return json.Marshal(whole)
}
