//go:build kms_hashivault

package sign

import _ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault" // it enters itself under its scheme
