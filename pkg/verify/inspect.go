package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// InspectionKind is the kind of an [Inspection] as JSON.
const InspectionKind = "Inspection"

// defaultBudget is how long one source may take. All are asked at the same
// time, so that the whole answer is there in half a minute.
const defaultBudget = 20 * time.Second

// Verdict is what is known about a reference, or about it at one source.
type Verdict string

// The verdicts. Unknown is not absent, and neither is refused.
const (
	VerdictVerified Verdict = "verified" // the policy accepts it
	VerdictRefused  Verdict = "refused"  // it is there and the policy does not accept it
	VerdictChanged  Verdict = "changed"  // the tag points at something else than what is verified
	VerdictAbsent   Verdict = "absent"   // the source says that it is not there
	VerdictUnknown  Verdict = "unknown"  // the source could not be asked
)

// Inspection is the state of one reference at all its sources, side by side.
type Inspection struct {
	strict.Header

	Reference  string          `json:"reference"`
	Verdict    Verdict         `json:"verdict"`
	Conclusion string          `json:"conclusion"`        // the verdict in a sentence or two
	Digest     string          `json:"digest,omitempty"`  // what may be used; "" when nothing may
	Through    string          `json:"through,omitempty"` // the first source that has it whole
	Sources    []SourceVerdict `json:"sources"`           // in the order of the policy
	Report     *Report         `json:"report,omitempty"`  // of what may be used
	Verified   *Verified       `json:"-"`                 // the same as a proof; nil when nothing may be used
	Err        error           `json:"-"`                 // nil, *Refusal, *oci.Changed, or why nobody could be asked
}

// SourceVerdict is a row of the table.
type SourceVerdict struct {
	Source     string   `json:"source"`
	Answers    bool     `json:"answers"`
	Digest     string   `json:"digest,omitempty"`  // that the reference has there
	Signers    []string `json:"signers,omitempty"` // who of the policy signed that
	Verdict    Verdict  `json:"verdict"`
	Detail     string   `json:"detail,omitempty"` // why it is not verified, or what else is to be known
	TookMillis int64    `json:"tookMillis"`       // until the first answer
}

// row is a SourceVerdict in the making.
type row struct {
	source   *oci.Repository
	digest   v1.Hash // zero: none
	err      error   // of resolving, then of verifying what was resolved
	took     time.Duration
	verified *Verified
	note     string
}

// Inspect asks all sources of the reference at the same time what it is there
// and whether the policy accepts that.
//
// The first source that answers decides what a tag means; where a later one
// has something else, or the first has something that is not accepted while a
// later one is, the tag was changed: Err is an [*oci.Changed]. The error
// returned is for what cannot be inspected at all; a bad verdict is none.
func (v *Verifier) Inspect(ctx context.Context, ref oci.Reference) (*Inspection, error) {
	if ref.Tag == "" && ref.Digest == (v1.Hash{}) {
		return nil, fmt.Errorf("inspect %s: want a tag or a digest", ref)
	}
	rule, ok := v.Policy.Rule(ref.Repository)
	if !ok {
		s := Subject{Repository: ref.Repository, Digest: ref.Digest}
		return nil, &Refusal{Subject: s, Reason: Denied, Err: errors.New("no rule of the policy names the repository")}
	}
	sources, err := v.inspected(rule, ref.Repository)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, err)
	}
	rows := make([]row, len(sources))
	var g errgroup.Group
	for i, s := range sources {
		g.Go(func() error {
			rows[i] = v.inspectOne(ctx, ref, s)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, context.Cause(ctx))
	}
	v.combine(ctx, ref, rows)
	return conclude(ref, rows), nil
}

// inspected returns the rule's sources and, before them, the repository that
// the user has asked about, if it is none of them.
func (v *Verifier) inspected(rule *Rule, repository string) ([]*oci.Repository, error) {
	sources, err := v.open(rule, repository, nil)
	if err != nil {
		return nil, err
	}
	name, err := canonicalRepository(repository, "")
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(sources, func(r *oci.Repository) bool { return r.String() == name }) {
		return sources, nil
	}
	own, err := v.Registry.Repository(name)
	if err != nil {
		return nil, err
	}
	return append([]*oci.Repository{own}, sources...), nil
}

// inspectOne asks one source, within the budget, without help of the others.
func (v *Verifier) inspectOne(ctx context.Context, ref oci.Reference, source *oci.Repository) row {
	ctx, cancel := v.withBudget(ctx)
	defer cancel()
	r := row{source: source}
	began := v.now()
	if ref.Tag != "" {
		d, err := source.Resolve(ctx, ref.Tag)
		r.digest, r.err = d.Digest, err
	} else {
		_, r.err = source.Manifest(ctx, ref.Digest)
		if a := classify(r.err); a == good || a == bad {
			r.digest = ref.Digest
		}
	}
	r.took = v.now().Sub(began)
	if r.err == nil {
		r.verified, r.err = v.Verify(ctx, Subject{ref.Repository, r.digest}, source)
	}
	return r
}

func (v *Verifier) withBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	budget := v.Budget
	if budget == 0 {
		budget = defaultBudget
	}
	return context.WithTimeoutCause(ctx, budget, fmt.Errorf("no answer within %s", budget))
}

// combine lets sources that have the same content vouch for each other: bytes
// and signatures are bound to the digest, so what one lacks another may have.
func (v *Verifier) combine(ctx context.Context, ref oci.Reference, rows []row) {
	tried := make(map[v1.Hash]bool)
	for i := range rows {
		r := &rows[i]
		if r.digest == (v1.Hash{}) || r.verified != nil || !lacksOnlyEvidence(r.err) || tried[r.digest] {
			continue
		}
		tried[r.digest] = true
		ctx, cancel := v.withBudget(ctx)
		whole, err := v.Verify(ctx, Subject{ref.Repository, r.digest}, inOrder(rows, i)...)
		cancel()
		if err != nil {
			continue
		}
		for j := range rows {
			if s := &rows[j]; s.digest == r.digest && s.verified == nil && lacksOnlyEvidence(s.err) {
				s.verified, s.err, s.note = whole, nil, "signatures that it lacks were found at another source"
			}
		}
	}
}

// lacksOnlyEvidence reports whether the content was there and whole.
func lacksOnlyEvidence(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason != Mismatch && r.Reason != Incomplete
}

// inOrder returns the sources, beginning with the given one.
func inOrder(rows []row, first int) []*oci.Repository {
	list := []*oci.Repository{rows[first].source}
	for i, r := range rows {
		if i != first {
			list = append(list, r.source)
		}
	}
	return list
}
