package verify

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
)

// SignedAs returns under which repository's name the content is signed at the
// source, as podman, skopeo and CRI-O will look for it: in the older layout, on
// every manifest that they may pick. It is "" when they would not accept it by the
// rule's keys, and an error when the source could not be asked.
func (v *Verifier) SignedAs(ctx context.Context, s Subject, source *oci.Repository) (string, error) {
	rule, ok := v.Policy.Rule(s.Repository)
	if !ok {
		return "", noRule(s.Repository)
	}
	c := &collector{subject: s, rule: rule, now: v.now(), from: []*oci.Repository{source}}
	if err := c.fetchTree(ctx); err != nil {
		return "", err
	}
	signatures := func(ctx context.Context, source *oci.Repository, p *part) []candidate {
		return c.legacy(ctx, source, p, ".sig")
	}
	if err := c.collect(ctx, source, signatures); err != nil {
		return "", fmt.Errorf("verify %s: %w", s, err)
	}
	if err := joinErrors(c.unknown); err != nil {
		return "", fmt.Errorf("verify %s: %w", s, err)
	}
	picked := c.parts
	if len(picked) > 1 {
		picked = picked[1:] // podman does not look at signatures of an index
	}
	var common []string
	for i, p := range picked {
		names := p.signedAs(rule)
		if i > 0 {
			names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(common, n) })
		}
		common = names
	}
	if len(common) == 0 {
		return "", nil
	}
	return common[0], nil
}

// signedAs lists the names for which as many keys as the rule wants have signed the part.
func (p *part) signedAs(rule *Rule) []string {
	var names []string
	for _, f := range p.findings {
		same := func(g finding) bool { return g.name != "" && g.name == f.name }
		if f.answer == good && f.name != "" && len(p.signers(same)) >= rule.threshold && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return names
}

// Keys returns the public keys, PEM, that count at the time now, for programs that
// know nothing but keys: any one of them suffices, or all are needed. It is an
// error where the rule means something else.
func (r *Rule) Keys(now time.Time) (keys [][]byte, all bool, err error) {
	if len(r.identities) > 0 {
		return nil, false, errors.New("it names signers without a key")
	}
	for _, k := range r.keys {
		if k.valid(now) != nil {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			return nil, false, err
		}
		keys = append(keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	if r.threshold != 1 && r.threshold != len(keys) {
		return nil, false, fmt.Errorf("it wants %d of %s", r.threshold, count(len(keys), "key"))
	}
	return keys, r.threshold > 1, nil
}

// payloadName returns the repository that a payload, which was parsed, names.
func payloadName(payload []byte) string {
	var doc struct {
		Critical struct {
			Identity struct {
				Name string `json:"docker-reference"`
			} `json:"identity"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &doc); err != nil {
		return ""
	}
	ref, err := oci.ParseReference(doc.Critical.Identity.Name)
	if err != nil || strings.HasPrefix(ref.Repository, "oci:") || ref.Tag != "" || ref.Digest != (v1.Hash{}) {
		return "" // podman compares names with a tag in another way
	}
	return ref.Repository
}
