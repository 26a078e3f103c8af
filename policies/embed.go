// Package policies holds the trust data that imgctl ships with. The files beside
// it are the same ones that a user passes to the command line and may replace.
package policies

import _ "embed"

// SigstorePublicGood is the trusted root of the public-good Sigstore in the
// format trustedroot+json;version=0.1: the certificate authorities, transparency
// logs and certificate logs whose signatures count. Do not change it.
//
//go:embed sigstore-public-good.json
var SigstorePublicGood []byte
