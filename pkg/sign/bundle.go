package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"
)

// SignStatement implements [Signer].
func (k *Key) SignStatement(ctx context.Context, statement []byte) ([]byte, error) {
	content := &sigstore.DSSEData{Data: statement, PayloadType: statementMediaType}
	b, err := sigstore.Bundle(content, keypair{k}, sigstore.BundleOptions{Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	loose, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	// protojson puts a space here and there, other ones in other binaries, so
	// that nobody relies on its bytes. The digest of a bundle does.
	var stable bytes.Buffer
	if err := json.Compact(&stable, loose); err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return stable.Bytes(), nil
}

// SignPayload implements [Signer].
func (k *Key) SignPayload(ctx context.Context, payload []byte) ([]byte, error) {
	signature, _, err := k.sign(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("sign payload: %w", err)
	}
	return signature, nil
}

// sign returns the signature over data and the digest that was signed. Without
// a random source, crypto/ecdsa derives the nonce from key and digest (RFC 6979).
func (k *Key) sign(ctx context.Context, data []byte) (signature, digest []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(data)
	signature, err = k.private.Sign(nil, sum[:], crypto.SHA256)
	return signature, sum[:], err
}

// keypair shows a Key to sigstore-go.
type keypair struct{ *Key }

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (k keypair) GetHint() []byte { return []byte(k.Fingerprint()) }

func (k keypair) GetKeyAlgorithm() string { return "ECDSA" }

func (k keypair) GetPublicKey() crypto.PublicKey { return k.Public() }

func (k keypair) GetPublicKeyPem() (string, error) { return string(k.PublicPEM()), nil }

func (k keypair) SignData(ctx context.Context, data []byte) (signature, digest []byte, err error) {
	return k.sign(ctx, data)
}
