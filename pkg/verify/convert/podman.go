package convert

import (
	"encoding/json"
	"strings"
)

// requirement is what policy.json asks of an image (containers-policy.json(5)).
type requirement struct {
	Type     string    `json:"type"`
	KeyData  []byte    `json:"keyData,omitempty"`
	KeyDatas [][]byte  `json:"keyDatas,omitempty"`
	Identity *identity `json:"signedIdentity,omitempty"`
}

type identity struct {
	Type string `json:"type"`
}

// podman makes the policy.json of podman, skopeo, buildah and CRI-O, and the file
// of registries.d that lets them look for signatures.
func (c *conversion) podman() ([]File, error) {
	docker := make(map[string][]requirement)
	look := make(map[string]any)
	for _, r := range c.rules {
		c.noKeyless(r, "policy.json is made of keys")
		c.noAttestations(r)
		c.layout(r, "legacy")
		c.weaker(r, "parts", "the manifest that is pulled must be signed, its index need not be")
		c.weaker(r, "below", "what is below a repository's path is accepted too, if a signer signed it")
		c.stricter(r, "copies", "a copy whose signature has another repository's name in it is refused")
		list := c.requirements(r)
		for _, n := range r.names {
			scope := strings.TrimSuffix(n, "/*")
			if _, ok := docker[scope]; ok { // a repository, and what is below it
				c.weaker(r, "below", "%s is accepted as an earlier rule asks", n)
				continue
			}
			docker[scope] = list
			look[scope] = map[string]bool{"use-sigstore-attachments": true}
		}
	}
	policy, err := indented(map[string]any{
		"default":    []requirement{{Type: "reject"}},
		"transports": map[string]any{"docker": docker},
	})
	if err != nil {
		return nil, err
	}
	lookaside, err := indented(map[string]any{"docker": look}) // JSON is YAML
	if err != nil {
		return nil, err
	}
	return []File{{"policy.json", policy}, {"registries.d/imgctl.yaml", lookaside}}, nil
}

// requirements of an image, of which all must be met: any of the keys, or each.
func (c *conversion) requirements(r *rule) []requirement {
	if c.refused(r, r.Threshold) {
		return []requirement{{Type: "reject"}}
	}
	by := &identity{"matchRepository"}
	var keys [][]byte
	for _, k := range r.Keys {
		keys = append(keys, k.PEM)
	}
	if r.Threshold == 1 && len(keys) > 1 {
		return []requirement{{Type: "sigstoreSigned", KeyDatas: keys, Identity: by}}
	}
	if r.Threshold < len(keys) {
		c.stricter(r, "threshold", "all %d keys must have signed, not %d of them", len(keys), r.Threshold)
	}
	var list []requirement
	for _, k := range keys {
		list = append(list, requirement{Type: "sigstoreSigned", KeyData: k, Identity: by})
	}
	return list
}

func indented(v any) (string, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	return string(body) + "\n", err
}
