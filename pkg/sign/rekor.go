package sign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/imgctl/imgctl/internal/cosign"
)

// errLogged says that a log of version 2 has the very same signature already.
// That log does not give the entry back, so that one signs anew.
var errLogged = errors.New("the log has this signature already")

// rekor enters the signature of a bundle in one log. It implements Transparency
// of sigstore-go.
type rekor struct {
	services *Services
	log      Log
}

// GetTransparencyLogEntry adds the entry to the bundle. The key is PEM: a
// certificate or a public key.
func (r rekor) GetTransparencyLogEntry(ctx context.Context, key []byte, b *protobundle.Bundle) error {
	add := r.addV1
	if r.log.Version == 2 {
		add = r.addV2
	}
	entry, err := add(ctx, key, b)
	if err != nil {
		return err
	}
	b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, entry)
	return nil
}

// addV1 proposes an entry. A log that has it already says where; it is then the
// one that is used, so that a try whose answer was lost does no harm.
func (r rekor) addV1(ctx context.Context, key []byte, b *protobundle.Bundle) (*protorekor.TransparencyLogEntry, error) {
	body, err := proposal(key, b)
	if err != nil {
		return nil, err
	}
	q := request{what: "enter a signature in the log", method: http.MethodPost, url: join(r.log.URL, "/api/v1/log/entries"), typ: "application/json", body: body}
	a, err := r.services.call(ctx, q)
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusCreated:
		return parseEntryV1(a.body)
	case http.StatusConflict:
		return r.existing(ctx, a.header.Get("Location"))
	}
	return nil, q.refused(a)
}

// entryID is how a log of version 1 names an entry: a tree, perhaps, and a hash.
var entryID = regexp.MustCompile(`^([0-9a-f]{16})?[0-9a-f]{64}$`)

// existing reads an entry that the log says it has. Another replica may not know
// of it yet.
func (r rekor) existing(ctx context.Context, location string) (*protorekor.TransparencyLogEntry, error) {
	id := path.Base(location)
	if !entryID.MatchString(id) {
		return nil, fmt.Errorf("enter a signature in the log: it is there already, and the log does not say where (Location %q)", printable(location))
	}
	q := request{what: "read an entry of the log", method: http.MethodGet, url: join(r.log.URL, "/api/v1/log/entries/"+id), absent: true}
	a, err := r.services.call(ctx, q)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, q.refused(a)
	}
	return parseEntryV1(a.body)
}

// proposal is the entry of version 1 for what the bundle holds: a dsse of a
// statement, a hashedrekord of anything else.
func proposal(key []byte, b *protobundle.Bundle) ([]byte, error) {
	if e := b.GetDsseEnvelope(); e != nil {
		envelope, err := cosign.Envelope(e)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{
			"proposedContent": map[string]any{"envelope": string(envelope), "verifiers": [][]byte{key}},
		}})
	}
	m := b.GetMessageSignature()
	return json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(m.GetMessageDigest().GetDigest())}},
		"signature": map[string]any{"content": m.GetSignature(), "publicKey": map[string]any{"content": key}},
	}})
}

