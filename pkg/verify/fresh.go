package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
)

// freshness is what a rule asks of the release statement. nil asks for none.
type freshness struct {
	maxAge time.Duration // since it was issued; 0: until it expires
}

const (
	// maxLeap is how far a statement may be ahead of the newest that was seen.
	// Whoever steals a key for a moment could else sign the highest sequence there
	// is, and no machine that has seen it would believe a true one again. A release
	// a day gets there in almost three years.
	maxLeap = 1000
	// clockSkew is how far clocks may differ.
	clockSkew = 5 * time.Minute
)

// news is what the sources have said about releases.
type news struct {
	found    []*ReleaseStatement // that count, the newest first
	notes    []string            // what did not count, and why
	unknown  []error             // who could not be asked
	notSince int64               // the highest sequence that this machine has seen; 0: none
}

// news asks every source for its newest statement, all at the same time: one
// that is held back at one of them is not at all.
func (v *Verifier) news(ctx context.Context, rule *Rule, repository string, from []*oci.Repository) *news {
	c := &collector{subject: Subject{Repository: repository}, rule: rule, now: v.now(), from: from}
	all := make([]news, len(from))
	var g errgroup.Group
	for i, source := range from {
		g.Go(func() error {
			if err := v.dead.why(source); err != nil {
				all[i].unknown = []error{err}
				return nil
			}
			ctx, cancel := withBudget(ctx, v.budget()/firstWord)
			defer cancel()
			c.readNews(ctx, source, &all[i])
			return nil
		})
	}
	_ = g.Wait()
	n := &news{notSince: v.Seen[repository]}
	for _, one := range all {
		n.found = append(n.found, one.found...)
		n.notes = append(n.notes, one.notes...)
		n.unknown = append(n.unknown, one.unknown...)
	}
	slices.SortStableFunc(n.found, func(a, b *ReleaseStatement) int {
		if a.Sequence != b.Sequence {
			return int(b.Sequence - a.Sequence)
		}
		return b.Issued.Compare(a.Issued)
	})
	return n
}

// Newest returns the newest release statement about the repository that the
// sources have and its rule's signers have signed, whether it has expired or not:
// what a publisher goes on from. nil: none is known.
func (v *Verifier) Newest(ctx context.Context, repository string, from ...*oci.Repository) *ReleaseStatement {
	rule, ok := v.Policy.Rule(repository)
	if !ok {
		return nil
	}
	if n := v.news(ctx, rule, repository, from); len(n.found) > 0 {
		return n.found[0]
	}
	return nil
}

// readNews reads what one source has under [StatementTag].
func (c *collector) readNews(ctx context.Context, source *oci.Repository, n *news) {
	note := func(err error) {
		n.notes = append(n.notes, fmt.Sprintf("release statement at %s: %v", source, err))
	}
	m, err := source.Tagged(ctx, StatementTag)
	if err == nil {
		var image *v1.Manifest
		if image, err = m.Image(); err == nil {
			var docs [][]byte
			if docs, err = c.statementBundles(ctx, source, image); err == nil {
				n.found, err = c.statements(docs)
			}
		}
	}
	switch {
	case err == nil:
	case classify(err) == unknown && !errors.As(err, new(*notCounted)):
		n.unknown = append(n.unknown, err)
	default:
		note(err)
	}
}

