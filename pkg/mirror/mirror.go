// Package mirror copies releases that a policy accepts to other registries.
//
// [Compute] finds out, without writing, what a destination lacks; [Plan.Apply]
// brings it there. A copy is the whole of it: the index, its children, every
// referrer of each (signatures, SBOMs, provenance) and the signature tags, byte
// for byte and by digest. It is verified once more from the destination alone,
// because a mirror is needed when its source is gone, and only then does the
// tag move. Whatever stops a copy, the next one goes on where it stopped.
//
// Content that the policy does not accept is not copied: the digests of a plan
// come from a [verify.Verified].
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/cosign"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// Plan is what a synchronisation would do. [Compute] makes it; as JSON it is
// for people and tests, and cannot be read back to be applied.
type Plan struct {
	Source string        `json:"source"` // canonical repository
	Tag    string        `json:"tag,omitempty"`
	Digest string        `json:"digest"` // what the tag pointed at, once; it is not asked again
	Report verify.Report `json:"report"` // who vouched for it
	Copies []Copy        `json:"copies"` // one for each destination, in the given order

	// Overwrite is why [Plan.Apply] moves tags that point at something else; "":
	// it does not.
	Overwrite string `json:"overwrite,omitempty"`

	verified *verify.Verified
	copies   *oci.Copies // in the order of Copies
}

// Copy is what one destination lacks.
type Copy struct {
	Destination string `json:"destination"`   // canonical repository
	Tag         string `json:"tag,omitempty"` // that is set last; "" when the source was named by digest
	Action      Action `json:"action"`
	Why         string `json:"why"`     // in words
	Objects     int    `json:"objects"` // blobs, manifests and tags that are sent
	Present     int    `json:"present"` // that are there already
	Bytes       int64  `json:"bytes"`   // of what is sent

	// Err says why this destination cannot be served: an [*oci.Changed] when the
	// tag points at something else there, else why it could not be asked.
	Err   error  `json:"-"`
	Error string `json:"error,omitempty"` // the same as text

	named int // of Objects, those that hold the source's name: see [Audit]
}

// Action is what happens at a destination.
type Action string

// The actions of a plan.
const (
	DoNothing Action = "nothing" // it has everything, the tag too
	DoTag     Action = "tag"     // it has everything but the tag
	DoCopy    Action = "copy"    // it lacks content
)

// Compute finds out what each destination lacks of the release that src names.
// It writes nothing anywhere.
//
// The tag of src is resolved once. What it points at must be accepted by the
// policy with what src alone holds, else the error is that of
// [verify.Verifier.Verify]. A destination may name another tag ("host/name:tag");
// else it gets that of src. A destination that cannot be served does not hold up
// the others: see [Copy].
func Compute(ctx context.Context, reg *oci.Client, v *verify.Verifier, src oci.Reference, dst ...string) (Plan, error) {
	fail := func(err error) (Plan, error) { return Plan{}, fmt.Errorf("plan copy of %s: %w", src, err) }
	targets, err := parseTargets(src, dst)
	if err != nil {
		return fail(err)
	}
	from, err := reg.Repository(src.Repository)
	if err != nil {
		return fail(err)
	}
	digest, err := resolve(ctx, from, src)
	if err != nil {
		return fail(err)
	}
	verified, err := v.Verify(ctx, verify.Subject{Repository: src.Repository, Digest: digest}, from)
	if err != nil {
		return fail(err)
	}
	p := Plan{Source: src.Repository, Tag: src.Tag, Digest: digest.String(), Report: verified.Report(), verified: verified}
	if err := p.survey(ctx, reg, v, from, targets); err != nil {
		return fail(err)
	}
	return p, ctx.Err()
}

