package oci

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// listTries is how often a referrer is put while the API does not list it.
const listTries = 4

// list sees to it that subject lists the attachments.
//
// Whether a registry has the referrers API is found by asking it after the
// attachments were put, not by the headers of a PUT (ECR sends OCI-Subject and
// has none). Where it answers and does not list one, two PUTs at once may have
// met, or the list is behind: the manifest is put again, after a pause. What is
// still not listed then goes under the fallback tag. So does everything where a
// fallback tag is in use beside the API: its readers do not know of the other.
func (d *delivery) list(ctx context.Context, subject v1.Hash, want []*parcel) error {
	for try := range listTries {
		if try > 0 {
			if err := d.repo.back.pause(ctx, settling<<try); err != nil {
				return err
			}
		}
		l, err := d.repo.listings(ctx, subject)
		if err != nil {
			return err
		}
		d.listsByAPI(l.api == apiLists)
		if l.api != apiLists {
			break
		}
		missing := unlisted(want, l.fromAPI)
		switch {
		case len(missing) == 0 && len(l.fromTag) == 0:
			return nil
		case len(missing) == 0:
			return d.addFallback(ctx, subject, want)
		}
		for _, p := range missing {
			if err := d.repo.back.putManifest(ctx, p.digest().String(), p.manifest); err != nil {
				return err
			}
		}
	}
	return d.addFallback(ctx, subject, want)
}

// listsByAPI puts down on the receipt how the registry lists referrers.
func (d *delivery) listsByAPI(api bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receipt.FallbackTags = !api
}

// unlisted returns those of want that are not in the list.
func unlisted(want []*parcel, list []v1.Descriptor) []*parcel {
	return slices.DeleteFunc(slices.Clone(want), func(p *parcel) bool { return lists(list, p.digest()) })
}

// addFallback adds attachments to the fallback tag of subject.
func (d *delivery) addFallback(ctx context.Context, subject v1.Hash, add []*parcel) error {
	want := make([]v1.Descriptor, len(add))
	for i, p := range add {
		want[i] = p.listed
	}
	return d.rewrite(ctx, fallbackTag(subject), func(_ context.Context, old *Manifest) (*Manifest, error) {
		var have []v1.Descriptor
		if old != nil {
			ix, err := old.Index()
			if err != nil {
				return nil, err
			}
			have = ix.Manifests
		}
		if holdsAll(have, want) {
			return nil, nil
		}
		return fallbackIndex(mergeReferrers(have, want))
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
