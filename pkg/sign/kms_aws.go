//go:build kms_aws

package sign

import _ "github.com/sigstore/sigstore/pkg/signature/kms/aws" // it enters itself under its scheme
