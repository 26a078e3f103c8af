package convert

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/imgctl/imgctl/pkg/verify"
)

// policyController makes a ClusterImagePolicy of each rule, or one for each signer
// where several must have signed: of policies all must be met, of the authorities
// in one any.
func (c *conversion) policyController() ([]File, error) {
	docs := []object{append(
		kubernetes("v1", "ConfigMap", "config-policy-controller", item("namespace", "cosign-system")),
		item("data", object{item("no-match-policy", "deny")}))}
	for i, r := range c.rules {
		if len(r.names) == 0 {
			continue
		}
		c.onlyPublicGood(r)
		c.onlyType(r, true)
		c.layout(r, c.reads(r))
		c.weaker(r, "parts", "the index must be signed, each manifest that it names need not be")
		name := fmt.Sprintf("imgctl-rule-%d", i+1)
		if c.refused(r, r.Threshold) {
			refuse := object{item("static", object{item("action", "fail"), item("message", "no signer of the imgctl policy can be named here")})}
			docs = append(docs, clusterImagePolicy(name, r, []object{refuse}))
			continue
		}
		docs = append(docs, c.signedBy(name, r, nil)...)
		if len(r.Attestations) > 0 { // an authority looks at signatures or at attestations
			docs = append(docs, c.signedBy(name+"-attestations", r, r.Attestations)...)
		}
	}
	c.overlaps()
	body, err := documents(docs...)
	return []File{{"policy-controller.yaml", body}}, err
}

// signedBy asks that the signers have signed, or made the attestations.
func (c *conversion) signedBy(name string, r *rule, about []verify.AttestationTerms) []object {
	authorities := r.authorities(c.reads(r), about)
	if r.Threshold == 1 {
		if len(about) > 1 && len(authorities) > 1 {
			c.stricter(r, "signers", "one signer must have made all attestations")
		}
		return []object{clusterImagePolicy(name, r, authorities)}
	}
	if r.Threshold < len(authorities) && about == nil {
		c.stricter(r, "threshold", "all %d signers must have signed, not %d of them", len(authorities), r.Threshold)
	}
	var docs []object
	for n, a := range authorities {
		docs = append(docs, clusterImagePolicy(fmt.Sprintf("%s-signer-%d", name, n+1), r, []object{a}))
	}
	return docs
}

// reads is the layout that an authority is told to read.
func (c *conversion) reads(r *rule) string {
	if r.Format == "" {
		return "bundle"
	}
	return r.Format
}

func clusterImagePolicy(name string, r *rule, authorities []object) object {
	var images []object
	for _, n := range r.names {
		// Images have a digest when they are looked at; see Match in its package glob.
		if path, ok := strings.CutPrefix(n, "docker.io/"); ok {
			n = "index.docker.io/" + path
		}
		images = append(images, object{item("glob", n+"@sha256:*")})
	}
	return append(kubernetes("policy.sigstore.dev/v1beta1", "ClusterImagePolicy", name),
		item("spec", object{item("mode", "enforce"), item("images", images), item("authorities", authorities)}))
}

// authorities are the signers, each with the attestations that it must have made;
// none: it must have signed.
func (r *rule) authorities(layout string, about []verify.AttestationTerms) []object {
	var list []object
	add := func(kind string, value, log object) {
		a := object{item("name", fmt.Sprintf("signer-%d", len(list)+1)), item(kind, value), item("ctlog", log), item("signatureFormat", layout)}
		if len(about) > 0 {
			a = append(a, item("attestations", attestationRules(about)))
		}
		list = append(list, a)
	}
	for _, k := range r.Keys {
		add("key", object{item("data", string(k.PEM)), item("hashAlgorithm", "sha256")}, object{})
	}
	for _, i := range r.Identities {
		add("keyless", object{item("url", "https://fulcio.sigstore.dev"), item("identities", []object{identityOf(i, "subjectRegExp")})}, object{item("url", "https://rekor.sigstore.dev")})
	}
	return list
}

// identityOf names a keyless signer; patterns are anchored, as ours are.
func identityOf(i verify.IdentityTerms, patternKey string) object {
	if i.SubjectRegexp != "" {
		return object{item("issuer", i.Issuer), item(patternKey, anchored(i.SubjectRegexp))}
	}
	return object{item("issuer", i.Issuer), item("subject", i.Subject)}
}

func anchored(expression string) string { return "^(?:" + expression + ")$" }

func attestationRules(list []verify.AttestationTerms) []object {
	var rules []object
	for i, a := range list {
		rule := object{item("name", fmt.Sprintf("attestation-%d", i+1)), item("predicateType", a.Type)}
		if a.Builder != "" {
			builder, err := json.Marshal(a.Builder) // a string of JSON is one of CUE
			if err != nil {
				continue // cannot happen: it is a string
			}
			rule = append(rule, item("policy", object{item("type", "cue"), item("data", "predicate: runDetails: builder: id: "+string(builder)+"\n")}))
		}
		rules = append(rules, rule)
	}
	return rules
}

// overlaps says of rules that name what an earlier one names that both must be
// met: no policy there is the first.
func (c *conversion) overlaps() {
	for i, r := range c.rules {
		for _, earlier := range c.rules[:i] {
			for _, n := range r.names {
				for _, e := range earlier.names {
					if path, wild := strings.CutSuffix(n, "/*"); wild && strings.HasPrefix(e, path+"/") {
						c.stricter(r, "order", "%s must meet this rule as well as %s", e, earlier.Rule)
					}
				}
			}
		}
	}
}
