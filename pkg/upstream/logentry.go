package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLogEntry is the most bytes that an entry may have; real ones have about 6 KB.
const maxLogEntry = 64 << 10

// LogEntry is an entry of a Rekor v1 transparency log.
type LogEntry struct {
	UUID           string          // 64 or 80 hex digits
	Body           []byte          // canonical JSON, what the log has hashed
	IntegratedTime int64           // seconds since 1970
	LogID          []byte          // sha256 of the log's public key, 32 bytes
	LogIndex       int64           // over all shards of the log
	SET            []byte          // signed entry timestamp, the promise of inclusion
	Proof          *InclusionProof // nil when the log gave none
}

// InclusionProof leads from an entry to a tree head that the log has signed.
type InclusionProof struct {
	LogIndex   int64 // in the shard's tree
	TreeSize   int64
	RootHash   []byte   // 32 bytes
	Hashes     [][]byte // 32 bytes each, at most 64
	Checkpoint string   // signed note
}

// HashedRekord is what an entry of the kind hashedrekord 0.0.1 says.
type HashedRekord struct {
	SHA256    string // lower-case hex, of the file
	Signature []byte // of the file
	PublicKey []byte // PEM: a certificate, or a key
}

// wireEntry is an entry as Rekor's API spells it (rekor's openapi.yaml, LogEntry).
type wireEntry struct {
	Body           string `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`
	Verification   struct {
		Proof *wireProof `json:"inclusionProof,omitempty"`
		SET   []byte     `json:"signedEntryTimestamp"`
	} `json:"verification"`
}

type wireProof struct {
	Checkpoint string   `json:"checkpoint"`
	Hashes     []string `json:"hashes"`
	LogIndex   int64    `json:"logIndex"`
	RootHash   string   `json:"rootHash"`
	TreeSize   int64    `json:"treeSize"`
}

// ParseLogEntry reads one entry in the form of Rekor's API. It checks the shape
// and not what the entry proves; members that it does not know are ignored.
func ParseLogEntry(data []byte) (*LogEntry, error) {
	e, err := parseLogEntry(data)
	if err != nil {
		return nil, fmt.Errorf("parse log entry: %w", err)
	}
	return e, nil
}

func parseLogEntry(data []byte) (*LogEntry, error) {
	if len(data) > maxLogEntry {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(data), maxLogEntry)
	}
	var wire map[string]wireEntry
	if err := decodeOne(data, &wire); err != nil {
		return nil, err
	}
	if len(wire) != 1 {
		return nil, fmt.Errorf("got %d entries, want one", len(wire))
	}
	for uuid, w := range wire {
		if !isHex(uuid, 64) && !isHex(uuid, 80) {
			return nil, fmt.Errorf("UUID: got %.100q, want 64 or 80 hex digits", uuid)
		}
		return w.entry(uuid)
	}
	panic("unreachable")
}

func (w wireEntry) entry(uuid string) (*LogEntry, error) {
	if w.IntegratedTime <= 0 || w.LogIndex < 0 {
		return nil, fmt.Errorf("integratedTime %d, logIndex %d: want both above or at 0", w.IntegratedTime, w.LogIndex)
	}
	if !isHex(w.LogID, 64) {
		return nil, fmt.Errorf("logID: got %.100q, want 64 hex digits", w.LogID)
	}
	if len(w.Verification.SET) == 0 {
		return nil, errors.New("no signed entry timestamp: nothing proves the time")
	}
	body, err := base64.StdEncoding.DecodeString(w.Body)
	if err != nil || len(body) == 0 {
		return nil, fmt.Errorf("body: want base64: %w", err)
	}
	id, _ := hex.DecodeString(w.LogID)
	e := &LogEntry{UUID: uuid, Body: body, IntegratedTime: w.IntegratedTime, LogID: id, LogIndex: w.LogIndex, SET: w.Verification.SET}
	if w.Verification.Proof != nil {
		if e.Proof, err = w.Verification.Proof.proof(); err != nil {
			return nil, fmt.Errorf("inclusion proof: %w", err)
		}
	}
	return e, nil
}

func (w wireProof) proof() (*InclusionProof, error) {
	if w.LogIndex < 0 || w.TreeSize <= w.LogIndex {
		return nil, fmt.Errorf("logIndex %d of a tree of %d", w.LogIndex, w.TreeSize)
	}
	if len(w.Hashes) > 64 {
		return nil, fmt.Errorf("got %d hashes, want at most 64", len(w.Hashes))
	}
	if w.Checkpoint == "" {
		return nil, errors.New("no checkpoint")
	}
	p := &InclusionProof{LogIndex: w.LogIndex, TreeSize: w.TreeSize, Checkpoint: w.Checkpoint}
	for i, h := range append([]string{w.RootHash}, w.Hashes...) {
		if !isHex(h, 64) {
			return nil, fmt.Errorf("hash %d: got %.100q, want 64 hex digits", i, h)
		}
		b, _ := hex.DecodeString(h)
		if i == 0 {
			p.RootHash = b
		} else {
			p.Hashes = append(p.Hashes, b)
		}
	}
	return p, nil
}

// MarshalJSON writes the entry in the form of Rekor's API, always the same bytes.
func (e *LogEntry) MarshalJSON() ([]byte, error) {
	w := wireEntry{
		Body:           base64.StdEncoding.EncodeToString(e.Body),
		IntegratedTime: e.IntegratedTime,
		LogID:          hex.EncodeToString(e.LogID),
		LogIndex:       e.LogIndex,
	}
	w.Verification.SET = e.SET
	if p := e.Proof; p != nil {
		wp := &wireProof{Checkpoint: p.Checkpoint, LogIndex: p.LogIndex, RootHash: hex.EncodeToString(p.RootHash), TreeSize: p.TreeSize, Hashes: []string{}}
		for _, h := range p.Hashes {
			wp.Hashes = append(wp.Hashes, hex.EncodeToString(h))
		}
		w.Verification.Proof = wp
	}
	return json.Marshal(map[string]wireEntry{e.UUID: w})
}

// HashedRekord reads the entry's body, which must be of that kind and name a sha256.
func (e *LogEntry) HashedRekord() (*HashedRekord, error) {
	var b struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			Data struct {
				Hash struct{ Algorithm, Value string } `json:"hash"`
			} `json:"data"`
			Signature struct {
				Content   []byte                   `json:"content"`
				PublicKey struct{ Content []byte } `json:"publicKey"`
			} `json:"signature"`
		} `json:"spec"`
	}
	if err := decodeOne(e.Body, &b); err != nil {
		return nil, fmt.Errorf("body of log entry %s: %w", e.UUID, err)
	}
	if b.Kind != "hashedrekord" || b.APIVersion != "0.0.1" {
		return nil, fmt.Errorf("body of log entry %s: got kind %.40q %.20q, want hashedrekord 0.0.1", e.UUID, b.Kind, b.APIVersion)
	}
	h := b.Spec.Data.Hash
	if h.Algorithm != "sha256" || !isHex(h.Value, 64) {
		return nil, fmt.Errorf("body of log entry %s: hash: got %.20q %.100q, want a sha256", e.UUID, h.Algorithm, h.Value)
	}
	return &HashedRekord{SHA256: h.Value, Signature: b.Spec.Signature.Content, PublicKey: b.Spec.Signature.PublicKey.Content}, nil
}

// decodeOne decodes data as exactly one JSON value.
func decodeOne(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
