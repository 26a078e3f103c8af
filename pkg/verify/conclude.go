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
		s := r.judge(want)
		if s.Verdict == VerdictChanged && changed == nil {
			changed = &oci.Changed{Repository: s.Source, Tag: ref.Tag, Got: r.digest, Want: want}
		}
		in.Sources = append(in.Sources, s)
	}
	if i := slices.IndexFunc(rows, func(r row) bool { return r.verified != nil && r.digest == want }); i >= 0 {
		in.Verified, in.Through, in.Digest = rows[i].verified, in.Sources[i].Source, want.String()
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
	in.Conclusion = in.sentence(ref)
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
	case errors.As(r.err, &refusal), a == bad:
		s.Verdict = VerdictRefused
	case a == absent:
		s.Verdict = VerdictAbsent
	default:
		s.Verdict, s.Answers = VerdictUnknown, r.digest != (v1.Hash{})
	}
	return s
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
		err := fmt.Errorf("verify %s: not every source could be asked: %w", ref, joinErrors(open))
		if len(refused) > 0 {
			err = fmt.Errorf("%w; %v", err, refused[0])
		}
		return VerdictUnknown, err
	case len(refused) > 0:
		return VerdictRefused, refused[0]
	}
	return VerdictAbsent, fmt.Errorf("verify %s: %w", ref, joinErrors(gone))
}

// sentence says the verdict to somebody who has been woken up for it.
func (in *Inspection) sentence(ref oci.Reference) string {
	unknown := in.with(VerdictUnknown)
	var asides string
	if len(unknown) > 0 {
		asides = fmt.Sprintf(" %s could not be asked; nothing says that it changed.", join(unknown))
	}
	switch in.Verdict {
	case VerdictVerified:
		return fmt.Sprintf("Verified through %s (%s).%s", in.Through, in.Report.summary(), asides)
	case VerdictChanged:
		use := "Nothing may be used."
		if in.Verified != nil {
			use = fmt.Sprintf("Use the verified copy by digest: %s@%s.", in.Through, in.Digest)
		}
		return fmt.Sprintf("%s does not point at what is signed. Do not pull it from there. %s%s", at(ref, in.with(VerdictChanged)), use, asides)
	case VerdictRefused:
		return fmt.Sprintf("Every source has answered, and the policy accepts none of it. Do not use %s.", ref)
	case VerdictAbsent:
		return fmt.Sprintf("Every source has answered: there is no %s.", ref)
	}
	return fmt.Sprintf("Whether %s may be used is not known: %s could not be asked.", ref, join(unknown))
}

// with lists the sources that have the verdict.
func (in *Inspection) with(v Verdict) []string {
	var list []string
	for _, s := range in.Sources {
		if s.Verdict == v {
			list = append(list, s.Source)
		}
	}
	return list
}

// at names the reference at each of the sources.
func at(ref oci.Reference, sources []string) string {
	for i := range sources {
		sources[i] = oci.Reference{Repository: sources[i], Tag: ref.Tag}.String()
	}
	return join(sources)
}

// summary says in a few words what was verified: "index, 2 platforms, 3 attestations".
func (r *Report) summary() string {
	attestations := 0
	for _, p := range r.Parts {
		attestations += len(p.Attestations)
	}
	words := []string{r.Parts[0].Name}
	if n := len(r.Parts) - 1; n > 0 {
		words = append(words, count(n, "platform"))
	}
	if attestations > 0 {
		words = append(words, count(attestations, "attestation"))
	}
	return strings.Join(words, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// join lists names as a sentence does.
func join(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
