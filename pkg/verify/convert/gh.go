package convert

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/imgctl/imgctl/pkg/verify"
)

//go:embed gh.sh
var ghScript string

// signatureType is the predicate type of a signature in the narrow sense.
const signatureType = "https://sigstore.dev/cosign/sign/v1"

// gh makes a script that asks `gh attestation verify` about one reference.
func (c *conversion) gh() ([]File, error) {
	var b strings.Builder
	b.WriteString(ghScript)
	for _, r := range c.rules {
		c.onlyPublicGood(r)
		for _, k := range r.Keys {
			c.stricter(r, "signers", "key %s cannot be named: gh knows identities only", k.Name)
		}
		r.Keys = nil
		c.onlyWorkflows(r)
		c.oneOf(r)
		c.onlyType(r, false)
		c.layout(r, "bundle")
		c.weaker(r, "parts", "the index must be signed, each manifest that it names need not be")
		refused := c.refused(r, 1)
		for _, n := range r.names {
			b.WriteString("case $name in\n")
			if path, wild := strings.CutSuffix(n, "/*"); wild {
				fmt.Fprintf(&b, "%s/*/*) ;; # deeper\n%s/*)\n", quoted(path), quoted(path))
			} else {
				fmt.Fprintf(&b, "%s)\n", quoted(n))
			}
			if refused {
				b.WriteString("\trefuse 'no signer of the rule can be named to gh' ;;\nesac\n")
				continue
			}
			b.WriteString(r.ghChecks() + "esac\n")
		}
	}
	b.WriteString("refuse 'no rule of the policy names it'\n")
	return []File{{"gh-verify.sh", b.String()}}, nil
}

// onlyWorkflows takes away whom gh cannot name: it wants the owner of a workflow.
func (c *conversion) onlyWorkflows(r *rule) {
	var list []verify.IdentityTerms
	for _, i := range r.Identities {
		if owner(i) == "" {
			c.stricter(r, "signers", "%s cannot be named: it is no workflow of one owner on GitHub", i)
			continue
		}
		list = append(list, i)
	}
	r.Identities = list
}

// owner returns who owns the repository of a workflow, "" when it is not one.
func owner(i verify.IdentityTerms) string {
	begin := i.Subject
	if i.SubjectRegexp != "" {
		e, err := regexp.Compile(i.SubjectRegexp)
		if err != nil {
			return ""
		}
		begin, _ = e.LiteralPrefix()
	}
	rest, ok := strings.CutPrefix(begin, "https://github.com/")
	name, _, whole := strings.Cut(rest, "/")
	if !ok || !whole {
		return ""
	}
	return name
}

// ghChecks are the lines about one repository: each type by any of the signers.
func (r *rule) ghChecks() string {
	var b strings.Builder
	types := []string{signatureType}
	for _, a := range r.Attestations {
		types = append(types, a.Type)
	}
	for _, t := range types {
		var checks []string
		for _, i := range r.Identities {
			who := "--cert-identity " + quoted(i.Subject)
			if i.SubjectRegexp != "" {
				who = "--cert-identity-regex " + quoted(anchored(i.SubjectRegexp))
			}
			checks = append(checks, fmt.Sprintf("check %s --owner %s --cert-oidc-issuer %s %s", quoted(t), quoted(owner(i)), quoted(i.Issuer), who))
		}
		fmt.Fprintf(&b, "\t%s || refuse %s\n", strings.Join(checks, " ||\n\t"), quoted("no signer of the rule vouches for it with "+t))
	}
	b.WriteString("\texit 0 ;;\n")
	return b.String()
}

// quoted makes a word of the shell that means itself.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
