package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"
)

// Sign implements [Signer]. It does not touch the network: the signature is
// entered in no log.
func (k *Key) Sign(ctx context.Context, c Content) (*Signed, error) {
	b, err := sigstore.Bundle(c.sigstore(), keypair{k.Public(), k.sign}, sigstore.BundleOptions{Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k, err)
	}
	doc, err := encodeBundle(b)
	return &Signed{Bundle: doc}, err
}

// encodeBundle writes a bundle. protojson puts a space here and there, other
// ones in other binaries, so that nobody relies on its bytes. The digest of a
// bundle does.
func encodeBundle(b *protobundle.Bundle) ([]byte, error) {
	loose, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	var stable bytes.Buffer
	if err := json.Compact(&stable, loose); err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return stable.Bytes(), nil
}

// decodeBundle reads a bundle that encodeBundle, or somebody else, has written.
func decodeBundle(doc []byte) (*protobundle.Bundle, error) {
	b := new(protobundle.Bundle)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(doc, b); err != nil {
		return nil, fmt.Errorf("parse bundle: %w", err)
	}
	return b, nil
}

// sign returns the signature over the digest. Without a random source,
// crypto/ecdsa derives the nonce from key and digest (RFC 6979).
func (k *Key) sign(_ context.Context, digest []byte) ([]byte, error) {
	return k.private.Sign(nil, digest, crypto.SHA256)
}

// keypair shows an ECDSA P-256 key, wherever its private half is, to sigstore-go.
type keypair struct {
	public *ecdsa.PublicKey
	sign   func(ctx context.Context, digest []byte) ([]byte, error) // over a SHA-256 digest; ASN.1 DER
}

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (k keypair) GetHint() []byte {
	_, fingerprint, _ := encodePublic(k.public) // it was encoded when the key was opened
	return []byte(fingerprint)
}

func (k keypair) GetKeyAlgorithm() string { return "ECDSA" }

func (k keypair) GetPublicKey() crypto.PublicKey { return k.public }

func (k keypair) GetPublicKeyPem() (string, error) {
	text, _, err := encodePublic(k.public)
	return string(text), err
}

func (k keypair) SignData(ctx context.Context, data []byte) (signature, digest []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	sum := sha256.Sum256(data)
	signature, err = k.sign(ctx, sum[:])
	return signature, sum[:], err
}
