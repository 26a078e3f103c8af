//go:build !(pkcs11 && cgo)

package sign

import (
	"crypto"
	"errors"
)

// openToken says how to build an imgctl that can.
func openToken(*PKCS11, Secret) (crypto.Signer, error) {
	return nil, errors.New("imgctl was built without PKCS #11: build it with -tags pkcs11, and a C compiler")
}
