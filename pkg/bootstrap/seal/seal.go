// Package seal encrypts the secrets of a cluster for the machines that are given
// them, and opens them there.
//
// An [Archive] lists files with their path, owner, mode and SHA-256. [Seal]
// encrypts it with age for some public keys; [Open] needs one of the private
// keys, and hands out nothing that it has not checked. The format can say
// "file" and nothing else: there are no links, devices or directories in it.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// MediaType is what a sealed archive is called as a layer of an OCI artifact.
const MediaType = "application/vnd.imgctl.bootstrap.secrets.v1+age"

// MaxSize is the most bytes that a sealed archive may have.
const MaxSize = 8 << 20

// ErrNotForUs is the error for an archive that none of the keys opens.
var ErrNotForUs = errors.New("sealed for other keys than those given")

// Recipient is the public key of a machine.
type Recipient struct{ recipient age.Recipient }

// ParseRecipient reads a public key: "age1…" (X25519) or "ssh-ed25519 …", such
// as the host key of a machine.
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "age1"):
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return Recipient{}, fmt.Errorf("recipient %.80q: %w", text, err)
		}
		return Recipient{r}, nil
	case strings.HasPrefix(text, "ssh-ed25519 "):
		r, err := agessh.ParseRecipient(text)
		if err != nil {
			return Recipient{}, fmt.Errorf("recipient %.80q: %w", text, err)
		}
		return Recipient{r}, nil
	case strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-"):
		return Recipient{}, errors.New("recipient: got a private key, want the public key that belongs to it")
	}
	return Recipient{}, fmt.Errorf("recipient: got %.20q, want age1… or ssh-ed25519 …", text)
}

// Identity is the private key of a machine.
type Identity struct{ identity age.Identity }

// String hides the key.
func (Identity) String() string { return "REDACTED" }

// GoString hides the key.
func (Identity) GoString() string { return "REDACTED" }

// ParseIdentities reads private keys: a file of age-keygen, or an OpenSSH
// private key without a passphrase. The error repeats nothing of it.
func ParseIdentities(data []byte) ([]Identity, error) {
	if bytes.Contains(data, []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(data)
		if err != nil {
			return nil, errors.New("identity: no OpenSSH private key that can be used without a passphrase")
		}
		return []Identity{{id}}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("identity: want lines AGE-SECRET-KEY-1… as age-keygen writes them")
	}
	all := make([]Identity, len(ids))
	for i, id := range ids {
		all[i] = Identity{id}
	}
	return all, nil
}

// Seal checks the archive and encrypts it so that each of the recipients alone can open it.
func Seal(a *Archive, recipients []Recipient) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("seal: got no recipient, want one or more")
	}
	text, err := a.encode()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	keys := make([]age.Recipient, len(recipients))
	for i, r := range recipients {
		keys[i] = r.recipient
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, keys...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if sealed.Len() > MaxSize {
		return nil, fmt.Errorf("seal: got %d bytes, want at most %d", sealed.Len(), MaxSize)
	}
	return sealed.Bytes(), nil
}

// Open decrypts a sealed archive and checks all of it. The error is
// [ErrNotForUs] when no identity opens it, a [*DamagedError] when it was changed
// on its way, and a [*ContentError] when what is in it is not safe to write.
func Open(sealed []byte, identities []Identity) (*Archive, error) {
	if len(sealed) > MaxSize {
		return nil, &ContentError{fmt.Errorf("got more than %d bytes", MaxSize)}
	}
	if len(identities) == 0 {
		return nil, ErrNotForUs
	}
	keys := make([]age.Identity, len(identities))
	for i, id := range identities {
		keys[i] = id.identity
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), keys...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, ErrNotForUs
	}
	if err != nil {
		return nil, &DamagedError{err}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, &DamagedError{err}
	}
	return decode(text)
}

// DamagedError is the error for an archive that is not what was sealed.
type DamagedError struct{ err error }

// Error is one line.
func (e *DamagedError) Error() string { return "sealed archive is damaged: " + e.err.Error() }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.err }

// ContentError is the error for an archive that says what no machine should do.
type ContentError struct{ err error }

// Error is one line.
func (e *ContentError) Error() string { return "sealed archive: " + e.err.Error() }

// Unwrap returns the cause.
func (e *ContentError) Unwrap() error { return e.err }
