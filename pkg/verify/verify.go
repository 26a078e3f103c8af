package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/imgctl/imgctl/pkg/oci"
)

// Verifier decides under one policy. It is safe for concurrent use.
type Verifier struct {
	Policy   *Policy          // nil refuses everything
	Registry *oci.Client      // opens the sources that the policy names
	Now      func() time.Time // nil: the machine's clock; decides which keys count
	Budget   time.Duration    // of [Verifier.Inspect] for one source, of which half for its first word; 0: 20 s

	// Seen is, by repository, the highest sequence of a [ReleaseStatement] that
	// this machine has seen, where rules ask for one: none goes back behind it.
	Seen map[string]int64

	dead graveyard // what [Verifier.Inspect] need not ask again
}

// Verify decides whether s may be used.
//
// It asks the sources in from, in order, or those of the policy's rule when
// from is empty. Each of them is asked only for what the ones before it could
// not prove. If they do not suffice, the error is a [*Refusal] when every
// source has answered; it is one for which [oci.NotFound] holds when all say
// that the digest is not there, and one for which [oci.Unreachable] or
// [oci.Denied] holds when some source could not be asked.
//
// Retrying a request is the business of package oci; a source that could not
// be asked once is not asked again in the same verification.
func (v *Verifier) Verify(ctx context.Context, s Subject, from ...*oci.Repository) (*Verified, error) {
	verified, err := v.VerifyContent(ctx, s, from...)
	if err != nil {
		return nil, err
	}
	rule, _ := v.Policy.Rule(s.Repository) // there is one: the content was verified under it
	if rule.freshness == nil {
		return verified, nil
	}
	if from, err = v.open(rule, s.Repository, from); err != nil {
		return nil, fmt.Errorf("verify %s: %w", s, err)
	}
	if err := v.news(ctx, rule, s.Repository, from).settle(rule, verified, v.now()); err != nil {
		return nil, err
	}
	return verified, nil
}

// VerifyContent decides as [Verifier.Verify] does about everything but freshness:
// for whoever reads a copy back before any tag points at it. What the newest
// release statement says of the content, a copy cannot know.
func (v *Verifier) VerifyContent(ctx context.Context, s Subject, from ...*oci.Repository) (*Verified, error) {
	// 1. The first rule that names the repository decides.
	rule, ok := v.Policy.Rule(s.Repository)
	if !ok {
		refusal := noRule(s.Repository)
		refusal.Subject = s
		return nil, refusal
	}
	from, err := v.open(rule, s.Repository, from)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", s, err)
	}
	c := &collector{subject: s, rule: rule, now: v.now(), from: from}

	// 2. The manifest, and each manifest that it names, from any source.
	if err := c.fetchTree(ctx); err != nil {
		return nil, err
	}

	// 3. Signatures and attestations, source by source, bundles before the older
	// layout, until they suffice.
	var refusal *Refusal
	for _, source := range from {
		for _, list := range c.layouts() {
			if err := c.collect(ctx, source, list); err != nil {
				return nil, fmt.Errorf("verify %s: %w", s, err)
			}
			if refusal = c.judge(); refusal == nil {
				return c.verified(), nil
			}
		}
	}

	// 4. Not enough. That is a refusal only if everybody was asked.
	if err := joinErrors(c.unknown); err != nil {
		return nil, fmt.Errorf("verify %s: %s%w, and not every source could be asked: %w", s, refusal.prefix(), refusal.Err, err)
	}
	return nil, refusal
}

// layouts are those that the rule admits, the newer first. One that it does not
// admit is not even asked for: whoever can take away the newer signatures must
// not gain anything by older ones that were left.
func (c *collector) layouts() []lister {
	switch c.rule.format {
	case formatBundle:
		return []lister{c.listBundles}
	case formatLegacy:
		return []lister{c.listLegacy}
	}
	return []lister{c.listBundles, c.listLegacy}
}

func (r *Refusal) prefix() string {
	if r.Part == "" {
		return ""
	}
	return r.Part + ": "
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// open returns the repositories to ask: those given, or those that the rule names.
func (v *Verifier) open(rule *Rule, repository string, from []*oci.Repository) ([]*oci.Repository, error) {
	if len(from) > 0 {
		return from, nil
	}
	if v.Registry == nil {
		return nil, errors.New("no source to ask")
	}
	for _, name := range rule.Sources(repository) {
		r, err := v.Registry.Repository(name)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", name, err)
		}
		from = append(from, r)
	}
	return from, nil
}
