package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// Audit is how the sources of one reference differ: index, children, referrers
// and the tag itself. [Compare] makes it.
//
// Signatures in the older layout hold the name of their repository, so that each
// source may have its own. They count as equal when podman would accept the
// content at both.
type Audit struct {
	Reference   string       `json:"reference"`
	Digest      string       `json:"digest"`
	Best        string       `json:"best"`        // the source that the others are compared with
	Differences []Difference `json:"differences"` // in the order in which they are to be repaired

	ref      oci.Reference
	gather   []Plan          // of what the best lacks and another has
	others   []string        // that get all of it then
	readable map[string]bool // by podman, of the sources that are verified
}

// Difference is what one source lacks and another has.
type Difference struct {
	Source  string `json:"source"` // that lacks it
	From    string `json:"from"`   // that has it
	Action  Action `json:"action"`
	Why     string `json:"why"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`

	// Err says why it cannot be repaired as it is: as in [Copy].
	Err   error  `json:"-"`
	Error string `json:"error,omitempty"`
}

// Compare finds out how the sources of what was inspected differ from each other.
// It writes nothing. Only a source that the policy accepts by itself is believed
// to have what others lack; what every source lacks nobody knows of.
func Compare(ctx context.Context, reg *oci.Client, v *verify.Verifier, in *verify.Inspection) (*Audit, error) {
	fail := func(err error) (*Audit, error) {
		return nil, fmt.Errorf("compare the sources of %s: %w", in.Reference, err)
	}
	ref, err := oci.ParseReference(in.Reference)
	if err != nil {
		return fail(err)
	}
	if in.Verified == nil {
		return fail(errors.New("none of them has what the policy accepts"))
	}
	ref.Digest = in.Verified.Digest()
	a := &Audit{Reference: in.Reference, Digest: in.Digest, Differences: []Difference{}, ref: ref}
	if err := a.read(ctx, reg, v, in); err != nil {
		return fail(err)
	}
	spread, err := a.choose(ctx, reg, v, in)
	if err != nil {
		return fail(err)
	}
	for _, s := range in.Sources {
		if s.Verdict != verify.VerdictVerified || s.Source == a.Best {
			continue
		}
		p, err := Compute(ctx, reg, v, a.at(s.Source), a.Best)
		if err != nil { // it is none by itself: what it lacks is in spread
			continue
		}
		if a.note(p) {
			a.gather = append(a.gather, p)
		}
	}
	a.note(spread)
	return a, ctx.Err()
}

// read finds out at which of the verified sources podman sees a signature.
func (a *Audit) read(ctx context.Context, reg *oci.Client, v *verify.Verifier, in *verify.Inspection) error {
	a.readable = make(map[string]bool)
	for _, s := range in.Sources {
		if s.Verdict != verify.VerdictVerified {
			continue
		}
		source, err := reg.Repository(s.Source)
		if err != nil {
			return err
		}
		name, err := v.SignedAs(ctx, verify.Subject{Repository: in.Verified.Repository(), Digest: a.ref.Digest}, source)
		if err != nil {
			return err
		}
		a.readable[s.Source] = name != ""
	}
	return nil
}

// at is the reference at one of the sources.
func (a *Audit) at(source string) oci.Reference {
	return oci.Reference{Repository: source, Tag: a.ref.Tag, Digest: a.ref.Digest}
}

// choose finds the first source that stands by itself, and what the others lack of it.
func (a *Audit) choose(ctx context.Context, reg *oci.Client, v *verify.Verifier, in *verify.Inspection) (Plan, error) {
	var errs []error
	for _, best := range in.Sources {
		if best.Verdict != verify.VerdictVerified {
			continue
		}
		var others []string
		for _, s := range in.Sources {
			if s.Source != best.Source {
				others = append(others, s.Source)
			}
		}
		if len(others) == 0 {
			return Plan{}, errors.New("there is only one")
		}
		p, err := Compute(ctx, reg, v, a.at(best.Source), others...)
		if err == nil {
			a.Best, a.others = best.Source, others
			return p, nil
		}
		errs = append(errs, err)
	}
	return Plan{}, fmt.Errorf("none of them is whole by itself: %w", errors.Join(errs...))
}

// note keeps what a plan would do, and reports whether that is anything.
func (a *Audit) note(p Plan) (any bool) {
	for _, c := range p.Copies {
		if !a.differs(c) {
			continue
		}
		any = true
		a.Differences = append(a.Differences, Difference{
			Source: c.Destination, From: p.Source, Action: c.Action, Why: c.Why, Objects: c.Objects, Bytes: c.Bytes, Err: c.Err, Error: c.Error,
		})
	}
	return any
}

// differs reports whether a copy would bring a source anything but signatures by
// another name, where it has those by its own.
func (a *Audit) differs(c Copy) bool {
	if c.Err != nil {
		return true
	}
	return c.Action != DoNothing && (c.Objects > c.named || !a.readable[c.Destination])
}

// Heal brings every source to what all of them have together: first the best,
// then, from there, the others. A tag that points elsewhere stays where it is,
// with an error, unless overwrite says why it is moved.
func (a *Audit) Heal(ctx context.Context, reg *oci.Client, v *verify.Verifier, overwrite string) ([]oci.Receipt, error) {
	var all []oci.Receipt
	var errs []error
	apply := func(p Plan) {
		p.Overwrite = overwrite
		wanted := make([]bool, len(p.Copies))
		for i, c := range p.Copies {
			if wanted[i] = a.differs(c); !wanted[i] {
				p.Copies[i].Action = DoNothing
			}
		}
		receipts, err := p.Apply(ctx)
		for i, r := range receipts {
			if wanted[i] {
				all = append(all, r)
			}
		}
		errs = append(errs, err)
	}
	for _, p := range a.gather {
		apply(p)
	}
	p, err := Compute(ctx, reg, v, a.at(a.Best), a.others...)
	if err != nil {
		return all, errors.Join(append(errs, err)...)
	}
	apply(p)
	return all, errors.Join(errs...)
}
