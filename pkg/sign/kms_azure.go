//go:build kms_azure

package sign

import _ "github.com/sigstore/sigstore/pkg/signature/kms/azure" // it enters itself under its scheme
