package sign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// payloadType is what a simple-signing payload of cosign calls itself.
const payloadType = "cosign container image signature"

// payload is the simple-signing document (containers-signature(5)).
type payload struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			DockerManifestDigest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// LegacyTag returns the tag under which the signatures of the manifest h are
// found beside it: "sha256-<hex>.sig".
func LegacyTag(h v1.Hash) string { return h.Algorithm + "-" + h.Hex + ".sig" }

// LegacyAttestationTag is the same for attestations: "sha256-<hex>.att".
func LegacyAttestationTag(h v1.Hash) string { return h.Algorithm + "-" + h.Hex + ".att" }

// Legacy signs the manifest h in the older layout of cosign and returns the
// image for [LegacyTag]: one layer, holding the same payload, for each signer.
// The payload names the repository, in the canonical spelling that cosign uses
// ("docker.io/a/b" is "index.docker.io/a/b"), so it differs between registries.
// Podman and skopeo compare that name with the one they pull from; an "oci:"
// directory has none and is refused.
func Legacy(ctx context.Context, repository string, h v1.Hash, signers ...Signer) (v1.Image, error) {
	if len(signers) == 0 {
		return nil, errors.New("sign " + repository + ": no signer")
	}
	body, err := simpleSigning(repository, h)
	if err != nil {
		return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
	}
	layers := make([]cosign.Layer, len(signers))
	for i, s := range signers {
		signed, err := s.Sign(ctx, Payload(body))
		if err != nil {
			return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
		}
		b, err := decodeBundle(signed.Bundle)
		if err != nil {
			return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
		}
		if layers[i], err = cosign.Signature(b, body, signed.Chain); err != nil {
			return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
		}
	}
	return legacyImage(layers)
}

// LegacyAttestations returns the image for [LegacyAttestationTag]: a layer for
// each of the attestations, which are all of one manifest. It names no
// repository, so that it is the same on every registry.
func LegacyAttestations(attestations ...*Attestation) (v1.Image, error) {
	layers := make([]cosign.Layer, len(attestations))
	for i, a := range attestations {
		b, err := decodeBundle(a.Signed.Bundle)
		if err != nil {
			return nil, fmt.Errorf("attest %s: %w", a.Subject.Digest, err)
		}
		if layers[i], err = cosign.Attestation(b, a.PredicateType, a.Signed.Chain); err != nil {
			return nil, fmt.Errorf("attest %s: %w", a.Subject.Digest, err)
		}
	}
	return legacyImage(layers)
}

func simpleSigning(repository string, h v1.Hash) ([]byte, error) {
	if strings.HasPrefix(repository, "oci:") {
		return nil, errors.New("a directory has no name to sign for, want that of a registry's repository")
	}
	canonical, err := name.NewRepository(repository)
	if err != nil {
		return nil, err
	}
	var p payload
	p.Critical.Identity.DockerReference = canonical.Name()
	p.Critical.Image.DockerManifestDigest = h.String()
	p.Critical.Type = payloadType
	return json.Marshal(p)
}

// legacyImage is an image of the layers whose configuration lists them, which
// tools that append a further one expect. It names no platform and no time.
func legacyImage(layers []cosign.Layer) (v1.Image, error) {
	a := artifact.Artifact{}
	config := v1.ConfigFile{RootFS: v1.RootFS{Type: "layers"}, History: make([]v1.History, len(layers))}
	for _, l := range layers {
		sum, _, err := v1.SHA256(bytes.NewReader(l.Body))
		if err != nil {
			return nil, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, sum)
		a.Layers = append(a.Layers, artifact.Content{MediaType: l.MediaType, Annotations: l.Annotations, Body: l.Body})
	}
	doc, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	a.Config = artifact.Content{MediaType: string(types.OCIConfigJSON), Body: doc}
	return a.Image()
}
