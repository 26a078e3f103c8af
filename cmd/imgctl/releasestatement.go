package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

const (
	// defaultValidity is how long a release statement counts when release.yaml does not say.
	defaultValidity = 90 * 24 * time.Hour
	// noStatement is what release.yaml says when none is to be made: a registry
	// whose tags cannot be moved has no place for the second one.
	noStatement = "none"
	// maxEarlier is how many artifacts of earlier releases a statement goes on to name.
	maxEarlier = 64
	// maxRevoked is how many digests a statement may revoke.
	maxRevoked = 256
)

// lockedStatement is the release statement as release.lock.json keeps it, with
// its signatures: a release that is run again publishes the same bytes.
type lockedStatement struct {
	verify.ReleaseStatement
	Bundles []json.RawMessage `json:"bundles"` // sigstore bundles, one of each signer

	there bool // the lock says that every repository has it: none is asked again
}

// makeStatement says what the release is, and has every signer sign it. Where the
// statement before says the same and is not yet half way to its expiry, it is that.
func (c *releaseCmd) makeStatement(ctx context.Context, r *release, reg *oci.Client, products []*product, path string) (*lockedStatement, error) {
	if r.validity == 0 && len(c.revoke) > 0 {
		return nil, usage(errors.New("revoke: release.yaml says that no release statement is made (validity: none)"))
	}
	if r.validity == 0 {
		return nil, nil
	}
	before, err := lockedBefore(path, r.repositories())
	if err != nil {
		return nil, err
	}
	next, again, err := c.sayNext(r, products, before)
	if err != nil {
		return nil, err
	}
	if !again { // before a number is given away: the lock may not be that of the last release
		if newest := c.newestStatement(ctx, r, reg); newest != nil && (before == nil || newest.Sequence > before.Sequence) {
			before = &lockedStatement{ReleaseStatement: *newest}
			if next, _, err = c.sayNext(r, products, before); err != nil {
				return nil, err
			}
		}
	}
	doc, err := next.Encode()
	if err != nil {
		return nil, err
	}
	signed := &lockedStatement{ReleaseStatement: *next}
	for _, s := range r.signers {
		b, err := signStatement(ctx, s, doc, before)
		if err != nil {
			return nil, fmt.Errorf("release statement: %w", err)
		}
		signed.Bundles = append(signed.Bundles, b)
	}
	signed.there = again && before.there && slices.EqualFunc(signed.Bundles, before.Bundles, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
	return signed, nil
}

// lockedBefore is the statement in the lock of the release before; nil: there is none.
func lockedBefore(path string, repositories []string) (*lockedStatement, error) {
	lock, err := loadReleaseLock(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case lock.Statement == nil:
		return nil, nil
	}
	s := lock.Statement
	for i, b := range s.Bundles {
		var tight bytes.Buffer // as it was signed, before the lock was indented
		if err := json.Compact(&tight, b); err != nil {
			return nil, fmt.Errorf("%s: statement: %w", path, err)
		}
		s.Bundles[i] = tight.Bytes()
	}
	s.there = !slices.ContainsFunc(repositories, func(name string) bool { return !lock.released(name) })
	return s, nil
}

// released reports whether the repository has all that the lock says it should.
func (l *releaseLock) released(repository string) bool {
	found := false
	for _, a := range l.Artifacts {
		for _, d := range a.Destinations {
			if d.Repository != repository {
				continue
			}
			if d.State != stateReleased {
				return false
			}
			found = true
		}
	}
	return found
}

// newestStatement is what the destinations have that the policy believes; nil:
// nothing. One that cannot be asked cannot be published to either.
func (c *releaseCmd) newestStatement(ctx context.Context, r *release, reg *oci.Client) *verify.ReleaseStatement {
	var from []*oci.Repository
	for _, to := range r.to {
		if repo, err := reg.Repository(to.Repository); err == nil {
			from = append(from, repo)
		}
	}
	return (&verify.Verifier{Policy: r.policy, Now: c.now}).Newest(ctx, primary(r.to), from...)
}

// sayNext returns what comes after the statement before: the same again, if it
// still holds.
func (c *releaseCmd) sayNext(r *release, products []*product, before *lockedStatement) (next *verify.ReleaseStatement, again bool, err error) {
	now := c.now().UTC().Truncate(time.Second)
	if next, err = nextStatement(r, products, before, c.revoke, now); err != nil || before == nil {
		return next, false, err
	}
	half := before.Issued.Add(before.Expires.Sub(before.Issued) / 2)
	if sameStatement(before.ReleaseStatement, *next) && now.Before(half) {
		return &before.ReleaseStatement, true, nil
	}
	return next, false, nil
}

// signStatement takes the signature before, if the signer knows it for its own.
func signStatement(ctx context.Context, s sign.Signer, doc []byte, before *lockedStatement) (json.RawMessage, error) {
	if known, ok := s.(sign.Recognizer); ok && before != nil {
		for _, b := range before.Bundles {
			if _, err := known.Recognize(ctx, sign.Statement(doc), b); err == nil {
				return b, nil
			}
		}
	}
	signed, err := s.Sign(ctx, sign.Statement(doc))
	if err != nil {
		return nil, err
	}
	return signed.Bundle, nil
}

// nextStatement is the statement after the one before.
func nextStatement(r *release, products []*product, before *lockedStatement, revoke []string, now time.Time) (*verify.ReleaseStatement, error) {
	next := &verify.ReleaseStatement{Sequence: 1, Issued: now, Expires: now.Add(r.validity)}
	var was verify.ReleaseStatement
	if before != nil {
		was = before.ReleaseStatement
		next.Sequence = was.Sequence + 1
	}
	for _, name := range r.repositories() {
		if !strings.HasPrefix(name, "oci:") { // a directory is nobody else's to find
			next.Repositories = append(next.Repositories, name)
		}
	}
	slices.Sort(next.Repositories)
	var err error
	if next.Revoked, err = revoked(&was, products, revoke); err != nil {
		return nil, err
	}
	gone := func(a verify.ReleasedArtifact) bool { return slices.Contains(next.Revoked, a.Digest) }
	for _, pr := range products {
		a := pr.released(next.Sequence)
		if known, ok := was.Find(a.Digest); ok {
			a.Sequence = known.Sequence
		}
		if !gone(a) {
			next.Artifacts = append(next.Artifacts, a)
		}
	}
	for _, a := range slices.Concat(was.Artifacts, was.Earlier) {
		_, again := next.Find(a.Digest)
		if !again && !gone(a) && len(next.Earlier) < maxEarlier {
			next.Earlier = append(next.Earlier, a)
		}
	}
	return next, nil
}

// released is how a statement names the product.
func (pr *product) released(sequence int64) verify.ReleasedArtifact {
	a := verify.ReleasedArtifact{Name: pr.name, Version: pr.version, Digest: pr.digest.String(), Sequence: sequence}
	for _, h := range sortedValues(pr.parts) {
		if !slices.Contains(a.Parts, h.String()) {
			a.Parts = append(a.Parts, h.String())
		}
	}
	return a
}

// revoked adds the digests, with the parts of what they name, to those that were
// revoked before: nothing is ever taken back.
func revoked(was *verify.ReleaseStatement, products []*product, digests []string) ([]string, error) {
	all := slices.Clone(was.Revoked)
	for _, d := range digests {
		if _, err := oci.ParseDigest(d); err != nil {
			return nil, usage(fmt.Errorf("revoke: %w", err))
		}
		all = append(all, d)
		known := slices.Concat(was.Artifacts, was.Earlier)
		for _, pr := range products {
			known = append(known, pr.released(1))
		}
		for _, a := range known {
			if a.Digest == d {
				all = append(all, a.Parts...)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > maxRevoked {
		return nil, usage(fmt.Errorf("revoke: got %d digests, want at most %d", len(all), maxRevoked))
	}
	return all, nil
}

// sameStatement reports whether the later one says what the earlier one does.
func sameStatement(earlier, later verify.ReleaseStatement) bool {
	later.Sequence, later.Issued, later.Expires = earlier.Sequence, earlier.Issued, earlier.Expires
	a, errA := json.Marshal(earlier)
	b, errB := json.Marshal(later)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// image is what is under [verify.StatementTag]: the bundles, in the manifest
// itself, so that one request reads the newest statement.
func (s *lockedStatement) image() (v1.Image, error) {
	a := artifact.Artifact{ArtifactType: verify.StatementArtifactType, Annotations: map[string]string{
		"org.opencontainers.image.created": s.Issued.Format(time.RFC3339),
		"dev.imgctl.release.sequence":      fmt.Sprint(s.Sequence),
	}}
	for _, b := range s.Bundles {
		var tight bytes.Buffer
		if err := json.Compact(&tight, b); err != nil {
			return nil, fmt.Errorf("release statement: %w", err)
		}
		a.Layers = append(a.Layers, artifact.Content{MediaType: sign.BundleMediaType, Body: tight.Bytes(), Inline: true})
	}
	return a.Image()
}

// consignment is what goes to the destinations of a product beside it.
func (s *lockedStatement) consignment(to []oci.Destination) (oci.Consignment, error) {
	img, err := s.image()
	return oci.Consignment{To: to, Release: oci.Release{
		Subject:   img,
		Tags:      []string{verify.StatementTag},
		Overwrite: "a newer release statement",
	}}, err
}

// consignments are one for the images' repositories and, where there are
// bundles, one for theirs. The statement names what is old and what is new, and
// so its tag moves first: no moment is without a statement that fits.
func (s *lockedStatement) consignments(r *release) ([]oci.Consignment, error) {
	if s == nil || s.there {
		return nil, nil
	}
	images, err := s.consignment(r.to)
	if err != nil || len(r.bundles) == 0 {
		return []oci.Consignment{images}, err
	}
	var beside []oci.Destination
	for _, to := range r.to {
		beside = append(beside, bundleDestination(to))
	}
	bundles, err := s.consignment(beside)
	return []oci.Consignment{images, bundles}, err
}
