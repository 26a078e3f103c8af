package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
)

// finding is what one piece of evidence turned out to be.
type finding struct {
	what   string // "bundle sha256:… at quay.io/poseidon/kubelet"
	answer answer // good: it counts, and the fields below are set

	by            signer
	predicateType string      // predicateSignature: a signature in the narrow sense
	predicate     []byte      // as it was signed
	provenance    *provenance // of a statement of that type
	name          string      // of the repository, in a signature of the older layout

	reason Reason // why it does not count
	err    error
}

// signer is who of a rule's signers made a piece of evidence.
type signer struct {
	name string // as the policy writes it
	id   string // what makes two of them one
}

// candidate is a piece of evidence that a source lists and nobody has read yet.
type candidate struct {
	part *part
	id   string // equal for equal content, whichever source has it
	read func(ctx context.Context) finding
}

// collect asks one source for what it lists about every part, and adds what
// that says to the parts. The error is that of a cancelled ctx; what the source
// cannot answer is kept in c.unknown.
func (c *collector) collect(ctx context.Context, source *oci.Repository, list lister) error {
	lists := make([][]candidate, len(c.parts))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, p := range c.parts {
		g.Go(func() error {
			lists[i] = list(ctx, source, p)
			return nil
		})
	}
	_ = g.Wait()

	todo := slices.Concat(lists...)
	findings := make([]finding, len(todo))
	for i, t := range todo {
		g.Go(func() error {
			if !c.isDead(source) {
				findings[i] = isolate(ctx, t)
			}
			return nil
		})
	}
	_ = g.Wait()
	if interrupted(ctx) {
		return context.Cause(ctx)
	}
	for i, f := range findings { // in the order of the lists, so that reports do not vary
		todo[i].part.add(todo[i].id, f)
	}
	return nil
}

// isolate reads one candidate. A library that panics over it has judged it:
// whoever can upload a signature must not be able to hide the others.
func isolate(ctx context.Context, c candidate) (f finding) {
	defer func() {
		if r := recover(); r != nil {
			f = finding{what: c.id, answer: bad, reason: Malformed, err: fmt.Errorf("it makes the parser panic: %v", r)}
		}
	}()
	return c.read(ctx)
}

// add keeps a finding. What could not be read at one source may be read at the next.
func (p *part) add(id string, f finding) {
	if f.answer == unknown || f.what == "" {
		return
	}
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	if f.answer == good || f.reason != Incomplete {
		p.seen[id] = true
	}
	p.findings = append(p.findings, f)
}

// lister returns what a source has of one layout about a part, as far as it was
// not read before.
type lister func(ctx context.Context, source *oci.Repository, p *part) []candidate

// listBundles lists the bundles among the referrers.
func (c *collector) listBundles(ctx context.Context, source *oci.Repository, p *part) []candidate {
	if c.isDead(source) {
		return nil
	}
	refs, err := source.Referrers(ctx, p.digest())
	switch classify(err) {
	case good:
		return c.bundles(source, p, refs)
	case bad:
		p.findings = append(p.findings, finding{what: "referrers at " + source.String(), answer: bad, reason: Malformed, err: err})
	case unknown:
		c.bury(source, err)
	}
	return nil
}

// bundles picks the referrers that may be bundles.
//
// The list's artifactType alone does not tell: some registries and clients
// give that of the configuration, or none, so that only the manifest knows.
func (c *collector) bundles(source *oci.Repository, p *part, refs []v1.Descriptor) []candidate {
	var list []v1.Descriptor
	for _, d := range refs {
		if rank(d) < notABundle && !p.seen[d.Digest.String()] {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(a, b v1.Descriptor) int { return cmp.Compare(rank(a), rank(b)) })
	if n := len(list); n > maxReferrers {
		err := fmt.Errorf("%d of %d were examined", maxReferrers, n)
		p.findings = append(p.findings, finding{what: "referrers at " + source.String(), answer: bad, reason: Malformed, err: err})
		list = list[:maxReferrers]
	}
	out := make([]candidate, len(list))
	for i, d := range list {
		read := func(ctx context.Context) finding { return c.readBundle(ctx, source, p, d) }
		out[i] = candidate{part: p, id: d.Digest.String(), read: read}
	}
	return out
}

const notABundle = 3

// rank orders referrers by how likely they are signatures, so that a heap of
// something else does not push them beyond what is examined.
func rank(d v1.Descriptor) int {
	switch t := d.ArtifactType; {
	case strings.HasPrefix(t, bundleMediaTypePrefix) && d.Annotations[predicateAnnotation] == predicateSignature:
		return 0
	case strings.HasPrefix(t, bundleMediaTypePrefix):
		return 1
	case t == "", strings.HasPrefix(t, "application/vnd.oci."), t == "application/octet-stream":
		return 2
	}
	return notABundle
}

// readAll reads a blob of evidence into memory, at most limit bytes.
func (c *collector) readAll(ctx context.Context, source *oci.Repository, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("it has %d bytes, want at most %d: %w", d.Size, limit, errTooMuch)
	}
	if c.fetched.Add(d.Size) > maxEvidence {
		return nil, fmt.Errorf("not examined, more than %d bytes of signatures: %w", int64(maxEvidence), errTooMuch)
	}
	return source.ReadBlob(ctx, d, limit)
}

var errTooMuch = errors.New("over the limit")

// failed is the finding about evidence that could not be fetched.
func (c *collector) failed(source *oci.Repository, what string, err error) finding {
	if errors.Is(err, errTooMuch) {
		return finding{what: what, answer: bad, reason: Malformed, err: err}
	}
	a := classify(err)
	if a == unknown {
		c.bury(source, err)
	}
	// Listed, but spoilt or gone: another source may have the same one whole.
	return finding{what: what, answer: a, reason: Incomplete, err: err}
}

// printable makes text of a stranger safe to print on one line.
func printable(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
