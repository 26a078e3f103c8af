package oci

import (
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Unreachable reports whether err means that a repository could not be asked:
// it is dead, too slow or overloaded (5xx, 429, time-out, refused connection,
// DNS, TLS). It says nothing about what the repository holds.
func Unreachable(err error) bool { return hasKind(err, unreachable) }

// NotFound reports whether err is the clear answer that something is not there.
func NotFound(err error) bool { return hasKind(err, notFound) }

// Denied reports whether err is a refusal of the credentials (401 or 403 after
// they were tried). Some registries answer so for what does not exist.
func Denied(err error) bool { return hasKind(err, denied) }

// Malformed reports whether err means that a repository answered with
// something that is not what was asked for: no manifest, contradicting media
// types, too large, too many entries.
func Malformed(err error) bool { return hasKind(err, malformed) }

// Unsupported reports whether err means that a registry refuses such content
// or requests: it is read-only, or does not take this type of artifact.
func Unsupported(err error) bool { return hasKind(err, unsupported) }

// Changed is a tag that points elsewhere than it should. It is found before
// anything is uploaded.
type Changed struct {
	Repository string
	Tag        string
	Got, Want  v1.Hash
}

// Error is one line.
func (e *Changed) Error() string {
	return fmt.Sprintf("tag %s:%s: got %s, want %s", e.Repository, e.Tag, e.Got, e.Want)
}

// DigestError is content that is not what its descriptor says.
type DigestError struct {
	Object    string // what was read, with its repository or file where known
	What      string // "sha256" or "size"
	Got, Want string
}

// Error is one line.
func (e *DigestError) Error() string {
	return fmt.Sprintf("%s of %s: got %s, want %s", e.What, e.Object, e.Got, e.Want)
}

// kind is what a caller does about an error.
type kind int

const (
	other kind = iota
	unreachable
	notFound
	denied
	malformed
	unsupported
)

// fault is an error of a repository: "verb object: cause".
type fault struct {
	kind   kind
	op     string // "get manifest"
	object string // "quay.io/poseidon/kubelet:v1.36.2"
	err    error
}

func (f *fault) Error() string { return f.op + " " + f.object + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// hasKind looks for k anywhere below err, joined errors included: errors.As
// would stop at the first fault.
func hasKind(err error, k kind) bool {
	if f, ok := err.(*fault); ok && f.kind == k {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return hasKind(err, k) })
	case interface{ Unwrap() error }:
		return hasKind(e.Unwrap(), k)
	}
	return false
}

// badContent is a fault about what was answered.
func badContent(op, object, format string, args ...any) error {
	return &fault{kind: malformed, op: op, object: object, err: fmt.Errorf(format, args...)}
}
