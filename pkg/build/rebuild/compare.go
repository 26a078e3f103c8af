package rebuild

import (
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
)

// Report says, digest by digest, how what was published and what was built again
// compare. Images are those of the built index in its order, then others that
// only the published one has.
type Report struct {
	Index      Pair        `json:"index"`
	Images     []Image     `json:"images"`
	Difference *Difference `json:"difference,omitempty"` // the first; nil: they are equal
}

// Pair is one thing in both; "" where it is missing.
type Pair struct {
	Published string `json:"published,omitempty"`
	Rebuilt   string `json:"rebuilt,omitempty"`
}

// Equal reports whether both have the same.
func (p Pair) Equal() bool { return p.Published == p.Rebuilt }

// Image is the image of one platform, in digests.
type Image struct {
	Platform string `json:"platform"`
	Manifest Pair   `json:"manifest"`
	Config   Pair   `json:"config"`
	Layers   []Pair `json:"layers"`
}

// Difference is one place where published and rebuilt differ. Which one: a file
// of a layer before its size, its owner and the like; a layer before the config
// that names it, that before the manifest, and that before the index.
type Difference struct {
	Platform string `json:"platform,omitempty"` // "" for the index
	Part     string `json:"part"`               // "index", "manifest", "config", "layer 1"
	File     string `json:"file,omitempty"`     // path in the layer
	Field    string `json:"field"`              // "content", "mode", …, or a path in the JSON
	Range    *Range `json:"range,omitempty"`    // of the content
	// Pair is what stands there: of content its first bytes, in hexadecimal.
	Pair
	// Served says that the place where it is published serves other bytes than its manifest names.
	Served bool `json:"served,omitempty"`
}

// Range is the part of a file outside of which all is equal: from From to before To, in bytes.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// String is one line.
func (d *Difference) String() string {
	where := d.Part
	if d.Platform != "" {
		where = d.Platform + ": " + where
	}
	if d.Served {
		where += " as it is served, not as its manifest names it"
	}
	if d.File != "" {
		where += fmt.Sprintf(": %q", d.File)
	}
	if d.Range != nil {
		where += fmt.Sprintf(": bytes %d to %d of the %s", d.Range.From, d.Range.To, d.Field)
	} else {
		where += ": " + d.Field
	}
	return fmt.Sprintf("%s: published %s, rebuilt %s", where, orNothing(d.Published), orNothing(d.Rebuilt))
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Compare compares an index that was published with one that was built. Every
// published layer is read to its end, also when the digests say that it is equal:
// a place may serve other bytes than it promises. An error means that there is no answer.
func Compare(published, rebuilt v1.ImageIndex) (*Report, error) {
	r := &Report{}
	var err error
	if r.Index, err = digests(published, rebuilt); err != nil {
		return nil, err
	}
	pairs, err := pairImages(published, rebuilt)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		image, difference, err := p.compare()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.platform, err)
		}
		r.Images = append(r.Images, image)
		if r.Difference == nil && difference != nil {
			difference.Platform = p.platform
			r.Difference = difference
		}
	}
	if r.Difference != nil || r.Index.Equal() {
		return r, nil
	}
	a, aErr := published.RawManifest()
	b, bErr := rebuilt.RawManifest()
	if err := errors.Join(aErr, bErr); err != nil {
		return nil, err
	}
	r.Difference = diffJSON(a, b)
	r.Difference.Part = "index"
	return r, nil
}

// digester is an index, an image or a layer.
type digester interface{ Digest() (v1.Hash, error) }

func digests(published, rebuilt digester) (Pair, error) {
	a, aErr := published.Digest()
	b, bErr := rebuilt.Digest()
	return Pair{a.String(), b.String()}, errors.Join(aErr, bErr)
}

// imagePair is the image of one platform in both; nil where it is missing.
type imagePair struct {
	platform           string
	published, rebuilt v1.Image
}

