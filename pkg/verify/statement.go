package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// StatementTag is the tag under which each repository of a release has the
// newest [ReleaseStatement]. It moves with every release.
const StatementTag = "imgctl-release"

// StatementArtifactType is the artifactType of what that tag points at.
const StatementArtifactType = "application/vnd.imgctl.release-statement.v1"

// Bounds of a statement. In-toto readers admit 1024 subjects.
const (
	maxSequence = 1 << 53 // what every JSON reader can hold
	maxListed   = 256     // artifacts in a list, repositories, revoked digests
	maxParts    = 64      // of one artifact
)

// ReleaseStatement is what whoever signs releases says about all of them at one
// time: what belongs to the newest, what of earlier ones may still be used, what
// may not any more, and until when this may be believed.
type ReleaseStatement struct {
	Sequence     int64              `json:"sequence"` // one more than that of the statement before
	Issued       time.Time          `json:"issued"`
	Expires      time.Time          `json:"expires"`
	Repositories []string           `json:"repositories"`      // where the release is, sorted
	Artifacts    []ReleasedArtifact `json:"artifacts"`         // of this release
	Earlier      []ReleasedArtifact `json:"earlier,omitempty"` // of those before it that may still be used, the newest first
	Revoked      []string           `json:"revoked,omitempty"` // digests that must not be used, sorted
}

// ReleasedArtifact is an image or a bundle of a release.
type ReleasedArtifact struct {
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	Digest   string   `json:"digest"`
	Parts    []string `json:"parts,omitempty"` // digests of the manifests in it
	Sequence int64    `json:"sequence"`        // of the first statement that named it
}

// digests are that of the artifact and those of its parts.
func (a *ReleasedArtifact) digests() []string { return append([]string{a.Digest}, a.Parts...) }

// Find returns the artifact that the digest is, or is a part of.
func (s *ReleaseStatement) Find(digest string) (ReleasedArtifact, bool) {
	for _, list := range [][]ReleasedArtifact{s.Artifacts, s.Earlier} {
		for _, a := range list {
			if slices.Contains(a.digests(), digest) {
				return a, true
			}
		}
	}
	return ReleasedArtifact{}, false
}

// Encode returns the in-toto statement to be signed: its subjects are what
// belongs to the release and what is revoked. Equal statements give equal bytes.
func (s *ReleaseStatement) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("release statement: %w", err)
	}
	type subject struct {
		Name   string            `json:"name,omitempty"`
		Digest map[string]string `json:"digest"`
	}
	doc := struct {
		Type          string            `json:"_type"`
		Subject       []subject         `json:"subject"`
		PredicateType string            `json:"predicateType"`
		Predicate     *ReleaseStatement `json:"predicate"`
	}{Type: statementType, PredicateType: predicateRelease, Predicate: s}
	add := func(name, digest string) {
		h, _ := v1.NewHash(digest) // check has read it
		doc.Subject = append(doc.Subject, subject{name, map[string]string{h.Algorithm: h.Hex}})
	}
	for _, a := range s.Artifacts {
		for _, d := range a.digests() {
			add(a.Name, d)
		}
	}
	for _, d := range s.Revoked {
		add("", d)
	}
	if n := len(doc.Subject); n == 0 || n > maxSubjects {
		return nil, fmt.Errorf("release statement: it is about %d digests, want 1 to %d", n, maxSubjects)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("release statement: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// maxSubjects is how many subjects readers of in-toto statements admit.
const maxSubjects = 1024

// parseRelease reads the predicate of a statement about releases. What it does
// not understand may be what matters, and so is an error.
func parseRelease(predicate []byte) (*ReleaseStatement, error) {
	d := json.NewDecoder(bytes.NewReader(predicate))
	d.DisallowUnknownFields()
	s := &ReleaseStatement{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("parse release statement: %w", oneLine(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse release statement: more follows it")
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("release statement: %w", err)
	}
	return s, nil
}

// check refuses a statement that says two things, or nothing.
func (s *ReleaseStatement) check() error {
	switch {
	case s.Sequence < 1 || s.Sequence > maxSequence:
		return fmt.Errorf("sequence: got %d, want 1 to %d", s.Sequence, int64(maxSequence))
	case s.Issued.IsZero() || !s.Issued.Before(s.Expires):
		return errors.New("expires: want a time after issued")
	case len(s.Repositories) > maxListed, len(s.Revoked) > maxListed, len(s.Artifacts) > maxListed, len(s.Earlier) > maxListed:
		return fmt.Errorf("a list is longer than %d", maxListed)
	}
	seen := make(map[string]bool)
	once := func(digest string) error {
		if h, err := v1.NewHash(digest); err != nil || h.Algorithm != "sha256" {
			return fmt.Errorf("digest: got %q, want sha256:…", printable(digest))
		}
		if seen[digest] {
			return fmt.Errorf("digest %s is there twice", digest)
		}
		seen[digest] = true
		return nil
	}
	for _, d := range s.Revoked {
		if err := once(d); err != nil {
			return fmt.Errorf("revoked: %w", err)
		}
	}
	for _, a := range slices.Concat(s.Artifacts, s.Earlier) {
		if err := a.check(s.Sequence, once); err != nil {
			return fmt.Errorf("artifact %s: %w", printable(a.Name), err)
		}
	}
	return nil
}

// check refuses an artifact that is named twice, revoked, or from the future.
func (a *ReleasedArtifact) check(newest int64, once func(string) error) error {
	if a.Sequence < 1 || a.Sequence > newest {
		return fmt.Errorf("sequence: got %d, want 1 to %d", a.Sequence, newest)
	}
	if len(a.Parts) > maxParts {
		return fmt.Errorf("got %d parts, want at most %d", len(a.Parts), maxParts)
	}
	if err := once(a.Digest); err != nil {
		return err
	}
	parts := make(map[string]bool) // two artifacts may share one
	for _, d := range a.Parts {
		if h, err := v1.NewHash(d); err != nil || h.Algorithm != "sha256" || parts[d] {
			return fmt.Errorf("part: got %q, want sha256:…, once", printable(d))
		}
		parts[d] = true
	}
	return nil
}
