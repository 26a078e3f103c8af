package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxSignatures bounds how many signatures of an InRelease are looked at. Debian's have three.
const maxSignatures = 16

// maxAhead is how far a signature or a Date may lie in the future before it is
// refused: clocks differ a little.
const maxAhead = 10 * time.Minute

// A SignatureError says why a document is not signed by a key that we trust.
type SignatureError struct {
	Object string   // what should have been signed
	Why    []string // one reason for each signature that was looked at, or one for the whole
}

// Error is one line.
func (e *SignatureError) Error() string {
	return fmt.Sprintf("signature of %s: %s", e.Object, strings.Join(e.Why, "; "))
}

// readKeyring reads OpenPGP certificates, binary or armored.
func readKeyring(data []byte) (openpgp.EntityList, error) {
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN PGP ")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read archive keyring: %w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("read archive keyring: no key in it")
	}
	return keys, nil
}

// openInRelease returns the signed text of a clear-signed document (RFC 9580,
// section 7) that at least one key of the keyring signed. Nothing may stand
// before or after the one signed message: a parser that skips over unsigned text
// can be made to read it. Signatures by other keys do not count for or against.
func openInRelease(data []byte, keyring openpgp.EntityList, now time.Time) ([]byte, error) {
	const begin = "-----BEGIN PGP SIGNED MESSAGE-----"
	bad := func(why string) error { return &SignatureError{Object: "InRelease", Why: []string{why}} }
	if !bytes.HasPrefix(data, []byte(begin)) {
		return nil, bad(fmt.Sprintf("starts with %.40q, want %q", data, begin))
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, bad("not a complete clear-signed message")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, bad(fmt.Sprintf("%d bytes after the end of the signature", len(rest)))
	}
	signatures, err := splitSignatures(block.ArmoredSignature.Body)
	if err != nil {
		return nil, bad(err.Error())
	}
	var why []string
	for _, s := range signatures {
		err := checkSignature(block.Bytes, s, keyring, now)
		if err == nil {
			return block.Plaintext, nil
		}
		why = append(why, err.Error())
	}
	return nil, &SignatureError{Object: "InRelease", Why: why}
}

// splitSignatures returns the packets of an armored signature block, one by
// one, so that one that cannot be checked does not hide the next.
func splitSignatures(r io.Reader) ([][]byte, error) {
	var all [][]byte
	for packets := packet.NewOpaqueReader(r); ; {
		p, err := packets.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read signature packet: %w", err)
		}
		if len(all) == maxSignatures {
			return nil, fmt.Errorf("more than %d signatures", maxSignatures)
		}
		var one bytes.Buffer
		if err := p.Serialize(&one); err != nil {
			return nil, fmt.Errorf("read signature packet: %w", err)
		}
		all = append(all, one.Bytes())
	}
	if len(all) == 0 {
		return nil, errors.New("no signature in the signature block")
	}
	return all, nil
}

// checkSignature verifies one signature packet over text. Whether the key was
// valid is asked for the moment of signing: suites outlive the keys that signed them.
func checkSignature(text, signature []byte, keyring openpgp.EntityList, now time.Time) error {
	p, err := packet.Read(bytes.NewReader(signature))
	if err != nil {
		return err
	}
	s, ok := p.(*packet.Signature)
	if !ok {
		return errors.New("a packet that is no signature")
	}
	if s.SigType != packet.SigTypeText && s.SigType != packet.SigTypeBinary {
		return fmt.Errorf("signature of type %#x, want one over a document", byte(s.SigType))
	}
	if s.IssuerKeyId == nil {
		return errors.New("signature names no key")
	}
	key := fmt.Sprintf("key %016X", *s.IssuerKeyId)
	if len(keyring.KeysById(*s.IssuerKeyId)) == 0 {
		return fmt.Errorf("%s is not in the keyring", key)
	}
	if s.CreationTime.After(now.Add(maxAhead)) {
		return fmt.Errorf("%s: signed at %s, which is in the future", key, s.CreationTime.UTC().Format(time.RFC3339))
	}
	config := &packet.Config{Time: func() time.Time { return s.CreationTime }}
	if _, err := openpgp.CheckDetachedSignature(keyring, bytes.NewReader(text), bytes.NewReader(signature), config); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
