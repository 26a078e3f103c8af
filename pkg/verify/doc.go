// Package verify decides whether something may be used.
//
// A [Policy] says who must have said what. A [Verifier] asks the sources that
// the policy names, in order, for content and signatures, and answers with a
// [*Verified] or with an error. Nothing else makes a Verified, so whoever holds
// one cannot have forgotten the check.
//
// # Four answers
//
// Present and good, present and bad, absent, and unknown are kept apart. Content
// and signatures are bound to a digest, so any source may supply them, and what
// one of them lacks or spoils another may have. When that does not suffice, the
// error is a [*Refusal] if every source has answered, and one for which
// [oci.Unreachable] or [oci.Denied] holds if some could not be asked. A dead
// registry is never taken for an unsigned image.
//
// A tag is bound to nothing. The first source that answers decides what it
// means, the others are only compared; see [Verifier.Inspect].
//
// # What counts as a signature
//
// A sigstore bundle that refers to the manifest, with a statement of type
// https://sigstore.dev/cosign/sign/v1 about its digest, or a simple-signing
// layer under the tag sha256-<hex>.sig: what cosign 3 and cosign 2 write. The
// index and each manifest in it need their own, because a node pulls by either.
// One that does not verify, or cannot even be read, never hides a good one.
//
// How much is read on behalf of whoever can write to a registry is bounded: see
// the constants in limits.go.
package verify
