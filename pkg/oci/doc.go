// Package oci moves content: it is the only registry client of imgctl.
//
// A [Repository] is a repository of a registry ("quay.io/poseidon/kubelet") or
// an OCI layout directory ("oci:DIR"); both answer the same questions and take
// the same content. [Client.Publish] brings a [Release] to any number of them,
// [Client.Copy] brings what one holds to another.
//
// # What it promises
//
// Everything that is read is bounded, then hashed whole, then parsed: a
// manifest has at most [MaxManifest] bytes and its digest is computed from the
// bytes that are returned, whatever the headers say; a blob reader fails
// instead of returning io.EOF when size or digest differ. Four answers are kept
// apart: here it is, it is bad ([*DigestError], [Malformed]), it is not there
// ([NotFound]), and nobody could say ([Unreachable], [Denied]). The last is
// never taken for the third.
//
// A tag moves last, and only after everything else was read back and checked
// on every required destination.
//
// # What it does not do
//
// It verifies no signature and knows no policy: see package verify. It never
// fetches the "urls" of a descriptor.
//
// # The network
//
// Every request passes through one stack (see wire in transport.go): a host
// that is dead costs its time-outs once, what may pass is tried again, nobody
// is asked faster than he wants, a silent connection is cut. A blob that breaks
// off, up or down, goes on where it was.
//
// Credentials go to exactly the registry's host and port, and to a token server
// on the same host or, over TLS, of the same registered domain, or one that
// [Client.TokenServers] lists. Any other token server is asked anonymously, and
// none that is on this machine or link-local is asked at all, unless the
// registry is on loopback itself. Redirects and upload locations get nothing.
// Neither errors nor the log hold credentials, tokens or the state of uploads.
package oci
