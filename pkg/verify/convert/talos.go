package convert

import (
	"strings"

	"github.com/goccy/go-yaml"
)

// talos makes an ImageVerificationConfig: a list of which the first rule that
// matches decides, with one signer each.
func (c *conversion) talos() ([]File, error) {
	var rules []object
	for _, r := range c.rules {
		if len(r.names) == 0 {
			continue
		}
		c.onlyPublicGood(r)
		c.noAttestations(r)
		c.layout(r, "bundle")
		c.oneOf(r)
		c.wilds(r)
		c.weaker(r, "parts", "the index must be signed, each manifest that it names need not be")
		verifier := item("deny", true)
		if !c.refused(r, 1) {
			verifier = c.onlySigner(r)
		}
		for _, n := range r.names {
			for _, written := range talosNames(n) {
				rules = append(rules, object{item("image", written), verifier})
			}
		}
	}
	rules = append(rules, object{item("image", "*"), item("deny", true)})
	body, err := documents(object{item("apiVersion", "v1alpha1"), item("kind", "ImageVerificationConfig"), item("rules", rules)})
	return []File{{"talos.yaml", body}}, err
}

// onlySigner is the first that can be named: a key before an identity.
func (c *conversion) onlySigner(r *rule) yaml.MapItem {
	if n := r.signers(); n > 1 {
		c.stricter(r, "signers", "a rule has one signer: the first of %d is taken", n)
	}
	if len(r.Keys) > 0 {
		c.stricter(r, "log", "signatures by a key must be in Sigstore's log")
		return item("publicKey", object{item("certificate", string(r.Keys[0].PEM))})
	}
	return item("keyless", identityOf(r.Identities[0], "subjectRegex"))
}

// talosNames are the spellings under which Talos knows a repository.
func talosNames(name string) []string {
	if path, ok := strings.CutPrefix(name, "docker.io/"); ok {
		return []string{name, "index.docker.io/" + path}
	}
	return []string{name}
}
