package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
)

// Verified is the proof that content may be used. Only [Verifier.Verify] makes
// one; the zero Verified is none, which [Verified.Valid] tells. It does not
// change and is safe for concurrent use.
type Verified struct {
	subject  Subject
	manifest *oci.Manifest
	children []*oci.Manifest
	sources  []*oci.Repository
	report   Report
	blobs    map[v1.Hash]v1.Descriptor // what the manifests name
	attested map[v1.Hash][]Attestation // by manifest
	release  *ReleaseStatement         // that names it; nil: the rule asks for none
}

// Attestation is what is said about a manifest beyond that it may be used.
type Attestation struct {
	PredicateType string
	Predicate     []byte // JSON, as it was signed
}

// Report says what was found, for people and as JSON.
type Report struct {
	Repository string       `json:"repository"` // that the rule was looked up by
	Digest     string       `json:"digest"`
	Rule       string       `json:"rule"`
	Signers    []string     `json:"signers"`           // who signed the subject: the keys' names in the policy
	Parts      []PartReport `json:"parts"`             // the subject first, then what it names
	Notes      []string     `json:"notes,omitempty"`   // what did not count, and why
	Release    *Current     `json:"release,omitempty"` // where the policy asks for a release statement
	Sources    []string     `json:"sources"`           // that have answered, in the order in which they are asked
}

// PartReport says who vouched for one manifest.
type PartReport struct {
	Name         string   `json:"name"` // "index", "manifest" or a platform
	Digest       string   `json:"digest"`
	Signers      []string `json:"signers"`
	Attestations []string `json:"attestations,omitempty"` // predicate types
}

// Valid reports whether v was made by [Verifier.Verify]. Whoever takes a
// *Verified as a permission asks this first.
func (v *Verified) Valid() bool { return v != nil && v.manifest != nil }

// errNotVerified answers for a Verified that nobody has verified.
var errNotVerified = errors.New("not verified: this value was not made by a Verifier")

// Digest returns the digest that was verified.
func (v *Verified) Digest() v1.Hash { return v.subject.Digest }

// Repository returns the name that the policy's rule was looked up by.
func (v *Verified) Repository() string { return v.subject.Repository }

// Manifest returns a copy of the manifest that was verified, nil of a zero Verified.
func (v *Verified) Manifest() *oci.Manifest {
	if !v.Valid() {
		return nil
	}
	return clone(v.manifest)
}

// Children returns copies of the manifests that the index names, in its order,
// each once. An image manifest has none.
func (v *Verified) Children() []*oci.Manifest {
	out := make([]*oci.Manifest, len(v.children))
	for i, m := range v.children {
		out[i] = clone(m)
	}
	return out
}

// clone keeps what was verified from being changed by those who read it.
func clone(m *oci.Manifest) *oci.Manifest {
	return &oci.Manifest{Descriptor: m.Descriptor, Body: bytes.Clone(m.Body)}
}

// Attestations returns what is attested of h, which is the subject or a manifest
// that it names, in the order in which it was found: that which as many of the
// policy's keys have signed as must sign the content. What the policy did not
// ask for need not be complete: a source may not have been asked.
func (v *Verified) Attestations(h v1.Hash) []Attestation {
	var all []Attestation
	for _, a := range v.attested[h] {
		all = append(all, Attestation{a.PredicateType, bytes.Clone(a.Predicate)})
	}
	return all
}

// Release returns the newest release statement, which names the content; nil
// where the policy asks for none. It is not to be changed.
func (v *Verified) Release() *ReleaseStatement { return v.release }

// Report returns what was found.
func (v *Verified) Report() Report { return v.report }

// Sources returns where the content is to be had: those that have answered
// first, each group in the order in which they were given.
func (v *Verified) Sources() []*oci.Repository { return slices.Clone(v.sources) }

