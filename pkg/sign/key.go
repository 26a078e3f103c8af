package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

const (
	encryptedType = "ENCRYPTED SIGSTORE PRIVATE KEY"
	// cosign before 2.0 wrote the same content under this type.
	encryptedTypeBefore2 = "ENCRYPTED COSIGN PRIVATE KEY"
	publicType           = "PUBLIC KEY"

	maxKeyFile = 64 << 10 // bytes; a real one has 650
)

// Key is a private ECDSA P-256 key in memory. It implements [Signer]. The zero
// Key is not usable; get one from [LoadKey] or [NewKey].
type Key struct{ private *ecdsa.PrivateKey }

// GenerateKey makes a new ECDSA P-256 key. Both results are PEM: the private
// one encrypted with the password as cosign does it (scrypt and NaCl secretbox
// around PKCS #8), the public one as SubjectPublicKeyInfo. The password may be
// empty, which protects nothing; refusing that is the caller's choice.
func GenerateKey(password Secret) (private, public []byte, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	k, err := NewKey(priv)
	if err != nil {
		return nil, nil, err
	}
	private, err = k.encrypt(password)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt key: %w", err)
	}
	return private, k.PublicPEM(), nil
}

// NewKey wraps a private key that the caller already holds. The curve must be P-256.
func NewKey(private *ecdsa.PrivateKey) (*Key, error) {
	if private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("private key: got curve %s, want P-256", private.Curve.Params().Name)
	}
	if _, _, err := encodePublic(&private.PublicKey); err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return &Key{private: private}, nil
}

// LoadKey decrypts a private key file that [GenerateKey] or cosign wrote. Its
// errors are one line and name what was found and what was wanted; none
// contains a byte of the key or the password.
func LoadKey(file []byte, password Secret) (*Key, error) {
	sealed, err := decodePEM(file)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	der, err := decrypt(sealed, password)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("private key: what was decrypted is not PKCS #8") // the cause could quote the key
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key: got %T, want ECDSA P-256", parsed)
	}
	return NewKey(private)
}

// decodePEM returns the content of the file's only PEM block.
func decodePEM(file []byte) ([]byte, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(file)
	switch {
	case block == nil && bytes.Contains(file, []byte("-----BEGIN ")):
		return nil, errors.New("truncated or damaged: a PEM block begins and does not end")
	case block == nil:
		return nil, fmt.Errorf("no PEM block in %d bytes, want %s", len(file), encryptedType)
	case block.Type == "PRIVATE KEY" || block.Type == "EC PRIVATE KEY":
		return nil, fmt.Errorf("got an unencrypted %s, want %s", block.Type, encryptedType)
	case block.Type != encryptedType && block.Type != encryptedTypeBefore2:
		return nil, fmt.Errorf("got PEM type %q, want %s", block.Type, encryptedType)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more text follows the key, want one PEM block")
	}
	return block.Bytes, nil
}

func decrypt(sealed []byte, password Secret) ([]byte, error) {
	if !json.Valid(sealed) {
		return nil, errors.New("truncated or damaged: the PEM block holds no JSON")
	}
	der, err := encrypted.Decrypt(sealed, password)
	switch {
	case err == nil:
		return der, nil
	case err.Error() == "encrypted: decryption failed" && len(password) == 0: // the library has no sentinel
		return nil, errors.New("wrong password: none was given")
	case err.Error() == "encrypted: decryption failed":
		return nil, errors.New("wrong password, or the file is damaged")
	default:
		return nil, err
	}
}

func (k *Key) encrypt(password Secret) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	sealed, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: encryptedType, Bytes: sealed}), nil
}

// Public returns the public half.
func (k *Key) Public() *ecdsa.PublicKey { return &k.private.PublicKey }

// PublicPEM returns the public half as the PEM file that policies name.
func (k *Key) PublicPEM() []byte {
	text, _, _ := encodePublic(k.Public()) // it was encoded when the key was made
	return text
}

// Fingerprint returns the base64 SHA-256 digest of the public key, which bundles
// carry as a hint at the key that signed them.
func (k *Key) Fingerprint() string {
	_, fingerprint, _ := encodePublic(k.Public())
	return fingerprint
}

// encodePublic returns a public key as PEM, and the base64 SHA-256 digest of its DER.
func encodePublic(public *ecdsa.PublicKey) (text []byte, fingerprint string, err error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), base64.StdEncoding.EncodeToString(sum[:]), nil
}

// String names the key by its fingerprint, so that printing a Key shows nothing private.
func (k *Key) String() string { return "ecdsa-p256:" + k.Fingerprint() }

// GoString is [Key.String], so that %#v shows nothing private either.
func (k *Key) GoString() string { return k.String() }