// pairImages puts the images of both indexes side by side.
func pairImages(published, rebuilt v1.ImageIndex) ([]*imagePair, error) {
	var pairs []*imagePair
	theirs, err := platforms(published)
	if err != nil {
		return nil, err
	}
	ours, err := platforms(rebuilt)
	if err != nil {
		return nil, err
	}
	for _, o := range ours {
		p := &imagePair{platform: o.name}
		if p.rebuilt, err = rebuilt.Image(o.digest); err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	for _, t := range theirs {
		p := find(pairs, t.name)
		if p == nil {
			p = &imagePair{platform: t.name}
			pairs = append(pairs, p)
		}
		if p.published, err = published.Image(t.digest); err != nil {
			return nil, err
		}
	}
	return pairs, nil
}

// find returns the pair of the platform that has no published image yet.
func find(pairs []*imagePair, platform string) *imagePair {
	for _, p := range pairs {
		if p.platform == platform && p.published == nil {
			return p
		}
	}
	return nil
}

type platformImage struct {
	name   string
	digest v1.Hash
}

func platforms(index v1.ImageIndex) ([]platformImage, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	images := make([]platformImage, len(m.Manifests))
	for i, d := range m.Manifests {
		images[i] = platformImage{"no platform", d.Digest}
		if d.Platform != nil {
			images[i].name = d.Platform.String()
		}
	}
	return images, nil
}

// compare compares the images of one platform.
func (p *imagePair) compare() (Image, *Difference, error) {
	image := Image{Platform: p.platform}
	if p.published == nil || p.rebuilt == nil {
		one, err := p.only(&image)
		return image, one, err
	}
	var err error
	if image.Manifest, err = digests(p.published, p.rebuilt); err != nil {
		return image, nil, err
	}
	a, aErr := p.published.ConfigName()
	b, bErr := p.rebuilt.ConfigName()
	image.Config = Pair{a.String(), b.String()}
	theirs, theirErr := p.published.Layers()
	ours, ourErr := p.rebuilt.Layers()
	if err := errors.Join(aErr, bErr, theirErr, ourErr); err != nil {
		return image, nil, err
	}
	var first *Difference
	for i := range max(len(theirs), len(ours)) {
		pair, difference, err := compareLayers(at(theirs, i), at(ours, i))
		if err != nil {
			return image, nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		image.Layers = append(image.Layers, pair)
		if first == nil && difference != nil {
			difference.Part = fmt.Sprintf("layer %d", i+1)
			first = difference
		}
	}
	if first != nil {
		return image, first, nil
	}
	first, err = p.compareJSON(image)
	return image, first, err
}

// at returns the layer, nil when there are not so many.
func at(layers []v1.Layer, i int) v1.Layer {
	if i < len(layers) {
		return layers[i]
	}
	return nil
}

// only is the difference when one side has no such platform.
func (p *imagePair) only(image *Image) (*Difference, error) {
	d := &Difference{Part: "index", Field: "image"}
	if p.published != nil {
		h, err := p.published.Digest()
		image.Manifest.Published, d.Published = h.String(), h.String()
		return d, err
	}
	h, err := p.rebuilt.Digest()
	image.Manifest.Rebuilt, d.Rebuilt = h.String(), h.String()
	return d, err
}

// compareJSON compares configs and manifests, when their digests differ.
func (p *imagePair) compareJSON(image Image) (*Difference, error) {
	for _, part := range []struct {
		name   string
		digest Pair
		raw    func(v1.Image) ([]byte, error)
	}{
		{"config", image.Config, v1.Image.RawConfigFile},
		{"manifest", image.Manifest, v1.Image.RawManifest},
	} {
		if part.digest.Equal() {
			continue
		}
		a, aErr := part.raw(p.published)
		b, bErr := part.raw(p.rebuilt)
		if err := errors.Join(aErr, bErr); err != nil {
			return nil, err
		}
		d := diffJSON(a, b)
		d.Part = part.name
		return d, nil
	}
	return nil, nil
}

// compareLayers compares one layer of both; nil is one that is missing.
func compareLayers(published, rebuilt v1.Layer) (Pair, *Difference, error) {
	if published == nil || rebuilt == nil {
		var pair Pair
		for side, l := range map[*string]v1.Layer{&pair.Published: published, &pair.Rebuilt: rebuilt} {
			if l == nil {
				continue
			}
			h, err := l.Digest()
			if err != nil {
				return pair, nil, err
			}
			*side = h.String()
		}
		return pair, &Difference{Field: "layer", Pair: pair}, nil
	}
	pair, err := digests(published, rebuilt)
	if err != nil {
		return pair, nil, err
	}
	served, err := isServed(published)
	if err != nil || served && pair.Equal() {
		return pair, nil, err
	}
	d, err := diffLayers(published, rebuilt)
	if d != nil {
		d.Served = !served
	}
	return pair, d, err
}

// isServed reads a published layer to its end. It is false when that gives other
// bytes than its digest names.
func isServed(l v1.Layer) (bool, error) {
	r, err := l.Compressed()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	var other *oci.DigestError
	if errors.As(err, &other) {
		return false, nil
	}
	return err == nil, err
}
