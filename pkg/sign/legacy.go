package sign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

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
	layers := make([]artifact.Content, len(signers))
	for i, s := range signers {
		signature, err := s.SignPayload(ctx, body)
		if err != nil {
			return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
		}
		layers[i] = artifact.Content{
			MediaType:   PayloadMediaType,
			Annotations: map[string]string{SignatureAnnotation: base64.StdEncoding.EncodeToString(signature)},
			Body:        body,
		}
	}
	config, err := legacyConfig(body, len(layers))
	if err != nil {
		return nil, fmt.Errorf("sign %s@%s: %w", repository, h, err)
	}
	return artifact.Artifact{Config: config, Layers: layers}.Image()
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

// legacyConfig is an image configuration whose layer list matches, which tools
// that append a further signature expect. It names no platform and no time.
func legacyConfig(body []byte, layers int) (artifact.Content, error) {
	sum, _, err := v1.SHA256(strings.NewReader(string(body)))
	if err != nil {
		return artifact.Content{}, err
	}
	config := v1.ConfigFile{
		RootFS:  v1.RootFS{Type: "layers"},
		History: make([]v1.History, layers),
	}
	for range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, sum)
	}
	doc, err := json.Marshal(config)
	return artifact.Content{MediaType: string(types.OCIConfigJSON), Body: doc}, err
}
