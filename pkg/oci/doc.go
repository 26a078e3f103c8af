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
// Names, credentials and the authentication handshake are those of
// go-containerregistry. The requests themselves are made here, because every
// promise above needs the response in hand: its headers, its exact bytes, its
// next page.
package oci
