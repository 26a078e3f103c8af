package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// PKCS11Scheme begins the URI of a key on a token, such as a hardware security module.
const PKCS11Scheme = "pkcs11:"

// PKCS11 says where a key on a PKCS #11 token is. Of Token, Serial and Slot one is set.
type PKCS11 struct {
	Token, Serial string // of the token
	Slot          *int   // that the token is in
	Object        string // label of the key; "": any
	ID            []byte // of the key; nil: any
	Module        string // path of the token's library
	PINSource     string // path of a file that holds the PIN; "": it is given otherwise
}

const maxURI = 4096 // bytes

// ParsePKCS11 reads the URI of a key (RFC 7512), for instance
// "pkcs11:token=release;object=kubelet?module-path=/usr/lib/softhsm/libsofthsm2.so".
// An attribute that is not heeded is refused, and so is a PIN: files and argument
// lists are read by others. No error quotes a value.
func ParsePKCS11(uri string) (*PKCS11, error) {
	rest, ok := strings.CutPrefix(uri, PKCS11Scheme)
	if !ok || len(uri) > maxURI {
		return nil, fmt.Errorf("key on a token: want %s…, of at most %d bytes", PKCS11Scheme, maxURI)
	}
	path, query, _ := strings.Cut(rest, "?")
	k := &PKCS11{}
	if err := k.attributes(path, ";", k.setPath); err != nil {
		return nil, fmt.Errorf("key on a token: %w", err)
	}
	if err := k.attributes(query, "&", k.setQuery); err != nil {
		return nil, fmt.Errorf("key on a token: %w", err)
	}
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("key on a token: %w", err)
	}
	return k, nil
}

// attributes calls set for each attribute of a part of the URI.
func (k *PKCS11) attributes(part, separator string, set func(name, value string) error) error {
	seen := map[string]bool{}
	for i, text := range strings.Split(part, separator) {
		if part == "" {
			break
		}
		name, escaped, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("attribute %d: want NAME=VALUE", i+1)
		}
		value, err := url.PathUnescape(escaped)
		switch {
		case err != nil:
			return fmt.Errorf("%s: a %% that escapes nothing", printable(name))
		case value == "":
			return fmt.Errorf("%s: want a value", printable(name))
		case strings.ContainsRune(value, 0) && name != "id": // the one that is no text
			return fmt.Errorf("%s: want text, without zero bytes", printable(name))
		case seen[name]:
			return fmt.Errorf("%s: it is there twice", printable(name))
		}
		seen[name] = true
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// setPath sets an attribute of the path, which says what key is meant.
func (k *PKCS11) setPath(name, value string) error {
	switch name {
	case "token":
		k.Token = value
	case "serial":
		k.Serial = value
	case "object":
		k.Object = value
	case "id":
		k.ID = []byte(value)
	case "slot-id":
		slot, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return errors.New("slot-id: want a number")
		}
		n := int(slot)
		k.Slot = &n
	case "type":
		if value != "private" {
			return errors.New("type: want private, of the key that signs")
		}
	default:
		return fmt.Errorf("%s: want token, serial or slot-id, and object, id, type", printable(name))
	}
	return nil
}

// setQuery sets an attribute of the query, which says how the key is reached.
func (k *PKCS11) setQuery(name, value string) error {
	switch name {
	case "module-path":
		k.Module = value
	case "pin-source":
		if strings.HasPrefix(value, "|") {
			return errors.New("pin-source: want a file, and no program")
		}
		k.PINSource = strings.TrimPrefix(strings.TrimPrefix(value, "file://"), "file:")
	case "pin-value":
		return errors.New("pin-value: others can read it there, want pin-source=file:PATH or the PIN in the environment")
	default:
		return fmt.Errorf("%s: want module-path, pin-source", printable(name))
	}
	return nil
}

func (k *PKCS11) check() error {
	tokens := 0
	for _, there := range []bool{k.Token != "", k.Serial != "", k.Slot != nil} {
		if there {
			tokens++
		}
	}
	switch {
	case tokens != 1:
		return fmt.Errorf("got %d of token, serial and slot-id, want one", tokens)
	case k.Object == "" && k.ID == nil:
		return errors.New("want object or id, of the key")
	case k.Module == "":
		return errors.New("want module-path, of the token's library")
	}
	return nil
}

// String is the URI of the key, without how it is reached.
func (k *PKCS11) String() string {
	var list []string
	add := func(name, value string) {
		if value != "" {
			list = append(list, name+"="+escape(value))
		}
	}
	add("token", k.Token)
	add("serial", k.Serial)
	if k.Slot != nil {
		add("slot-id", strconv.Itoa(*k.Slot))
	}
	add("object", k.Object)
	add("id", string(k.ID))
	return PKCS11Scheme + strings.Join(list, ";")
}

// escape writes a value as a URI has it: other bytes than these are in hex.
func escape(value string) string {
	var text strings.Builder
	for _, b := range []byte(value) {
		if 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("-._~", b) >= 0 {
			text.WriteByte(b)
			continue
		}
		text.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return text.String()
}

// OpenPKCS11 returns a signer whose ECDSA P-256 key is on a token. An imgctl that
// was built with -tags pkcs11 has what that takes.
func OpenPKCS11(k *PKCS11, pin Secret) (Recognizer, error) {
	key, err := openToken(k, pin)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", k, err)
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("open key %s: got %T, want ECDSA P-256", k, key.Public())
	}
	return newKeySigner(k.String(), public, func(_ context.Context, digest []byte) ([]byte, error) {
		return key.Sign(rand.Reader, digest, crypto.SHA256)
	}, Services{}, nil)
}
