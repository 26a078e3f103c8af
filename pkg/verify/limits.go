package verify

// Whoever can write to a source can add as many signatures as he likes. These
// bounds are far above what a release has and far below what would hurt.
const (
	maxChildren  = 64        // manifests in an index
	maxReferrers = 256       // referrers of one manifest that are examined, per source
	maxLayers    = 64        // layers of one sha256-….sig image that are examined
	maxBundle    = 16 << 20  // bytes of one bundle; an SBOM of a thousand packages has 2 MiB
	maxPayload   = 64 << 10  // bytes of one simple-signing payload; a real one has 250
	maxEvidence  = 128 << 20 // bytes of bundles and payloads fetched for one verification
	maxNotes     = 64        // notes that a report keeps about what did not count

	parallel = 6 // requests to one source at a time
)

// The layouts of signatures, as a policy names them.
const (
	formatBundle = "bundle"
	formatLegacy = "legacy"
)

// Predicate and media types of what is examined. The predicate types equal
// those of package attest, which a node need not link; a test compares them.
const (
	predicateSignature  = "https://sigstore.dev/cosign/sign/v1"
	predicateProvenance = "https://slsa.dev/provenance/v1"
	predicateRelease    = "https://imgctl.dev/release/v1" // of a [ReleaseStatement]

	statementMediaType    = "application/vnd.in-toto+json"
	statementType         = "https://in-toto.io/Statement/v1"
	statementTypeV01      = "https://in-toto.io/Statement/v0.1" // cosign 2 writes it
	bundleMediaTypePrefix = "application/vnd.dev.sigstore.bundle"
	predicateAnnotation   = "dev.sigstore.bundle.predicateType"
)
