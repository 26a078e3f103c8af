package verify

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/semver"
)

// judge compares what was found with what the rule asks for. It returns nil
// when that is met, and else the first thing that is lacking.
func (c *collector) judge() *Refusal {
	for _, p := range c.parts {
		if r := c.judgeSignatures(p); r != nil {
			return r
		}
	}
	for _, want := range c.rule.attestations {
		if r := c.judgeAttestation(want); r != nil {
			return r
		}
	}
	return c.judgeVersion()
}

// judgeSignatures asks for as many different signers as the threshold says.
func (c *collector) judgeSignatures(p *part) *Refusal {
	signers := p.signers(func(f finding) bool { return f.predicateType == predicateSignature })
	if len(signers) >= c.rule.threshold {
		return nil
	}
	r := c.refuse(Unsigned, p.String(), errors.New("no signature"))
	r.Notes = p.notes()
	var reasons []Reason
	for _, f := range p.findings {
		if f.answer == bad {
			reasons = append(reasons, f.reason)
		}
	}
	switch {
	case len(signers) > 0:
		r.Reason = TooFewSigners
		r.Err = fmt.Errorf("signed by %d of the policy's signers (%s), want %d", len(signers), join(signers), c.rule.threshold)
	case slices.Contains(reasons, Expired):
		r.Reason, r.Err = Expired, errors.New("no signature that counts now")
	case slices.Contains(reasons, WrongSigner):
		r.Reason, r.Err = WrongSigner, errors.New("no signature that counts")
	case len(reasons) > 0:
		r.Reason, r.Err = Malformed, errors.New("no signature that can be read")
	}
	return r
}

// judgeAttestation asks for the attestation on the subject or, as an index is
// no more than its manifests, on each of them. It counts if as many keys have
// signed it as must sign the content.
func (c *collector) judgeAttestation(want requirement) *Refusal {
	root, children := c.parts[0], c.parts[1:]
	met := func(f finding) bool { return want.unmet(f) == nil }
	lacks := func(p *part) bool { return len(p.signers(met)) < c.rule.threshold }
	if !lacks(root) {
		return nil
	}
	if len(children) > 0 && !slices.ContainsFunc(children, lacks) {
		return nil
	}
	lacking := root
	if i := slices.IndexFunc(children, lacks); i >= 0 && slices.ContainsFunc(children, func(p *part) bool { return !lacks(p) }) {
		lacking = children[i]
	}
	r := c.refuse(MissingAttestation, lacking.String(), want.lacking(c.parts))
	r.Notes = lacking.notes()
	return r
}

// lacking says what was wanted and, where it is there and not as it should be, what was got.
func (want requirement) lacking(parts []*part) error {
	for _, p := range parts {
		for _, f := range p.findings {
			if err := want.unmet(f); err != nil && f.answer == good && f.predicateType == want.predicateType {
				return fmt.Errorf("attestation %s: %w", want.predicateType, err)
			}
		}
	}
	return fmt.Errorf("no attestation %s that counts", want.predicateType)
}

// judgeVersion asks that the content is not older than the rule allows. Its
// version is in the manifest, and so whoever signed that has signed it.
func (c *collector) judgeVersion() *Refusal {
	floor, root := c.rule.minVersion, c.parts[0]
	if floor == "" {
		return nil
	}
	got := root.version()
	if v := canonicalVersion(got); semver.IsValid(v) && semver.Compare(v, floor) >= 0 {
		return nil
	}
	return c.refuse(RolledBack, root.String(), fmt.Errorf("version: got %q, want %s or later", printable(got), floor))
}

// version returns what the manifest says its version is.
func (p *part) version() string {
	var annotations map[string]string
	if index, err := p.manifest.Index(); err == nil {
		annotations = index.Annotations
	} else if image, err := p.manifest.Image(); err == nil {
		annotations = image.Annotations
	}
	return annotations["org.opencontainers.image.version"]
}

// canonicalVersion writes a version as Go and Kubernetes do, with a v.
func canonicalVersion(s string) string {
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		return "v" + s
	}
	return s
}

// signers returns the names of the different signers behind the findings that
// count and are asked for, sorted. Two files with one key are one signer; the
// policy refuses to load those, and this would not count them either.
func (p *part) signers(asked func(finding) bool) []string {
	names := make(map[string]string)
	for _, f := range p.findings {
		if f.answer == good && asked(f) {
			names[f.by.id] = f.by.name
		}
	}
	list := make([]string, 0, len(names))
	for _, n := range names {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// notes lists what did not count and why.
func (p *part) notes() []string {
	var notes []string
	for _, f := range p.findings {
		if f.answer != good && len(notes) < maxNotes {
			notes = append(notes, fmt.Sprintf("%s: %v", f.what, f.err))
		}
	}
	return notes
}
