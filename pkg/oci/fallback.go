package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// list sees to it that subject lists the attachments.
//
// Whether a registry has the referrers API is found by asking it, not by the
// headers of a PUT (ECR sends OCI-Subject and has none). Where it has, and an
// attachment is not listed, two PUTs at once may have met: the manifest is put
// again, alone. What is still not listed then goes under the fallback tag.
func (d *delivery) list(ctx context.Context, subject v1.Hash, want []*parcel) error {
	missing, api, err := d.unlisted(ctx, subject, want)
	if err != nil || len(missing) == 0 {
		return err
	}
	if api {
		for _, p := range missing {
			if err := d.repo.back.putManifest(ctx, p.digest().String(), p.manifest); err != nil {
				return err
			}
		}
		if missing, _, err = d.unlisted(ctx, subject, missing); err != nil || len(missing) == 0 {
			return err
		}
	}
	var add []v1.Descriptor
	for _, p := range missing {
		add = append(add, p.listed)
	}
	return d.repo.addFallback(ctx, subject, add)
}

// unlisted returns those of want that subject does not list.
func (d *delivery) unlisted(ctx context.Context, subject v1.Hash, want []*parcel) (missing []*parcel, api bool, err error) {
	listed, api, err := d.repo.listReferrers(ctx, subject)
	if err != nil {
		return nil, false, err
	}
	return slices.DeleteFunc(slices.Clone(want), func(p *parcel) bool { return lists(listed, p.digest()) }), api, nil
}

// addFallback adds descriptors to the fallback tag of subject.
//
// The specification has no way to change it in one step, so it is read again
// after it was written, and written again when another writer has won. Writers
// in this process take turns, in a layout also those of other processes.
func (r *Repository) addFallback(ctx context.Context, subject v1.Hash, add []v1.Descriptor) error {
	const tries = 5
	tag := fallbackTag(subject)
	return r.back.exclusive(tag, func() error {
		for range tries {
			have, err := r.fallback(ctx, subject)
			if err != nil {
				return err
			}
			if holdsAll(have, add) {
				return nil
			}
			m, err := fallbackIndex(mergeReferrers(have, add))
			if err != nil {
				return err
			}
			if err := r.back.putManifest(ctx, tag, m); err != nil {
				return err
			}
		}
		if have, err := r.fallback(ctx, subject); err != nil || holdsAll(have, add) {
			return err
		}
		return &fault{kind: other, op: "list referrers under", object: object(r.name, tag), err: fmt.Errorf("another writer replaced it %d times", tries)}
	})
}

// holdsAll reports whether have lists each of want, with its type and annotations.
func holdsAll(have, want []v1.Descriptor) bool {
	for _, w := range want {
		i := slices.IndexFunc(have, func(h v1.Descriptor) bool { return h.Digest == w.Digest })
		if i < 0 {
			return false
		}
		merged := mergeDescriptor(have[i], w)
		if merged.ArtifactType != have[i].ArtifactType || !maps.Equal(merged.Annotations, have[i].Annotations) {
			return false
		}
	}
	return true
}

// fallbackIndex writes the index of a fallback tag.
func fallbackIndex(list []v1.Descriptor) (*Manifest, error) {
	body, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	if err != nil {
		return nil, err
	}
	return ParseManifest(body, string(types.OCIImageIndex))
}
