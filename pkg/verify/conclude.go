package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// conclude turns what the sources said into one verdict. It asks nobody.
func conclude(ref oci.Reference, rows []row) *Inspection {
	in := &Inspection{Header: strict.Header{APIVersion: strict.APIVersion, Kind: InspectionKind}, Reference: ref.String()}
	want := wanted(ref, rows)
	var changed *oci.Changed
	for _, r := range rows {
		if r.source == nil { // no rule, and so nobody was asked
			continue
		}
		s := r.judge(want)
		if s.Verdict == VerdictChanged && changed == nil {
			changed = &oci.Changed{Repository: s.Source, Tag: ref.Tag, Got: r.digest, Want: want}
		}
		in.Sources = append(in.Sources, s)
	}
	if i := slices.IndexFunc(rows, func(r row) bool { return r.verified != nil && r.digest == want }); i >= 0 {
		proof := *rows[i].verified // several rows may share it
		in.Verified, in.Through, in.Digest = &proof, in.Sources[i].Source, want.String()
		in.Verified.sources = whole(rows, want)
		report := in.Verified.Report()
		in.Report = &report
	}
	switch {
	case changed != nil:
		in.Verdict, in.Err = VerdictChanged, changed
	case in.Verified != nil:
		in.Verdict = VerdictVerified
	default:
		in.Verdict, in.Err = nothingGood(ref, rows)
	}
	var refusal *Refusal
	if errors.As(in.Err, &refusal) {
		in.Reason = refusal.Reason
	}
	in.Conclusion, in.Next = in.sentence(ref), in.next(ref)
	return in
}

// wanted returns what the reference should mean: the digest in it, or what the
// first source that answers has if that is verified, or else the first that is.
func wanted(ref oci.Reference, rows []row) v1.Hash {
	if ref.Digest != (v1.Hash{}) {
		return ref.Digest
	}
	for _, r := range rows {
		if r.verified != nil {
			return r.digest
		}
	}
	return v1.Hash{} // nothing to compare with
}

// judge is the verdict about one source, given what the reference should mean.
func (r *row) judge(want v1.Hash) SourceVerdict {
	s := SourceVerdict{Source: r.source.String(), Answers: true, Detail: r.note, TookMillis: r.took.Milliseconds()}
	if r.digest != (v1.Hash{}) {
		s.Digest = r.digest.String()
	}
	if r.verified != nil {
		s.Signers = r.verified.Report().Signers
	}
	if r.err != nil {
		s.Detail = r.err.Error()
	}
	var refusal *Refusal
	switch a := classify(r.err); {
	case r.digest != (v1.Hash{}) && want != (v1.Hash{}) && r.digest != want:
		s.Verdict, s.Detail = VerdictChanged, strings.TrimSuffix("want "+want.String()+"; "+s.Detail, "; ")
	case a == good:
		s.Verdict = VerdictVerified
	case errors.As(r.err, &refusal):
		s.Verdict, s.Reason = VerdictRefused, refusal.Reason
	case a == bad:
		s.Verdict, s.Reason = VerdictRefused, Mismatch
	case a == absent:
		s.Verdict = VerdictAbsent
	default:
		s.Verdict, s.Answers, s.Outage = VerdictUnknown, r.digest != (v1.Hash{}), oci.OutageOf(r.err)
	}
	return s
}

// whole returns where verified content is to be had: first where all of it was
// seen, then where nobody could look. A pull that breaks off goes on there.
func whole(rows []row, want v1.Hash) []*oci.Repository {
	var seen, perhaps []*oci.Repository
	for _, r := range rows {
		switch {
		case r.verified != nil && r.digest == want:
			seen = append(seen, r.source)
		case classify(r.err) == unknown:
			perhaps = append(perhaps, r.source)
		}
	}
	return append(seen, perhaps...)
}

// nothingGood is the verdict when no source has anything that is accepted: what
// the first source that has anything was refused for, unless somebody who
// could not be asked may have had what was lacking.
func nothingGood(ref oci.Reference, rows []row) (Verdict, error) {
	var refused, open, gone []error // open: what nobody can say
	for _, r := range rows {
		var refusal *Refusal
		switch a := classify(r.err); {
		case errors.As(r.err, &refusal), a == bad:
			refused = append(refused, r.err)
		case a == absent:
			gone = append(gone, r.err)
		default:
			open = append(open, r.err)
		}
	}
	switch {
	case len(open) > 0:
		// A refusal is named and not wrapped: this error is none.
		err := joinErrors(open)
		if len(refused) > 0 {
			err = fmt.Errorf("%w; %v", err, refused[0])
		}
		return VerdictUnknown, &Unknown{Reference: ref.String(), Err: err}
	case len(refused) > 0:
		return VerdictRefused, refused[0]
	}
	return VerdictAbsent, fmt.Errorf("verify %s: %w", ref, joinErrors(gone))
}
