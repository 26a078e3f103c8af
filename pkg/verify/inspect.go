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

const (
	// defaultBudget is how long one source may take. All are asked at the same
	// time, so that the whole answer is there in half a minute.
	defaultBudget = 20 * time.Second
	// A source that has said nothing after this part of its budget is dead.
	firstWord = 2
)

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
	Reason     Reason          `json:"reason,omitempty"`  // of a refusal
	Conclusion string          `json:"conclusion"`        // the verdict in a sentence or two
	Next       string          `json:"next,omitempty"`    // what to do now; "" when nothing is
	Digest     string          `json:"digest,omitempty"`  // what may be used; "" when nothing may
	Through    string          `json:"through,omitempty"` // the first source that has it whole
	Sources    []SourceVerdict `json:"sources"`           // in the order of the policy
	Report     *Report         `json:"report,omitempty"`  // of what may be used
	Verified   *Verified       `json:"-"`                 // the same as a proof; nil when nothing may be used
	Err        error           `json:"-"`                 // nil, *Refusal, *oci.Changed, *Unknown, or that it is nowhere
}

// SourceVerdict is a row of the table.
type SourceVerdict struct {
	Source  string   `json:"source"`
	Answers bool     `json:"answers"`
	Digest  string   `json:"digest,omitempty"`  // that the reference has there
	Signers []string `json:"signers,omitempty"` // who of the policy signed that
	Verdict Verdict  `json:"verdict"`
	Reason  Reason   `json:"reason,omitempty"` // of a refusal

	Outage     oci.Outage `json:"outage,omitempty"` // of an unknown one: how it could not be asked
	Detail     string     `json:"detail,omitempty"` // why it is not verified, or what else is to be known
	TookMillis int64      `json:"tookMillis"`       // until the first answer
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
		return conclude(ref, []row{{err: noRule(ref.Repository)}}), nil
	}
	sources, err := v.inspected(rule, ref.Repository)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, err)
	}
	rows := make([]row, len(sources))
	var latest *news
	var g errgroup.Group
	if rule.freshness != nil {
		g.Go(func() error {
			latest = v.news(ctx, rule, ref.Repository, sources)
			return nil
		})
	}
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
	if latest != nil {
		for i := range rows {
			rows[i].settle(latest, rule, v.now())
		}
	}
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
	r := row{source: source}
	if r.err = v.dead.why(source); r.err != nil {
		return r
	}
	ctx, cancel := withBudget(ctx, v.budget())
	defer cancel()
	began := v.now()
	r.digest, r.err = v.look(ctx, ref, source)
	r.took = v.now().Sub(began)
	if r.err == nil {
		r.verified, r.err = v.VerifyContent(ctx, Subject{ref.Repository, r.digest}, source)
	}
	if classify(r.err) == unknown {
		v.dead.remember(source, r.err)
	}
	return r
}

// look asks a source what it has, within the time in which a live one says something.
func (v *Verifier) look(ctx context.Context, ref oci.Reference, source *oci.Repository) (v1.Hash, error) {
	ctx, cancel := withBudget(ctx, v.budget()/firstWord)
	defer cancel()
	if ref.Tag != "" {
		d, err := source.Resolve(ctx, ref.Tag)
		return d.Digest, err
	}
	_, err := source.Manifest(ctx, ref.Digest)
	if a := classify(err); a == good || a == bad {
		return ref.Digest, err
	}
	return v1.Hash{}, err
}

func (v *Verifier) budget() time.Duration {
	if v.Budget == 0 {
		return defaultBudget
	}
	return v.Budget
}

func withBudget(ctx context.Context, budget time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, budget, &budgetError{budget})
}

// budgetError is a source that has used up its time.
type budgetError struct{ budget time.Duration }

func (e *budgetError) Error() string { return fmt.Sprintf("no answer within %s", e.budget) }

// Timeout makes it a time-out as those of package net are.
func (e *budgetError) Timeout() bool { return true }

// Temporary is the rest of [net.Error].
func (e *budgetError) Temporary() bool { return true }

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
		ctx, cancel := withBudget(ctx, v.budget())
		whole, err := v.VerifyContent(ctx, Subject{ref.Repository, r.digest}, inOrder(rows, i)...)
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

// inOrder returns the sources that have answered, beginning with the given one:
// waiting for a dead one again would not prove anything.
func inOrder(rows []row, first int) []*oci.Repository {
	list := []*oci.Repository{rows[first].source}
	for i, r := range rows {
		if i != first && classify(r.err) != unknown {
			list = append(list, r.source)
		}
	}
	return list
}
