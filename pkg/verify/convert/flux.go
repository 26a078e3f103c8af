package convert

import (
	"fmt"
	"regexp"
	"strings"
)

// flux makes an OCIRepository, with what it must be signed with, of each
// repository.
func (c *conversion) flux() ([]File, error) {
	var docs []object
	c.lose(Weaker, nil, "default", "an OCIRepository that is not one of these is not held against the policy")
	for i, r := range c.rules {
		c.onlyPublicGood(r)
		c.eitherLayout(r)
		c.noAttestations(r)
		c.oneOf(r)
		c.weaker(r, "parts", "the index must be signed, each manifest that it names need not be")
		verify, secret := c.fluxVerify(r, fmt.Sprintf("imgctl-rule-%d", i+1))
		made := 0
		for _, n := range r.names {
			if strings.HasSuffix(n, "/*") {
				c.weaker(r, "default", "%s is many repositories: copy spec.verify to the OCIRepository of each", n)
				continue
			}
			made++
			docs = append(docs, append(kubernetes("source.toolkit.fluxcd.io/v1", "OCIRepository", fmt.Sprintf("imgctl-rule-%d-%d", i+1, made), item("namespace", "flux-system")),
				item("spec", object{item("interval", "10m"), item("url", "oci://"+n), item("verify", verify)})))
		}
		if made > 0 && secret != nil {
			docs = append(docs, secret)
		}
	}
	body, err := documents(docs...)
	return []File{{"flux.yaml", body}}, err
}

// fluxVerify is the part of an OCIRepository about signers: keys in a secret, or
// identities. A secret without a key refuses all.
func (c *conversion) fluxVerify(r *rule, name string) (verify, secret object) {
	if len(r.Keys) > 0 {
		c.noKeyless(r, "beside keys there are no identities")
	}
	if len(r.Identities) > 0 {
		var match []object
		for _, i := range r.Identities {
			subject := anchored(i.SubjectRegexp)
			if i.SubjectRegexp == "" {
				subject = anchored(regexp.QuoteMeta(i.Subject))
			}
			match = append(match, object{item("issuer", anchored(regexp.QuoteMeta(i.Issuer))), item("subject", subject)})
		}
		return object{item("provider", "cosign"), item("matchOIDCIdentity", match)}, nil
	}
	c.refused(r, 1)
	data := object{}
	for i, k := range r.Keys {
		data = append(data, item(fmt.Sprintf("key-%d.pub", i+1), string(k.PEM)))
	}
	secret = append(kubernetes("v1", "Secret", name, item("namespace", "flux-system")), item("type", "Opaque"), item("stringData", data))
	return object{item("provider", "cosign"), item("secretRef", object{item("name", name)})}, secret
}
