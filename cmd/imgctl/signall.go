package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// signedAll is what `imgctl sign --all-tags` prints.
type signedAll struct {
	strict.Header
	Repository string         `json:"repository"`
	Artifacts  []signedByTags `json:"artifacts"`
}

// signedByTags is one artifact, and what happened to it.
type signedByTags struct {
	Digest   string   `json:"digest"`
	Tags     []string `json:"tags"`
	Uploaded int      `json:"uploaded"` // blobs and manifests that were sent; 0: it was signed
	Error    string   `json:"error,omitempty"`
}

// tagged lists what the tags of a repository point at, each artifact once, in
// the order of its first tag. Tags that hold signatures and referrers point at
// nothing that one signs.
func tagged(ctx context.Context, repo *oci.Repository) ([]v1.Hash, map[v1.Hash][]string, error) {
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, nil, err
	}
	var order []v1.Hash
	byDigest := map[v1.Hash][]string{}
	for _, tag := range slices.DeleteFunc(tags, oci.IsEvidenceTag) {
		d, err := repo.Resolve(ctx, tag)
		if oci.NotFound(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return nil, nil, err
		}
		if byDigest[d.Digest] == nil {
			order = append(order, d.Digest)
		}
		byDigest[d.Digest] = append(byDigest[d.Digest], tag)
	}
	if len(order) == 0 {
		return nil, nil, errors.New("no tag points at anything that could be signed")
	}
	return order, byDigest, nil
}

// planAll prints what --all-tags would sign.
func (c *signCmd) planAll(ctx context.Context, repo *oci.Repository) error {
	order, tags, err := tagged(ctx, repo)
	if err != nil {
		return err
	}
	out := signedAll{Header: header("SignPlan"), Repository: repo.String(), Artifacts: []signedByTags{}}
	for _, h := range order {
		out.Artifacts = append(out.Artifacts, signedByTags{Digest: h.String(), Tags: tags[h]})
	}
	return c.printAll(out)
}

// signAll signs what every tag points at. One that fails does not hold up the
// others; the error counts them.
func (c *signCmd) signAll(ctx context.Context, reg *oci.Client, repo *oci.Repository, s sign.Signer, formats signFormats) error {
	order, tags, err := tagged(ctx, repo)
	if err != nil {
		return err
	}
	p := c.printer()
	out := signedAll{Header: header("SignedAll"), Repository: repo.String(), Artifacts: []signedByTags{}}
	var failed []error
	for _, h := range order {
		one := signedByTags{Digest: h.String(), Tags: tags[h]}
		receipts, err := signAt(ctx, reg, repo, h, s, formats)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, rc := range receipts {
			one.Uploaded += rc.Uploaded
		}
		if err != nil {
			one.Error = oneLine(err.Error())
			failed = append(failed, fmt.Errorf("%s: %w", shortDigest(h.String()), err))
		}
		p.line("sign", "%s  %s  %d new", shortDigest(h.String()), strings.Join(tags[h], " "), one.Uploaded)
		out.Artifacts = append(out.Artifacts, one)
	}
	if err := c.printAll(out); err != nil || len(failed) == 0 {
		return err
	}
	return reported(hint(fmt.Errorf("%d of %d were not signed: %w", len(failed), len(order), errors.Join(failed...)), "run the same command again: it signs what is missing"))
}

func (c *signCmd) printAll(out signedAll) error {
	if c.output == "json" {
		return printJSON(c.stdout, out)
	}
	for _, a := range out.Artifacts {
		if a.Error == "" {
			fmt.Fprintf(c.stdout, "%s@%s\n", out.Repository, a.Digest)
		}
	}
	return nil
}
