package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/pkg/oci"
)

// listLegacy lists the layers of the images under the tags sha256-<hex>.sig
// and, where the rule asks for attestations, .att.
func (c *collector) listLegacy(ctx context.Context, source *oci.Repository, p *part) []candidate {
	list := c.legacy(ctx, source, p, ".sig")
	if len(c.rule.attestations) > 0 {
		list = append(list, c.legacy(ctx, source, p, ".att")...)
	}
	return list
}

// legacy lists the layers of the image under one legacy tag.
func (c *collector) legacy(ctx context.Context, source *oci.Repository, p *part, suffix string) []candidate {
	if c.isDead(source) {
		return nil
	}
	tag := p.digest().Algorithm + "-" + p.digest().Hex + suffix
	what := "signatures " + source.String() + ":" + tag
	image, err := legacyImage(ctx, source, tag)
	if err != nil {
		if classify(err) != absent {
			if f := c.failed(source, what, err); f.answer == bad {
				p.findings = append(p.findings, f)
			}
		}
		return nil
	}
	layers := image.Layers
	if n := len(layers); n > maxLayers {
		err := fmt.Errorf("%d of %d were examined", maxLayers, n)
		p.findings = append(p.findings, finding{what: what, answer: bad, reason: Malformed, err: err})
		layers = layers[:maxLayers]
	}
	var list []candidate
	for i, l := range layers {
		what := fmt.Sprintf("%s, layer %d", what, i)
		// The same payload with another signature is other evidence.
		id := fmt.Sprint(l.Digest, l.Annotations)
		if p.seen[id] {
			continue
		}
		read := func(ctx context.Context) finding { return c.readLegacy(ctx, source, p, l, what) }
		list = append(list, candidate{part: p, id: id, read: read})
	}
	return list
}

func legacyImage(ctx context.Context, source *oci.Repository, tag string) (*v1.Manifest, error) {
	d, err := source.Resolve(ctx, tag)
	if err != nil {
		return nil, err
	}
	m, err := source.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	return m.Image()
}

// readLegacy says whether one layer is a signature or attestation that counts.
func (c *collector) readLegacy(ctx context.Context, source *oci.Repository, p *part, l v1.Descriptor, what string) finding {
	most, ok := legacyTypes[l.MediaType]
	if !ok {
		return finding{what: what, answer: bad, reason: Malformed, err: fmt.Errorf("media type: got %q, want %s", printable(string(l.MediaType)), cosign.PayloadMediaType)}
	}
	body, err := c.readAll(ctx, source, l, most)
	if err != nil {
		return c.failed(source, what, err)
	}
	f := c.checkLegacy(cosign.Layer{MediaType: string(l.MediaType), Annotations: l.Annotations, Body: body}, p.digest())
	f.what = what
	return f
}

// legacyTypes are the layers that are read, and how large they may be.
var legacyTypes = map[types.MediaType]int64{cosign.PayloadMediaType: maxPayload, cosign.EnvelopeMediaType: maxBundle}

// checkLegacy says whether the layer is about h and by a signer that counts. It
// is turned into a bundle, so that both layouts are verified in one way.
func (c *collector) checkLegacy(l cosign.Layer, h v1.Hash) finding {
	proto, err := l.Bundle()
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: oneLine(err)}
	}
	b, err := bundle.NewBundle(proto)
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: oneLine(err)}
	}
	if l.MediaType == cosign.EnvelopeMediaType {
		return c.checkEnvelope(b, h)
	}
	by, err := c.signer(b, l.Body, b.GetMessageSignature().GetSignature(), sigstore.WithArtifact(bytes.NewReader(l.Body)))
	if err != nil {
		return finding{answer: bad, reason: ofSigner(err), err: err}
	}
	signed, err := parsePayload(l.Body)
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: fmt.Errorf("payload: %w", err)}
	}
	if signed != h.String() {
		return finding{answer: bad, reason: WrongSigner, err: fmt.Errorf("the payload vouches for %s, not for %s", printable(signed), h)}
	}
	return finding{answer: good, by: by, predicateType: predicateSignature, name: payloadName(l.Body)}
}

// parsePayload returns the digest that a simple-signing payload vouches for.
//
// A key in "critical" that we do not know is an error, as containers-signature(5)
// asks. The name in docker-reference is not compared: a mirror's copy keeps that
// of the original, and the rule's keys already say whose content is wanted.
func parsePayload(payload []byte) (string, error) {
	var doc struct {
		Critical struct {
			Identity struct {
				DockerReference string `json:"docker-reference"`
			} `json:"identity"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
		Optional map[string]any `json:"optional"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return "", oneLine(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("more text follows the document")
	}
	switch doc.Critical.Type {
	case "cosign container image signature", predicateSignature: // cosign has written both
		return doc.Critical.Image.Digest, nil
	}
	return "", fmt.Errorf("type: got %q, want \"cosign container image signature\"", printable(doc.Critical.Type))
}
