// Package attest says what an artifact was made of and how.
//
// A build keeps a [Record] of everything that went in. From it, [SPDX] makes
// the bill of materials, [Provenance] the SLSA provenance, and [Statement]
// binds either to the digest that it is about. All three are pure: they read
// no clock, no random source and no network, so the same record gives the same
// bytes on every machine. Signing and publishing are other packages' concern.
package attest

import "time"

// Predicate types of in-toto statements that imgctl makes.
const (
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateSignature  = "https://sigstore.dev/cosign/sign/v1"
)

// Material types. They decide how a material is described.
const (
	TypeDeb    = "deb"    // a binary package of a Debian archive
	TypeBinary = "binary" // an executable in the image, e.g. kubelet; may list its Go modules
	TypeFile   = "file"   // anything else that was read: a tarball, an InRelease, a keyring, the spec
)

// Module is a Go module that a binary was linked from, as debug/buildinfo
// reports it.
type Module struct {
	Path    string
	Version string // "v1.2.3"; "(devel)" and "" mean unknown
	Sum     string // "h1:…", or "" when unknown
}

// Material is one thing that went into an artifact.
type Material struct {
	Name    string // "iptables", "kubelet", "kubernetes-node-linux-amd64.tar.gz"
	Version string // "1.8.11-2", "v1.36.2"; may be empty for files
	Arch    string // "amd64", "arm64", "all"; empty when it does not matter
	Type    string // TypeDeb, TypeBinary or TypeFile
	PURL    string // package URL; empty: made from the other fields where that is possible
	URI     string // where it is to be had, relative to its archive or base: never the name of a mirror
	License string // SPDX licence expression; empty: not known
	Source  string // Debian source package, or the material that this one was taken out of
	Path    string // where it is in the image: "/usr/local/bin/kubelet"; empty when it is not a file of it

	// Digests are lower-case hexadecimal, keyed by algorithm: "sha256", "sha512".
	Digests map[string]string

	Modules   []Module // of a Go binary
	GoVersion string   // of a Go binary: "go1.26.3"
	Proofs    []string // how the material was checked: "pin", "signature", "checksum"
}

// Record says what one artifact was made of and how.
type Record struct {
	Builder    string         // URI of who built: "https://github.com/imgctl/imgctl"
	Version    string         // of imgctl: "v0.1.0"; empty: not known
	BuildType  string         // URI of the document that says what Parameters mean; empty: [BuildType]
	Created    time.Time      // the artifact's own creation time, e.g. from SOURCE_DATE_EPOCH
	Platform   string         // "linux/amd64"; empty for an index
	Parameters map[string]any // what the user asked for; must marshal to JSON
	Internal   map[string]any // what the builder chose: Go's version, the compressor; must marshal to JSON
	Materials  []Material

	// A build that is meant to be repeated leaves these empty: they are
	// different each time, and so would be every document that names them.
	Invocation        string    // URI or identifier of this one run
	Started, Finished time.Time // of this one run
}

// Subject names the artifact that a statement or a document is about.
type Subject struct {
	Name   string // repository or file name
	Digest string // "sha256:…", lower-case hexadecimal
}

// BuildType is the URI that provenance carries when the record names no other.
const BuildType = "https://github.com/imgctl/imgctl/blob/main/docs/formats.md#buildtype"