// parseTargets reads the names of the destinations. Each may be given once: two
// copies into one repository would only get in each other's way.
func parseTargets(src oci.Reference, dst []string) ([]oci.Reference, error) {
	if len(dst) == 0 {
		return nil, errors.New("want at least one destination")
	}
	var targets []oci.Reference
	for _, d := range dst {
		t, err := oci.ParseReference(d)
		if err != nil {
			return nil, err
		}
		if t.Digest != (v1.Hash{}) {
			return nil, fmt.Errorf("destination %s: want a repository or a tag, not a digest", d)
		}
		if t.Tag == "" {
			t.Tag = src.Tag
		}
		same := func(o oci.Reference) bool { return o.Repository == t.Repository }
		if same(src) || slices.ContainsFunc(targets, same) {
			return nil, fmt.Errorf("destination %s: named twice, or the source itself", d)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func resolve(ctx context.Context, from *oci.Repository, src oci.Reference) (v1.Hash, error) {
	if src.Digest != (v1.Hash{}) {
		return src.Digest, nil
	}
	if src.Tag == "" {
		return v1.Hash{}, errors.New("want a tag or a digest")
	}
	d, err := from.Resolve(ctx, src.Tag)
	return d.Digest, err
}

// survey asks the destinations what they have.
func (p *Plan) survey(ctx context.Context, reg *oci.Client, v *verify.Verifier, from *oci.Repository, targets []oci.Reference) error {
	// The rule is that of the source's name; the bytes are those of the mirror.
	check := func(ctx context.Context, to *oci.Repository, h v1.Hash) error {
		_, err := v.VerifyContent(ctx, verify.Subject{Repository: p.Source, Digest: h}, to)
		return err
	}
	var repos []*oci.Repository
	for _, t := range targets {
		to, err := reg.Repository(t.Repository)
		if err != nil {
			return err
		}
		repos = append(repos, to)
		p.Copies = append(p.Copies, Copy{Destination: t.Repository, Tag: t.Tag})
	}
	tags := make([]looked, len(repos)) // where the tags are, asked for beside all else
	var g errgroup.Group
	for i, to := range repos {
		if tag := p.Copies[i].Tag; tag != "" {
			g.Go(func() error { tags[i].at, tags[i].err = to.Resolve(ctx, tag); return nil })
		}
	}
	var err error
	p.copies, err = reg.PrepareCopies(ctx, from, p.verified.Digest(), oci.CopyOptions{Check: check}, repos...)
	g.Wait()
	if err != nil {
		return err
	}
	for i := range p.Copies {
		c := &p.Copies[i]
		steps, err := p.copies.Steps(i)
		if err == nil {
			c.count(steps)
			err = c.compareTag(tags[i], p.verified.Digest())
		}
		if err != nil {
			c.Err, c.Error = err, err.Error()
		}
	}
	return nil
}

// looked is where a tag points, or why that is not known.
type looked struct {
	at  v1.Descriptor
	err error
}

// count sums up what is to be done.
func (c *Copy) count(steps []oci.Step) {
	for _, s := range steps {
		if s.Done {
			c.Present++
			continue
		}
		c.Objects++
		c.Bytes += s.Size
		if isNamed(s) {
			c.named++
		}
	}
	c.Action, c.Why = DoNothing, "everything is there"
	if c.Objects > 0 {
		c.Action, c.Why = DoCopy, fmt.Sprintf("%d of %d objects are missing", c.Objects, c.Objects+c.Present)
	}
}

// isNamed reports whether a step is part of a signature in the older layout, which
// holds the name of a repository: a release signs anew for each, and what one
// registry has of these the next need not have.
func isNamed(s oci.Step) bool {
	switch s.Verb {
	case "sign":
		return true
	case "upload": // the payload, and a configuration that is made for it
		return s.Object == cosign.PayloadMediaType || s.Object == string(types.OCIConfigJSON)
	}
	return false
}

// compareTag compares where the tag points at the destination. Only the clear
// answer that it is not there counts as that.
func (c *Copy) compareTag(l looked, digest v1.Hash) error {
	d, err := l.at, l.err
	switch {
	case c.Tag == "":
		return nil
	case err == nil && d.Digest == digest:
		return nil
	case err != nil && !oci.NotFound(err):
		return err
	}
	if c.Objects++; c.Action == DoNothing {
		c.Action, c.Why = DoTag, "only the tag is missing"
	}
	if err == nil {
		c.Why += fmt.Sprintf("; the tag points at %s", d.Digest)
		return &oci.Changed{Repository: c.Destination, Tag: c.Tag, Got: d.Digest, Want: digest}
	}
	return nil
}
