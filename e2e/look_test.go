//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/imgctl/imgctl/pkg/verify"
)

// look lists the tags that a repository shows to its users. For each it asks,
// in this order, what it points at and whether that is signed, so that a
// signature which comes later than its tag is missed. It returns how many were
// signed, and a line for each that was not.
func look(ctx context.Context, repo string, key *ecdsa.PublicKey) (signed int, unsigned []string) {
	r, err := name.NewRepository(repo, name.Insecure)
	if err != nil {
		return 0, []string{err.Error()}
	}
	tags, err := remote.List(r, remote.WithContext(ctx))
	if absent(err) {
		return 0, nil // nothing was pushed yet
	}
	if err != nil {
		return 0, []string{fmt.Sprintf("%s: %v", repo, err)}
	}
	for _, tag := range tags {
		if strings.HasPrefix(tag, "sha256-") {
			continue // signatures and lists of referrers, which no user runs
		}
		digest, err := resolve(ctx, repo+":"+tag)
		if absent(err) {
			continue // the registry lists a tag a moment before it answers for it
		}
		switch {
		case err != nil:
		case tag == verify.StatementTag:
			err = checkStatement(ctx, r, digest, key)
		default:
			err = checkSigned(ctx, r, digest, key)
		}
		if err != nil {
			unsigned = append(unsigned, fmt.Sprintf("%s:%s was visible without its signatures: %v", repo, tag, err))
			continue
		}
		signed++
	}
	return signed, unsigned
}

// checkSigned looks for both forms of a signature of digest, and verifies one of
// them with nothing but the standard library.
func checkSigned(ctx context.Context, r name.Repository, digest string, key *ecdsa.PublicKey) error {
	tag := strings.Replace(digest, ":", "-", 1)
	bundles, err := remote.Index(r.Tag(tag), remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("list of referrers: %w", err)
	}
	m, err := bundles.IndexManifest()
	if err != nil {
		return err
	}
	if len(m.Manifests) == 0 {
		return errors.New("list of referrers: it is empty")
	}
	img, err := remote.Image(r.Tag(tag+".sig"), remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("legacy signature: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	for i, l := range layers {
		if err = checkPayload(l, manifest.Layers[i].Annotations["dev.cosignproject.cosign/signature"], digest, key); err == nil {
			return nil
		}
	}
	return fmt.Errorf("legacy signature: none of %d holds: %w", len(layers), err)
}

// checkStatement verifies the signature that a release statement brings in its
// own manifest, with nothing but the standard library.
func checkStatement(ctx context.Context, r name.Repository, digest string, key *ecdsa.PublicKey) error {
	d, err := remote.Get(r.Digest(digest), remote.WithContext(ctx))
	if err != nil {
		return err
	}
	m, err := v1.ParseManifest(bytes.NewReader(d.Manifest))
	if err != nil {
		return err
	}
	if len(m.Layers) == 0 {
		return errors.New("release statement: no signature in its manifest")
	}
	var bundle struct {
		DSSE struct {
			Payload     []byte
			PayloadType string
			Signatures  []struct{ Sig []byte }
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(m.Layers[0].Data, &bundle); err != nil {
		return fmt.Errorf("release statement: %w", err)
	}
	e := bundle.DSSE
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)) // its pre-authentication encoding
	if len(e.Signatures) == 0 || !ecdsa.VerifyASN1(key, sum[:], e.Signatures[0].Sig) {
		return errors.New("release statement: the key did not make its signature")
	}
	return nil
}

func checkPayload(l v1.Layer, signature, digest string, key *ecdsa.PublicKey) error {
	body, err := l.Compressed()
	if err != nil {
		return err
	}
	defer body.Close()
	payload, err := io.ReadAll(io.LimitReader(body, 1<<20))
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	if !ecdsa.VerifyASN1(key, sum[:], sig) {
		return errors.New("the key did not make it")
	}
	var p struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			}
		}
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return err
	}
	if p.Critical.Image.Digest != digest {
		return fmt.Errorf("it is for %s, want %s", p.Critical.Image.Digest, digest)
	}
	return nil
}

// resolve is the digest that a tag points at.
func resolve(ctx context.Context, ref string) (string, error) {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return "", err
	}
	d, err := remote.Head(r, remote.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

func absent(err error) bool {
	var te *transport.Error
	return errors.As(err, &te) && te.StatusCode == http.StatusNotFound
}

// publicKey reads a public key in PEM.
func publicKey(path string) (*ecdsa.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: got %T, want an ECDSA key", path, key)
	}
	return ec, nil
}
