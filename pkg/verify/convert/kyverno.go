package convert

import (
	"fmt"
	"strings"
)

// podImages are all images of a Pod, in CEL.
const podImages = "(images.containers + images.?initContainers.orValue([]) + images.?ephemeralContainers.orValue([]))"

// kyverno makes an ImageValidatingPolicy of each rule.
func (c *conversion) kyverno() ([]File, error) {
	var docs []object
	c.lose(Weaker, nil, "default", "images that no rule names are admitted")
	for i, r := range c.rules {
		if len(r.names) == 0 {
			continue
		}
		c.onlyPublicGood(r)
		c.eitherLayout(r)
		c.onlyType(r, false) // what a payload looks like depends on how it was attached
		c.weaker(r, "parts", "the index must be signed, each manifest that it names need not be")
		c.wilds(r)
		docs = append(docs, c.imageValidatingPolicy(fmt.Sprintf("imgctl-rule-%d", i+1), r))
	}
	c.overlaps()
	body, err := documents(docs...)
	return []File{{"kyverno.yaml", body}}, err
}

// wilds says of stars that they stand for more than one component.
func (c *conversion) wilds(r *rule) {
	for _, n := range r.names {
		if strings.HasSuffix(n, "/*") {
			c.weaker(r, "below", "%s names what is deeper too, which is accepted if a signer signed it", n)
		}
	}
}

func (c *conversion) imageValidatingPolicy(name string, r *rule) object {
	var globs []object
	for _, n := range r.names {
		for _, written := range dockerNames(n) {
			forms := []string{written, written + ":*", written + "@*"}
			if strings.HasSuffix(written, "*") {
				forms = forms[:1]
			}
			for _, f := range forms {
				globs = append(globs, object{item("glob", f)})
			}
		}
	}
	attestors, all := r.attestors()
	checks := []object{{item("expression", "false"), item("message", "no signer of the imgctl policy can be named here")}}
	if !c.refused(r, r.Threshold) {
		checks = r.checks(all)
	}
	pods := object{item("apiGroups", []string{""}), item("apiVersions", []string{"v1"}), item("operations", []string{"CREATE", "UPDATE"}), item("resources", []string{"pods", "pods/ephemeralcontainers"})}
	spec := object{
		item("failurePolicy", "Fail"),
		item("validationActions", []string{"Deny"}),
		item("matchConstraints", object{item("resourceRules", []object{pods})}),
		item("matchImageReferences", globs),
	}
	if len(attestors) > 0 {
		spec = append(spec, item("attestors", attestors))
	}
	var attestations []object
	for i, a := range r.Attestations {
		attestations = append(attestations, object{item("name", fmt.Sprintf("attestation%d", i+1)), item("intoto", object{item("type", a.Type)})})
	}
	if len(attestations) > 0 {
		spec = append(spec, item("attestations", attestations))
	}
	spec = append(spec, item("validations", checks))
	return append(kubernetes("policies.kyverno.io/v1", "ImageValidatingPolicy", name), item("spec", spec))
}

// attestors are the signers, and how CEL names them all.
func (r *rule) attestors() (list []object, all string) {
	var names []string
	add := func(cosign object) {
		name := fmt.Sprintf("signer%d", len(list)+1) // a name of CEL has no dash
		list = append(list, object{item("name", name), item("cosign", cosign)})
		names = append(names, "attestors."+name)
	}
	const rekor = "https://rekor.sigstore.dev"
	for _, k := range r.Keys {
		log := object{item("url", rekor), item("insecureIgnoreTlog", true), item("insecureIgnoreSCT", true)} // a key needs no log
		add(object{item("key", object{item("data", string(k.PEM))}), item("ctlog", log)})
	}
	for _, i := range r.Identities {
		add(object{item("keyless", object{item("identities", []object{identityOf(i, "subjectRegExp")})}), item("ctlog", object{item("url", rekor)})})
	}
	return list, "[" + strings.Join(names, ", ") + "]"
}

// checks are what must be true of each image.
func (r *rule) checks(all string) []object {
	must := func(of, message string) object {
		return object{item("expression", podImages+".all(image, "+of+")"), item("message", message)}
	}
	list := []object{must(fmt.Sprintf("verifyImageSignatures(image, %s) >= %d", all, r.Threshold), "not signed as the imgctl policy asks")}
	for i, a := range r.Attestations {
		name := fmt.Sprintf("attestations.attestation%d", i+1)
		list = append(list, must(fmt.Sprintf("verifyAttestationSignatures(image, %s, %s) >= %d", name, all, r.Threshold), "no attestation "+a.Type+" that counts"))
	}
	return list
}