// Blob opens a configuration or layer that one of the manifests names, at the
// first source that has it. Another descriptor is an error: nobody vouched for it.
//
// The reader fails instead of returning io.EOF when size or digest differ.
// Once reading has begun it does not change the source; see [Verified.ReadBlob].
func (v *Verified) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	var rc io.ReadCloser
	err := v.try(d, func(source *oci.Repository, d v1.Descriptor) (err error) {
		rc, err = source.Blob(ctx, d)
		return err
	})
	return rc, err
}

// ReadBlob reads a blob of at most limit bytes whole. A source that breaks off
// or gives other bytes is followed by the next.
func (v *Verified) ReadBlob(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	var data []byte
	err := v.try(d, func(source *oci.Repository, d v1.Descriptor) (err error) {
		data, err = source.ReadBlob(ctx, d, limit)
		return err
	})
	return data, err
}

// try calls get for one source after the other until it succeeds. The error
// joins what each of them said.
func (v *Verified) try(d v1.Descriptor, get func(*oci.Repository, v1.Descriptor) error) error {
	if !v.Valid() {
		return errNotVerified
	}
	known, ok := v.blobs[d.Digest]
	if !ok {
		return fmt.Errorf("blob %s: nothing in %s names it", d.Digest, v.subject)
	}
	var errs []error
	for _, source := range v.sources {
		err := get(source, known)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("blob %s of %s: %w", d.Digest, v.subject, joinErrors(errs))
}

// verified makes the proof. It is called when judge has found nothing lacking.
func (c *collector) verified() *Verified {
	v := &Verified{
		subject:  c.subject,
		manifest: c.parts[0].manifest,
		blobs:    make(map[v1.Hash]v1.Descriptor),
		attested: make(map[v1.Hash][]Attestation),
		report:   c.report(),
	}
	for _, p := range c.parts[1:] {
		v.children = append(v.children, p.manifest)
	}
	for _, p := range c.parts {
		for _, d := range p.blobs {
			v.blobs[d.Digest] = d
		}
		v.attested[p.digest()] = p.attestations(c.rule.threshold)
	}
	v.sources = c.answering()
	for _, s := range c.from {
		if c.isDead(s) {
			v.sources = append(v.sources, s)
		}
	}
	return v
}

// attestations returns what at least threshold keys attest of the part.
func (p *part) attestations(threshold int) []Attestation {
	var all []Attestation
	for i, f := range p.findings {
		same := func(g finding) bool {
			return g.predicateType == f.predicateType && bytes.Equal(g.predicate, f.predicate)
		}
		counts := f.answer == good && f.predicateType != predicateSignature && len(p.signers(same)) >= threshold
		if counts && !slices.ContainsFunc(p.findings[:i], func(g finding) bool { return g.answer == good && same(g) }) {
			all = append(all, Attestation{f.predicateType, f.predicate})
		}
	}
	return all
}

// answering returns the sources that could be asked.
func (c *collector) answering() []*oci.Repository {
	return slices.DeleteFunc(slices.Clone(c.from), c.isDead)
}

func (c *collector) report() Report {
	r := Report{Repository: c.subject.Repository, Digest: c.subject.Digest.String(), Rule: c.rule.String()}
	for _, p := range c.parts {
		signed := func(f finding) bool { return f.predicateType == predicateSignature }
		pr := PartReport{Name: p.name, Digest: p.digest().String(), Signers: p.signers(signed)}
		for _, f := range p.findings {
			if f.answer == good && !signed(f) && !slices.Contains(pr.Attestations, f.predicateType) {
				pr.Attestations = append(pr.Attestations, f.predicateType)
			}
		}
		slices.Sort(pr.Attestations)
		r.Parts = append(r.Parts, pr)
		r.Notes = append(r.Notes, p.notes()...)
	}
	r.Notes = r.Notes[:min(len(r.Notes), maxNotes)]
	r.Signers = r.Parts[0].Signers
	for _, s := range c.answering() {
		r.Sources = append(r.Sources, s.String())
	}
	return r
}