// entryV1 is an entry in the form of Rekor's API, version 1.
type entryV1 struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`
	Verification   struct {
		SET   []byte `json:"signedEntryTimestamp"`
		Proof *struct {
			Checkpoint string   `json:"checkpoint"`
			Hashes     []string `json:"hashes"`
			LogIndex   int64    `json:"logIndex"`
			RootHash   string   `json:"rootHash"`
			TreeSize   int64    `json:"treeSize"`
		} `json:"inclusionProof"`
	} `json:"verification"`
}

// parseEntryV1 reads an answer that holds exactly one entry. What it says is
// verified later, with the rest of the bundle.
func parseEntryV1(doc []byte) (*protorekor.TransparencyLogEntry, error) {
	var entries map[string]entryV1
	if err := json.Unmarshal(doc, &entries); err != nil {
		return nil, fmt.Errorf("parse log entry: %s", printable(err.Error()))
	}
	if len(entries) != 1 {
		return nil, fmt.Errorf("parse log entry: got %d, want one", len(entries))
	}
	var e entryV1
	for _, e = range entries {
	}
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal(e.Body, &kind); err != nil {
		return nil, fmt.Errorf("parse log entry: body: %s", printable(err.Error()))
	}
	p := e.Verification.Proof
	if p == nil || len(e.Verification.SET) == 0 {
		return nil, errors.New("parse log entry: it has no promise or no proof of inclusion")
	}
	proof := &protorekor.InclusionProof{LogIndex: p.LogIndex, TreeSize: p.TreeSize, Checkpoint: &protorekor.Checkpoint{Envelope: p.Checkpoint}}
	out := &protorekor.TransparencyLogEntry{
		LogIndex: e.LogIndex, LogId: &protocommon.LogId{}, IntegratedTime: e.IntegratedTime, CanonicalizedBody: e.Body,
		KindVersion:      &protorekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
		InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: e.Verification.SET},
		InclusionProof:   proof,
	}
	var errID, errRoot error
	out.LogId.KeyId, errID = hex.DecodeString(e.LogID)
	proof.RootHash, errRoot = hex.DecodeString(p.RootHash)
	for _, text := range p.Hashes {
		h, err := hex.DecodeString(text)
		if err != nil {
			return nil, errors.New("parse log entry: hashes: not hex")
		}
		proof.Hashes = append(proof.Hashes, h)
	}
	if errID != nil || errRoot != nil {
		return nil, errors.New("parse log entry: logID or rootHash: not hex")
	}
	return out, nil
}

// addV2 adds an entry to a log of version 2, which takes hashedrekord only: of a
// statement, the hash is that of what its signature is over.
func (r rekor) addV2(ctx context.Context, key []byte, b *protobundle.Bundle) (*protorekor.TransparencyLogEntry, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("enter a signature in the log: no key")
	}
	verifier := map[string]any{"keyDetails": protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256.String()}
	kind := "publicKey"
	if block.Type == "CERTIFICATE" {
		kind = "x509Certificate"
	}
	verifier[kind] = map[string]any{"rawBytes": block.Bytes}
	digest, signature := signedDigest(b)
	body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": digest, "signature": map[string]any{"content": signature, "verifier": verifier},
	}})
	if err != nil {
		return nil, err
	}
	// 404 is no answer of the log's to this: it is of what stands before it, while a host comes or goes.
	q := request{what: "enter a signature in the log", method: http.MethodPost, url: join(r.log.URL, "/api/v2/log/entries"), typ: "application/json", body: body, absent: true}
	a, err := r.services.call(ctx, q)
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusOK, http.StatusCreated:
	case http.StatusConflict:
		return nil, errLogged
	default:
		return nil, q.refused(a)
	}
	out := new(protorekor.TransparencyLogEntry)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(a.body, out); err != nil {
		return nil, fmt.Errorf("parse log entry: %s", printable(err.Error()))
	}
	return out, nil
}

// signedDigest returns the SHA-256 digest that was signed, and the signature.
func signedDigest(b *protobundle.Bundle) (digest, signature []byte) {
	if e := b.GetDsseEnvelope(); e != nil {
		sum := sha256.Sum256(dsse.PAE(e.GetPayloadType(), e.GetPayload()))
		return sum[:], firstSignature(e)
	}
	m := b.GetMessageSignature()
	return m.GetMessageDigest().GetDigest(), m.GetSignature()
}

func firstSignature(e *protodsse.Envelope) []byte {
	if len(e.GetSignatures()) == 0 {
		return nil
	}
	return e.GetSignatures()[0].GetSig()
}

// join puts a path behind the address of a service.
func join(base, path string) string { return strings.TrimSuffix(base, "/") + path }
