package mirror

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// Apply does what the plan says, at all destinations side by side. It returns a
// receipt for each copy, in order; a destination that fails does not stop the
// others, and the error joins what went wrong. Nothing is written to one for
// which the plan has an error, except that a tag which points at something else
// moves when Overwrite is set.
//
// At each destination the order is: content, signatures, verification from the
// destination alone, tag. A tag that began to point elsewhere since the plan was
// made is an [*oci.Changed], too.
func (p Plan) Apply(ctx context.Context, reg *oci.Client, v *verify.Verifier) ([]oci.Receipt, error) {
	if !p.verified.Valid() {
		return nil, errors.New("apply plan: want one that Compute has made")
	}
	from, err := reg.Repository(p.Source)
	if err != nil {
		return nil, err
	}
	receipts := make([]oci.Receipt, len(p.Copies))
	var g errgroup.Group
	for i, c := range p.Copies {
		g.Go(func() error {
			receipts[i] = p.apply(ctx, reg, v, from, c)
			return nil // a failure is a receipt
		})
	}
	g.Wait()
	for _, r := range receipts {
		switch {
		case r.Err == nil:
		case err == nil:
			err = r.Err
		default:
			err = fmt.Errorf("%w; %w", err, r.Err)
		}
	}
	return receipts, err
}

// apply serves one destination.
func (p Plan) apply(ctx context.Context, reg *oci.Client, v *verify.Verifier, from *oci.Repository, c Copy) oci.Receipt {
	digest := p.verified.Digest()
	r := oci.Receipt{Repository: c.Destination, Digest: digest, Present: c.Present}
	var changed *oci.Changed
	if c.Err != nil && !(p.Overwrite != "" && errors.As(c.Err, &changed)) {
		r.Err = c.Err
		return r
	}
	if c.Action == DoNothing {
		r.Tags = c.tags()
		return r
	}
	to, err := reg.Repository(c.Destination)
	if err != nil {
		r.Err = err
		return r
	}
	// The rule is that of the source's name; the bytes are those of the mirror.
	check := func(ctx context.Context, to *oci.Repository, h v1.Hash) error {
		_, err := v.Verify(ctx, verify.Subject{Repository: p.Source, Digest: h}, to)
		return err
	}
	switch c.Action {
	case DoCopy:
		if r, err = reg.Copy(ctx, from, digest, to, oci.CopyOptions{Check: check}); err != nil {
			r.Err = err
			return r
		}
	case DoTag:
		if r.Err = check(ctx, to, digest); r.Err != nil {
			return r
		}
	}
	if r.Err = p.tag(ctx, to, c.Tag, digest); r.Err == nil {
		r.Tags = c.tags()
	}
	return r
}

func (c Copy) tags() []string {
	if c.Tag == "" {
		return nil
	}
	return []string{c.Tag}
}

// tag sets the tag of a destination.
func (p Plan) tag(ctx context.Context, to *oci.Repository, tag string, digest v1.Hash) error {
	switch {
	case tag == "":
		return nil
	case p.Overwrite != "":
		return to.Retag(ctx, tag, digest)
	}
	return to.Tag(ctx, tag, digest)
}