// statementBundles returns the bundles in the manifest: those that are inline as
// they are, others as blobs.
func (c *collector) statementBundles(ctx context.Context, source *oci.Repository, image *v1.Manifest) ([][]byte, error) {
	var docs [][]byte
	for _, l := range image.Layers[:min(len(image.Layers), maxLayers)] {
		if sum := sha256.Sum256(l.Data); l.Digest.Hex == hex.EncodeToString(sum[:]) {
			docs = append(docs, l.Data)
			continue
		}
		doc, err := c.readAll(ctx, source, l, maxBundle)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// notCounted says why nothing under the tag is a statement that counts.
type notCounted struct{ err error }

func (e *notCounted) Error() string { return e.err.Error() }

// statements returns what as many of the rule's signers have said as must sign
// content.
func (c *collector) statements(docs [][]byte) ([]*ReleaseStatement, error) {
	by := make(map[string][]string) // signers, by what they have signed
	var errs []error
	for _, doc := range docs {
		payload, who, err := c.openStatement(doc)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.Contains(by[string(payload)], who.id) {
			by[string(payload)] = append(by[string(payload)], who.id)
		}
	}
	var found []*ReleaseStatement
	for payload, signers := range by {
		s, err := readRelease([]byte(payload))
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(signers) < c.rule.threshold:
			errs = append(errs, fmt.Errorf("signed by %d of the policy's signers, want %d", len(signers), c.rule.threshold))
		default:
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, &notCounted{joinErrors(append(errs, errors.New("no statement that counts")))}
	}
	return found, nil
}

// openStatement returns what the bundle's envelope holds and who of the rule has
// signed that.
func (c *collector) openStatement(doc []byte) (payload []byte, by signer, err error) {
	defer func() {
		if r := recover(); r != nil { // a library that panics over it has judged it
			err = fmt.Errorf("it makes the parser panic: %v", r)
		}
	}()
	var b bundle.Bundle
	if err := b.UnmarshalJSON(doc); err != nil {
		return nil, signer{}, fmt.Errorf("parse bundle: %w", oneLine(err))
	}
	e := b.GetDsseEnvelope()
	if e == nil || e.GetPayloadType() != statementMediaType || len(e.GetSignatures()) != 1 {
		return nil, signer{}, errors.New("want one signed in-toto statement")
	}
	// sigstore asks what the statement is to be about; here that is what it says.
	var s statement
	if err := json.Unmarshal(e.GetPayload(), &s); err != nil || len(s.Subject) == 0 {
		return nil, signer{}, errors.New("a statement about nothing")
	}
	digest, err := hex.DecodeString(s.Subject[0].Digest["sha256"])
	if err != nil {
		return nil, signer{}, errors.New("its subject has no sha256")
	}
	by, err = c.signer(&b, preAuthEncoding(e), e.GetSignatures()[0].GetSig(), sigstore.WithArtifactDigest("sha256", digest))
	return e.GetPayload(), by, err
}

// readRelease reads a signed statement about releases.
func readRelease(payload []byte) (*ReleaseStatement, error) {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fmt.Errorf("parse statement: %w", oneLine(err))
	}
	if s.Type != statementType || s.PredicateType != predicateRelease {
		return nil, fmt.Errorf("predicate type: got %q, want %s", printable(s.PredicateType), predicateRelease)
	}
	return parseRelease(s.Predicate)
}

// Current says which release statement was believed, and until when that may be.
type Current struct {
	Sequence int64     `json:"sequence"` // of the newest statement
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`
	Since    int64     `json:"since"` // sequence of the statement that named the content first
}

// String is how explanations write it.
func (f *freshness) String() string {
	if f.maxAge == 0 {
		return "not past its expiry"
	}
	return fmt.Sprintf("not past its expiry and not older than %s", f.maxAge)
}

// settle judges content and, where it may be used, keeps the statement that says so.
func (n *news) settle(rule *Rule, v *Verified, now time.Time) error {
	s, err := n.judge(rule, v, now)
	if err != nil {
		return err
	}
	a, _ := s.Find(v.subject.Digest.String())
	v.release, v.report.Release = s, &Current{s.Sequence, s.Issued, s.Expires, a.Sequence}
	return nil
}

// settle is that of [news] about one source's content.
func (r *row) settle(n *news, rule *Rule, now time.Time) {
	if r.verified == nil {
		return
	}
	proof := *r.verified // several rows may share it
	if r.err = n.settle(rule, &proof, now); r.err != nil {
		r.verified = nil
		return
	}
	r.verified = &proof
}

// judge decides about content under what the sources have said. It returns the
// statement that decides, and else a [*Refusal], or an error for which nothing
// is known where somebody who could not be asked may have a newer one.
func (n *news) judge(rule *Rule, v *Verified, now time.Time) (*ReleaseStatement, error) {
	refuse := func(why Reason, err error) *Refusal {
		return &Refusal{Subject: v.subject, Rule: rule.String(), Reason: why, Err: err, Notes: n.notes[:min(len(n.notes), maxNotes)]}
	}
	unsettled := func(r *Refusal) error {
		if err := joinErrors(n.unknown); err != nil {
			return fmt.Errorf("verify %s: %w, and not every source could be asked: %w", v.subject, r.Err, err)
		}
		return r
	}
	var first *Refusal
	for _, s := range n.found {
		why, err := n.believable(s, rule.freshness.maxAge, now)
		if err == nil {
			if why, err = s.admits(v); err == nil {
				return s, nil
			}
			if why == Revoked { // for ever, whatever a newer one says
				return nil, refuse(why, err)
			}
			return nil, unsettled(refuse(why, err))
		}
		if first == nil {
			first = refuse(why, err)
		}
	}
	if first == nil {
		first = refuse(NoStatement, errors.New("no release statement that counts"))
	}
	return nil, unsettled(first)
}

// believable says whether the statement may decide at the time now.
func (n *news) believable(s *ReleaseStatement, maxAge time.Duration, now time.Time) (Reason, error) {
	clock := fmt.Sprintf("this machine's clock says %s", now.UTC().Format(time.RFC3339))
	name := fmt.Sprintf("release statement %d, issued %s,", s.Sequence, s.Issued.UTC().Format(time.RFC3339))
	switch age := now.Sub(s.Issued); {
	case n.notSince > 0 && s.Sequence < n.notSince:
		return RolledBack, fmt.Errorf("%s: got sequence %d, this machine has seen %d", name[:len(name)-1], s.Sequence, n.notSince)
	case n.notSince > 0 && s.Sequence-n.notSince > maxLeap:
		return FastForward, fmt.Errorf("%s is %d ahead of what this machine has seen, want at most %d", name, s.Sequence-n.notSince, maxLeap)
	case age < -clockSkew:
		return FastForward, fmt.Errorf("%s is from the future (%s)", name, clock)
	case !now.Before(s.Expires):
		return Stale, fmt.Errorf("%s counted until %s only (%s)", name, s.Expires.UTC().Format(time.RFC3339), clock)
	case maxAge > 0 && age > maxAge:
		return Stale, fmt.Errorf("%s is older than %s (%s)", name, maxAge, clock)
	}
	return "", nil
}

// admits says whether the statement lets the content be used.
func (s *ReleaseStatement) admits(v *Verified) (Reason, error) {
	digests := []string{v.subject.Digest.String()}
	for _, m := range v.children {
		digests = append(digests, m.Descriptor.Digest.String())
	}
	for _, d := range digests {
		if slices.Contains(s.Revoked, d) {
			return Revoked, fmt.Errorf("release statement %d revokes %s", s.Sequence, d)
		}
	}
	if _, ok := s.Find(digests[0]); !ok {
		return Mixed, fmt.Errorf("release statement %d, issued %s, does not name %s", s.Sequence, s.Issued.UTC().Format(time.RFC3339), digests[0])
	}
	return "", nil
}
