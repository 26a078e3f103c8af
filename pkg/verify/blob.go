package verify

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/policies"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// maxTrust is the most bytes that a trusted root may have.
const maxTrust = 1 << 20

// LoadTrust reads a Sigstore trusted root (trusted_root.json) from path; "" means
// the one of the public-good Sigstore that is built in. Nothing is fetched: who
// is trusted changes when the file does.
func LoadTrust(path string) (root.TrustedMaterial, error) {
	var data []byte
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("load trusted root: %w", err)
		}
		defer f.Close()
		if data, err = io.ReadAll(io.LimitReader(f, maxTrust+1)); err != nil {
			return nil, fmt.Errorf("load trusted root: %w", err)
		}
	}
	trust, err := parseTrust(path, data)
	if err != nil {
		return nil, fmt.Errorf("load %w", err)
	}
	return trust, nil
}

// parseTrust parses the content of the file; "" is the built-in root.
func parseTrust(file string, data []byte) (root.TrustedMaterial, error) {
	if file == "" {
		file, data = "(built in)", policies.SigstorePublicGood
	}
	if len(data) > maxTrust {
		return nil, fmt.Errorf("trusted root %s: got more than %d bytes", file, maxTrust)
	}
	trust, err := root.NewTrustedRootFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("trusted root %s: %w", file, err)
	}
	if len(trust.FulcioCertificateAuthorities()) == 0 || len(trust.RekorLogs()) == 0 {
		return nil, fmt.Errorf("trusted root %s: it names no certificate authority or no transparency log", file)
	}
	return trust, nil
}

// BlobVerifier accepts files that one identity has signed with a certificate of
// a Sigstore: what `cosign verify-blob` decides, from stored evidence and
// without any network. It implements [upstream.BlobVerifier].
type BlobVerifier struct {
	Trust    root.TrustedMaterial // whose certificates and logs count
	Identity string               // exact subject alternative name, and the only one in the certificate
	Issuer   string               // exact OIDC issuer that vouched for it
}

// VerifyBlob returns nil if and only if e proves that the file with the given
// sha256 was signed by v.Identity:
//
//  1. the log entry is about this digest, signature and certificate, the log has
//     promised to include it, and if there is a proof of inclusion it holds
//  2. when the log received it the certificate was valid, and it leads to an
//     authority of the trust root
//  3. a certificate log has promised to show the certificate, if the trust root
//     names any
//  4. the signature is one of this digest by the certificate's key
//  5. the certificate names exactly v.Identity and v.Issuer
//
// A zero v accepts nothing.
func (v *BlobVerifier) VerifyBlob(ctx context.Context, sha256 []byte, e upstream.Evidence) error {
	if err := v.verifyBlob(ctx, sha256, e); err != nil {
		return fmt.Errorf("verify signature of sha256:%x: %w", sha256, err)
	}
	return nil
}

func (v *BlobVerifier) verifyBlob(ctx context.Context, sha256 []byte, e upstream.Evidence) error {
	if v.Trust == nil || v.Identity == "" || v.Issuer == "" {
		return errors.New("no trust root, no identity or no issuer to compare with")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	cert, err := parseCertificate(e.Certificate)
	if err != nil {
		return err
	}
	if err := onlyName(cert); err != nil {
		return err
	}
	entity, err := blobBundle(sha256, e.Signature, cert, e.LogEntry)
	if err != nil {
		return err
	}
	verifier, err := certificateVerifier(v.Trust)
	if err != nil {
		return err
	}
	identity, err := verify.NewShortCertificateIdentity(v.Issuer, "", v.Identity, "")
	if err != nil {
		return err
	}
	_, err = verifier.Verify(entity, verify.NewPolicy(
		verify.WithArtifactDigest("sha256", sha256),
		verify.WithCertificateIdentity(identity)))
	return err
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		return nil, errors.New("certificate: want one in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

// onlyName refuses a certificate with several names.
func onlyName(cert *x509.Certificate) error {
	if n := len(cert.EmailAddresses) + len(cert.URIs) + len(cert.DNSNames) + len(cert.IPAddresses); n > 1 {
		return fmt.Errorf("certificate: got %d subject alternative names, want one", n)
	}
	return nil
}

// blobBundle puts the pieces that dl.k8s.io and Rekor publish into the form that
// Sigstore's libraries verify.
func blobBundle(sha256, sig []byte, cert *x509.Certificate, logEntry []byte) (*bundle.Bundle, error) {
	entry, err := upstream.ParseLogEntry(logEntry)
	if err != nil {
		return nil, err
	}
	if _, err := entry.HashedRekord(); err != nil {
		return nil, err
	}
	// Version 0.1 of the format is the one that asks for a promise of inclusion and
	// takes a proof as well; from 0.2 on an entry needs a proof, which Rekor does
	// not give for the first seconds. What is there is verified either way.
	media, err := bundle.MediaTypeString("0.1")
	if err != nil {
		return nil, err
	}
	return bundle.NewBundle(&protobundle.Bundle{
		MediaType: media,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: cert.Raw}},
			TlogEntries: []*protorekor.TransparencyLogEntry{transparencyEntry(entry)},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sha256},
			Signature:     sig,
		}},
	})
}

func transparencyEntry(e *upstream.LogEntry) *protorekor.TransparencyLogEntry {
	t := &protorekor.TransparencyLogEntry{
		LogIndex:          e.LogIndex,
		LogId:             &protocommon.LogId{KeyId: e.LogID},
		KindVersion:       &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.1"},
		IntegratedTime:    e.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: e.SET},
		CanonicalizedBody: e.Body,
	}
	if p := e.Proof; p != nil {
		t.InclusionProof = &protorekor.InclusionProof{
			LogIndex:   p.LogIndex,
			RootHash:   p.RootHash,
			TreeSize:   p.TreeSize,
			Hashes:     p.Hashes,
			Checkpoint: &protorekor.Checkpoint{Envelope: p.Checkpoint},
		}
	}
	return t
}
