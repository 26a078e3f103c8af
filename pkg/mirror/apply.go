package mirror

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
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
func (p Plan) Apply(ctx context.Context) ([]oci.Receipt, error) {
	if !p.verified.Valid() {
		return nil, errors.New("apply plan: want one that Compute has made")
	}
	receipts := p.copies.Run(ctx, func(i int) bool { return p.refuses(i) == nil && p.Copies[i].Action != DoNothing })
	var g errgroup.Group
	for i := range receipts {
		g.Go(func() error { p.finish(ctx, i, &receipts[i]); return nil }) // a failure is in the receipt
	}
	g.Wait()
	var err error
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

// refuses is why nothing may be written to the ith destination.
func (p Plan) refuses(i int) error {
	err := p.Copies[i].Err
	var changed *oci.Changed
	if p.Overwrite != "" && errors.As(err, &changed) {
		return nil
	}
	return err
}

// finish sets the tag of the ith destination.
func (p Plan) finish(ctx context.Context, i int, r *oci.Receipt) {
	c := p.Copies[i]
	if err := p.refuses(i); err != nil {
		r.Err = err
		return
	}
	if r.Err != nil {
		return
	}
	if c.Tag != "" && (c.Action != DoNothing || c.Err != nil) {
		if r.Err = p.copies.Tag(ctx, i, c.Tag, p.Overwrite != ""); r.Err != nil {
			return
		}
	}
	r.Tags = c.tags()
}

func (c Copy) tags() []string {
	if c.Tag == "" {
		return nil
	}
	return []string{c.Tag}
}
