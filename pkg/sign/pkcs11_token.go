//go:build pkcs11 && cgo

package sign

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// openToken logs in to the token, for as long as the process lives.
func openToken(k *PKCS11, pin Secret) (crypto.Signer, error) {
	token, err := crypto11.Configure(&crypto11.Config{Path: k.Module, TokenLabel: k.Token, TokenSerial: k.Serial, SlotNumber: k.Slot, Pin: string(pin)})
	var refused pkcs11.Error
	switch {
	case errors.As(err, &refused) && (refused == pkcs11.CKR_PIN_INCORRECT || refused == pkcs11.CKR_PIN_LEN_RANGE || refused == pkcs11.CKR_PIN_INVALID):
		return nil, errors.New("wrong PIN")
	case errors.As(err, &refused) && refused == pkcs11.CKR_PIN_LOCKED:
		return nil, errors.New("the token has locked its PIN, after too many wrong ones")
	case err != nil:
		return nil, fmt.Errorf("%s: %s", k.Module, printable(err.Error()))
	}
	keys, err := token.FindKeyPairs(k.ID, []byte(k.Object))
	if err == nil && len(keys) != 1 {
		err = fmt.Errorf("got %d such keys with an id and both of their halves, want one", len(keys))
	}
	if err != nil {
		return nil, errors.Join(err, token.Close())
	}
	return keys[0], nil
}
