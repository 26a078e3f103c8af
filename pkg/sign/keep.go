package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/pkg/oci"
)

// Bounds of what is read to find an earlier signature. Missing one beyond them
// costs a second signature and nothing else.
const (
	maxEarlier    = 256      // referrers or layers of one manifest, per repository
	maxBundle     = 16 << 20 // bytes of one of them
	maxAllBundles = 64 << 20 // bytes of all of one manifest
)

// A Recognizer is a [Signer] whose signatures are different each time, but which
// knows its own.
type Recognizer interface {
	Signer
	// Recognize returns the bundle if this signer has made it of the content and
	// every reader would accept it, and else an error that says why not.
	Recognize(ctx context.Context, c Content, bundle []byte) (*Signed, error)
}

// Keep returns a signer that looks in the repositories, in order, for what s has
// signed before, verifies it, and signs only what it does not find: so that a
// release that is run again publishes what it has published. A signer that signs
// deterministically needs none of that and is returned as it is.
//
// A repository that cannot be asked is passed over: a second signature by the
// same signer does no harm.
func Keep(s Signer, repositories ...*oci.Repository) Signer {
	r, ok := s.(Recognizer)
	if !ok {
		return s
	}
	return &keeper{Recognizer: r, repositories: repositories, about: map[v1.Hash]*earlier{}, signed: map[string]*once{}}
}

type keeper struct {
	Recognizer
	repositories []*oci.Repository

	mu     sync.Mutex
	about  map[v1.Hash]*earlier
	signed map[string]*once
}

// once is a signature that is being made; who wants the same waits for it.
type once struct {
	sync.Mutex
	signed *Signed
}

// earlier is what the repositories hold about one manifest.
type earlier struct {
	once    sync.Once
	bundles [][]byte
}

// Sign implements [Signer]: each content is signed once.
func (k *keeper) Sign(ctx context.Context, c Content) (*Signed, error) {
	o := k.of(c)
	o.Lock()
	defer o.Unlock()
	if o.signed != nil {
		return o.signed, nil
	}
	signed, err := k.keepOrSign(ctx, c)
	o.signed = signed // nil after an error, so that the next one tries again
	return signed, err
}

// of returns where the signature of the content is kept.
func (k *keeper) of(c Content) *once {
	key := fmt.Sprintf("%T %s", c, c)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.signed[key] == nil {
		k.signed[key] = &once{}
	}
	return k.signed[key]
}

func (k *keeper) keepOrSign(ctx context.Context, c Content) (*Signed, error) {
	h, err := aboutOf(c)
	if err != nil {
		return nil, err
	}
	for _, doc := range k.earlier(ctx, h) {
		// The cheap question first: verifying, and knowing who we are, may cost more.
		if _, _, err := parseAbout(c, doc); err != nil {
			continue
		}
		signed, err := k.Recognize(ctx, c, doc)
		var unknown *unknownSelf
		switch {
		case err == nil:
			return signed, nil
		case errors.As(err, &unknown): // nor could it sign, and asking once more takes long
			return nil, fmt.Errorf("sign with %s: %w", k.Recognizer, err)
		}
	}
	return k.Recognizer.Sign(ctx, c)
}

// earlier reads, once for each manifest, every bundle about it.
func (k *keeper) earlier(ctx context.Context, h v1.Hash) [][]byte {
	k.mu.Lock()
	e := k.about[h]
	if e == nil {
		e = &earlier{}
		k.about[h] = e
	}
	k.mu.Unlock()
	e.once.Do(func() {
		r := reader{left: maxAllBundles}
		for _, repository := range k.repositories {
			r.bundles(ctx, repository, h)
			r.legacy(ctx, repository, LegacyTag(h))
			r.legacy(ctx, repository, LegacyAttestationTag(h))
		}
		e.bundles = r.found
	})
	return e.bundles
}

// reader collects bundles within its bounds. What cannot be read is passed over.
type reader struct {
	left  int64
	found [][]byte
}

// bundles reads the bundles among the referrers.
func (r *reader) bundles(ctx context.Context, from *oci.Repository, h v1.Hash) {
	list, err := from.Referrers(ctx, h)
	if err != nil {
		return
	}
	for _, d := range list[:min(len(list), maxEarlier)] {
		m, err := from.Manifest(ctx, d.Digest)
		if err != nil || m.IsIndex() {
			continue
		}
		image, err := m.Image()
		if err != nil || len(image.Layers) != 1 || string(image.Layers[0].MediaType) != BundleMediaType {
			continue
		}
		if doc := r.read(ctx, from, image.Layers[0]); doc != nil {
			r.found = append(r.found, doc)
		}
	}
}

// legacy reads the layers under a legacy tag as bundles.
func (r *reader) legacy(ctx context.Context, from *oci.Repository, tag string) {
	d, err := from.Resolve(ctx, tag)
	if err != nil {
		return
	}
	m, err := from.Manifest(ctx, d.Digest)
	if err != nil {
		return
	}
	image, err := m.Image()
	if err != nil {
		return
	}
	for _, l := range image.Layers[:min(len(image.Layers), maxEarlier)] {
		body := r.read(ctx, from, l)
		if body == nil {
			continue
		}
		b, err := cosign.Layer{MediaType: string(l.MediaType), Annotations: l.Annotations, Body: body}.Bundle()
		if err != nil {
			continue
		}
		if doc, err := encodeBundle(b); err == nil {
			r.found = append(r.found, doc)
		}
	}
}

func (r *reader) read(ctx context.Context, from *oci.Repository, d v1.Descriptor) []byte {
	if d.Size > maxBundle || d.Size > r.left {
		return nil
	}
	r.left -= d.Size
	body, err := from.ReadBlob(ctx, d, maxBundle)
	if err != nil {
		return nil
	}
	return body
}

// aboutOf returns the digest that the content, which is our own, vouches for.
func aboutOf(c Content) (v1.Hash, error) {
	var doc struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		payload
	}
	var err error
	switch c := c.(type) {
	case Statement:
		err = json.Unmarshal(c, &doc)
		if err == nil && len(doc.Subject) > 0 {
			return v1.Hash{Algorithm: "sha256", Hex: doc.Subject[0].Digest["sha256"]}, nil
		}
	case Payload:
		if err = json.Unmarshal(c, &doc); err == nil {
			return v1.NewHash(doc.Critical.Image.DockerManifestDigest)
		}
	}
	return v1.Hash{}, fmt.Errorf("sign: the content names no subject: %v", err)
}
