package imgtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imgctl/imgctl/pkg/upstream"
)

const (
	rekorHost  = "rekor.imgtest"
	rekor2Host = "rekor2.imgtest"
	// rekorTree is the number of the one tree, and rekorShard how many entries
	// other shards have: on a real log an entry's index in its tree is another
	// number than its index in the log.
	rekorTree  = 1193050959916656506
	rekorShard = 4163431
)

// rekorLog is a transparency log: a Merkle tree (RFC 6962) over entries.
type rekorLog struct {
	key          *ecdsa.PrivateKey
	id           []byte
	now          func() time.Time
	host, origin string // in checkpoints: who signs, and for which tree

	mu      sync.Mutex
	entries []rekorEntry
}

type rekorEntry struct {
	body   []byte
	leaf   [sha256.Size]byte
	digest string // hex, of the file or of the statement's envelope
	time   int64
}

func newRekorLog(key *ecdsa.PrivateKey, now func() time.Time, host, origin string) (*rekorLog, error) {
	id, err := keyID(&key.PublicKey)
	return &rekorLog{key: key, id: id, now: now, host: host, origin: origin}, err
}

// add logs a signature and returns its entry as the API would.
func (l *rekorLog) add(digest [sha256.Size]byte, sig, certificate []byte, at time.Time) (json.RawMessage, error) {
	// json.Marshal sorts the keys of maps and so writes canonical JSON here.
	body, err := json.Marshal(map[string]any{
		"apiVersion": "0.0.1",
		"kind":       "hashedrekord",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
			"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": certificate}},
		},
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entry(l.put(body, hex.EncodeToString(digest[:]), at))
}

// put adds an entry and returns its index. The caller holds the lock.
func (l *rekorLog) put(body []byte, digest string, at time.Time) int {
	l.entries = append(l.entries, rekorEntry{body, leafHash(body), digest, at.Unix()})
	return len(l.entries) - 1
}

// find returns the index of the entry with the body, -1 where there is none. The
// caller holds the lock.
func (l *rekorLog) find(body []byte) int {
	leaf := leafHash(body)
	return slices.IndexFunc(l.entries, func(e rekorEntry) bool { return e.leaf == leaf })
}

// entry returns the nth entry with its proofs against the tree of now. The
// caller holds the lock.
func (l *rekorLog) entry(n int) (json.RawMessage, error) {
	e := l.entries[n]
	leaves := make([][sha256.Size]byte, len(l.entries))
	for i, e := range l.entries {
		leaves[i] = e.leaf
	}
	root := treeHash(leaves)
	set, err := l.promise(e, n)
	if err != nil {
		return nil, err
	}
	checkpoint, err := l.checkpoint(len(leaves), root)
	if err != nil {
		return nil, err
	}
	return json.Marshal(&upstream.LogEntry{
		UUID:           uuid(e),
		Body:           e.body,
		IntegratedTime: e.time,
		LogID:          l.id,
		LogIndex:       rekorShard + int64(n),
		SET:            set,
		Proof: &upstream.InclusionProof{
			LogIndex:   int64(n),
			TreeSize:   int64(len(leaves)),
			RootHash:   root[:],
			Hashes:     auditPath(n, leaves),
			Checkpoint: checkpoint,
		},
	})
}

func uuid(e rekorEntry) string { return fmt.Sprintf("%016x%x", uint64(rekorTree), e.leaf) }

// promise signs that the entry was received at its time.
func (l *rekorLog) promise(e rekorEntry, n int) ([]byte, error) {
	payload, err := json.Marshal(map[string]any{
		"body":           base64.StdEncoding.EncodeToString(e.body),
		"integratedTime": e.time,
		"logID":          hex.EncodeToString(l.id),
		"logIndex":       rekorShard + int64(n),
	})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(payload)
	return ecdsa.SignASN1(rand.Reader, l.key, digest[:])
}

// checkpoint signs the head of the tree as a note (C2SP's signed-note, with the
// key hint and signature of Rekor v1).
func (l *rekorLog) checkpoint(size int, root [sha256.Size]byte) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", l.origin, size, base64.StdEncoding.EncodeToString(root[:]))
	digest := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, l.key, digest[:])
	if err != nil {
		return "", err
	}
	hint := binary.BigEndian.Uint32(l.id)
	line := base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, hint), sig...))
	return text + "\n\u2014 " + l.host + " " + line + "\n", nil
}

func leafHash(body []byte) [sha256.Size]byte { return sha256.Sum256(append([]byte{0}, body...)) }

func nodeHash(l, r [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// treeHash is MTH of RFC 6962, 2.1, for at least one leaf.
func treeHash(leaves [][sha256.Size]byte) [sha256.Size]byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	return nodeHash(treeHash(leaves[:k]), treeHash(leaves[k:]))
}

// auditPath is PATH of RFC 6962, 2.1.1.
func auditPath(n int, leaves [][sha256.Size]byte) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if n < k {
		h := treeHash(leaves[k:])
		return append(auditPath(n, leaves[:k]), h[:])
	}
	h := treeHash(leaves[:k])
	return append(auditPath(n-k, leaves[k:]), h[:])
}

// split returns the largest power of two below n.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Rekor returns the log's API: search by hash, entries by UUID, new entries.
func (s *Sigstore) Rekor() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/log/entries", s.log.create)
	mux.HandleFunc("POST /api/v1/index/retrieve", s.log.search)
	mux.HandleFunc("GET /api/v1/log/entries/{uuid}", s.log.get)
	return mux
}

func (l *rekorLog) search(w http.ResponseWriter, r *http.Request) {
	var query struct{ Hash string }
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&query); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found := []string{}
	l.mu.Lock()
	for _, e := range l.entries {
		if strings.TrimPrefix(query.Hash, "sha256:") == e.digest {
			found = append(found, uuid(e))
		}
	}
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(found)
}

func (l *rekorLog) get(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, e := range l.entries {
		if id := uuid(e); r.PathValue("uuid") != id && r.PathValue("uuid") != id[16:] {
			continue
		}
		data, err := l.entry(n)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(data)
		return
	}
	http.Error(w, `{"code":404,"message":"entry not found"}`, http.StatusNotFound)
}
