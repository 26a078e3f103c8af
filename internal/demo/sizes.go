package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// sizes prints the layers of each platform of an image, read from the registry
// by a client that is not imgctl's.
func (d *demo) sizes(ctx context.Context, ref string) error {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return err
	}
	index, err := remote.Index(r, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, m := range manifest.Manifests {
		img, err := index.Image(m.Digest)
		if err != nil {
			return err
		}
		if err := d.layers(m.Platform, img); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) layers(p *v1.Platform, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	var names []string // of the layers; a history entry may have none
	for _, h := range config.History {
		if !h.EmptyLayer {
			names = append(names, cmp.Or(h.Comment, h.CreatedBy))
		}
	}
	var total int64
	fmt.Fprintf(d.out, "\n%s\n", p)
	for i, l := range m.Layers {
		label := ""
		if i < len(names) {
			label = names[i]
		}
		total += l.Size
		fmt.Fprintf(d.out, "  %7.1f MiB  %s  %s\n", mib(l.Size), l.Digest.String()[:19], label)
	}
	fmt.Fprintf(d.out, "  %7.1f MiB  compressed, in %d layers\n", mib(total), len(m.Layers))
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
