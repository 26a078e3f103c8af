package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
)

// legacy lists the layers of the image under the tag sha256-<hex>.sig.
func (c *collector) legacy(ctx context.Context, source *oci.Repository, p *part) []candidate {
	tag := p.digest().Algorithm + "-" + p.digest().Hex + ".sig"
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
		id := l.Digest.String() + " " + l.Annotations[signatureAnnotation]
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

// readLegacy says whether one layer is a signature that counts.
func (c *collector) readLegacy(ctx context.Context, source *oci.Repository, p *part, l v1.Descriptor, what string) finding {
	if l.MediaType != payloadMediaType {
		return finding{what: what, answer: bad, reason: Malformed, err: fmt.Errorf("media type: got %q, want %s", printable(string(l.MediaType)), payloadMediaType)}
	}
	signature, err := base64.StdEncoding.DecodeString(l.Annotations[signatureAnnotation])
	if err != nil || len(signature) == 0 {
		return finding{what: what, answer: bad, reason: Malformed, err: fmt.Errorf("no base64 signature in annotation %s", signatureAnnotation)}
	}
	payload, err := c.readAll(ctx, source, l, maxPayload)
	if err != nil {
		return c.failed(source, what, err)
	}
	f := c.checkPayload(payload, signature, p.digest())
	f.what = what
	return f
}

// checkPayload says whether the payload is about h and signed by a key that counts.
func (c *collector) checkPayload(payload, signature []byte, h v1.Hash) finding {
	key := c.signer(payload, signature)
	if key == nil {
		return finding{answer: bad, reason: WrongSigner, err: errors.New("not signed with a key of the policy")}
	}
	if err := key.valid(c.now); err != nil {
		return finding{answer: bad, reason: WrongSigner, err: err}
	}
	signed, err := parsePayload(payload)
	if err != nil {
		return finding{answer: bad, reason: Malformed, err: fmt.Errorf("payload: %w", err)}
	}
	if signed != h.String() {
		return finding{answer: bad, reason: WrongSigner, err: fmt.Errorf("the payload vouches for %s, not for %s", printable(signed), h)}
	}
	return finding{answer: good, key: key, predicateType: predicateSignature}
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
