package verify

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/oci"
)

// Reason is why something was refused. Commands map it to an exit code.
type Reason string

// The reasons, from "no rule" to "rule not met".
const (
	Denied             Reason = "denied"              // no rule of the policy names the repository
	Mismatch           Reason = "mismatch"            // the content is not what its digest says
	Incomplete         Reason = "incomplete"          // a manifest that the index names is nowhere, or of no use
	Unsigned           Reason = "unsigned"            // nobody has signed it
	WrongSigner        Reason = "wrong-signer"        // signed, but by nobody who counts
	Expired            Reason = "expired"             // signed by a key of the policy whose time is over, or has not come
	RolledBack         Reason = "rolled-back"         // signed, and older than the policy allows, or than what was seen
	Malformed          Reason = "malformed"           // there are signatures, of which none can be read
	TooFewSigners      Reason = "too-few-signers"     // some who count have signed, fewer than the threshold
	MissingAttestation Reason = "missing-attestation" // a required attestation is not there or does not count
	NoStatement        Reason = "no-statement"        // the policy asks for a release statement, and no source has one that counts
	Stale              Reason = "stale"               // the newest release statement is past its expiry, or too old
	FastForward        Reason = "fast-forward"        // the release statement is from the future, or too far ahead of what was seen
	Mixed              Reason = "mixed"               // signed, and of no release that the newest statement names
	Revoked            Reason = "revoked"             // the newest release statement says that it must not be used any more
)

// Subject is what is to be verified.
type Subject struct {
	Repository string  // the name that the policy's rules are looked up by; not necessarily a source
	Digest     v1.Hash // of an index or a manifest
}

// String returns "repository@digest".
func (s Subject) String() string {
	if s.Digest == (v1.Hash{}) {
		return s.Repository
	}
	return s.Repository + "@" + s.Digest.String()
}

// Refusal is the answer "no": every source was asked and it is not enough.
type Refusal struct {
	Subject Subject
	Rule    string // that refused; "" when there is none
	Reason  Reason
	Part    string   // what was lacking: "index sha256:…", "linux/arm64 sha256:…"; "" for the whole
	Err     error    // what was found, with got and want
	Notes   []string // each signature or attestation that did not count, and why; at most 64
}

// Error is one line: what was refused, by which rule, why, and the first
// signatures that did not count.
func (r *Refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: refused", r.Subject)
	if r.Rule != "" {
		fmt.Fprintf(&b, " by %s", r.Rule)
	}
	if r.Part != "" {
		fmt.Fprintf(&b, ": %s", r.Part)
	}
	fmt.Fprintf(&b, ": %v", r.Err)
	const shown = 2
	for i, note := range r.Notes {
		if i == shown {
			fmt.Fprintf(&b, "; %d more did not count", len(r.Notes)-shown)
			break
		}
		fmt.Fprintf(&b, "; %s", note)
	}
	return b.String()
}

// Unwrap returns what was found.
func (r *Refusal) Unwrap() error { return r.Err }

// noRule is the refusal of what the policy does not name.
func noRule(repository string) *Refusal {
	return &Refusal{Subject: Subject{Repository: repository}, Reason: Denied, Err: errors.New("no rule of the policy names the repository")}
}

// Unknown is the answer that nobody can give: what could settle it could not be
// asked. It is an outage and says nothing about the content.
type Unknown struct {
	Reference string
	Err       error // why each source could not be asked
}

// Error is one line.
func (u *Unknown) Error() string {
	return fmt.Sprintf("verify %s: not every source could be asked: %v", u.Reference, u.Err)
}

// Unwrap returns what the sources said.
func (u *Unknown) Unwrap() error { return u.Err }

// answer is what a source said.
type answer int

const (
	good answer = iota
	bad
	absent
	unknown
)

// classify sorts an error of a source. What is not clearly an answer is unknown.
func classify(err error) answer {
	var digest *oci.DigestError
	switch {
	case err == nil:
		return good
	case oci.Unreachable(err), oci.Denied(err):
		return unknown
	case errors.As(err, &digest), oci.Malformed(err):
		return bad
	case oci.NotFound(err):
		return absent
	}
	return unknown
}

// several is what several sources said: [errors.Join] on one line.
type several []error

// joinErrors returns nil for no error, and the error itself for one.
func joinErrors(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return several(errs)
}

func (s several) Error() string {
	lines := make([]string, len(s))
	for i, err := range s {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "; ")
}

// Unwrap gives all of them to errors.Is and errors.As.
func (s several) Unwrap() []error { return s }
