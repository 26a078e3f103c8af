//go:build kms_gcp

package sign

import _ "github.com/sigstore/sigstore/pkg/signature/kms/gcp" // it enters itself under its scheme
