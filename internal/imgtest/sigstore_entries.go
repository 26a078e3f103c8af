package imgtest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const maxProposal = 32 << 20

// create takes a new entry as Rekor v1 does: of the kinds hashedrekord and dsse,
// only with a signature that verifies, and each once.
func (l *rekorLog) create(w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(io.LimitReader(r.Body, maxProposal))
	if err != nil {
		return // the client is gone
	}
	body, digest, err := canonicalV1(doc)
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.find(body); n >= 0 {
		w.Header().Set("Location", "/api/v1/log/entries/"+uuid(l.entries[n]))
		problem(w, http.StatusConflict, errors.New("an equivalent entry already exists in the transparency log with UUID "+uuid(l.entries[n])))
		return
	}
	n := l.put(body, digest, l.now())
	answer, err := l.entry(n)
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("ETag", uuid(l.entries[n]))
	w.Header().Set("Location", "/api/v1/log/entries/"+uuid(l.entries[n]))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	w.Write(answer)
}

// problem answers as the services do.
func problem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"code": status, "message": err.Error()})
}

// canonicalV1 turns a proposal into the body of its entry.
func canonicalV1(doc []byte) (body []byte, digest string, err error) {
	var p struct {
		Kind, APIVersion string
		Spec             struct {
			Data struct {
				Hash struct{ Algorithm, Value string }
			}
			Signature struct {
				Content   []byte
				PublicKey struct{ Content []byte }
			}
			ProposedContent struct {
				Envelope  string
				Verifiers [][]byte
			}
		}
	}
	if err := json.Unmarshal(doc, &p); err != nil {
		return nil, "", err
	}
	switch p.Kind + " " + p.APIVersion {
	case "hashedrekord 0.0.1":
		sum, err := hex.DecodeString(p.Spec.Data.Hash.Value)
		if err != nil {
			return nil, "", err
		}
		if err := verifyPEM(p.Spec.Signature.PublicKey.Content, sum, p.Spec.Signature.Content); err != nil {
			return nil, "", err
		}
		body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
			"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": p.Spec.Data.Hash.Value}},
			"signature": map[string]any{"content": p.Spec.Signature.Content, "publicKey": map[string]any{"content": p.Spec.Signature.PublicKey.Content}},
		}})
		return body, p.Spec.Data.Hash.Value, err
	case "dsse 0.0.1":
		if len(p.Spec.ProposedContent.Verifiers) != 1 {
			return nil, "", errors.New("want one verifier")
		}
		return canonicalDSSE(p.Spec.ProposedContent.Envelope, p.Spec.ProposedContent.Verifiers[0])
	}
	return nil, "", fmt.Errorf("unsupported kind %q, version %q", p.Kind, p.APIVersion)
}

func canonicalDSSE(text string, key []byte) (body []byte, digest string, err error) {
	var e struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct{ Sig []byte }
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return nil, "", err
	}
	if len(e.Signatures) != 1 {
		return nil, "", errors.New("want one signature")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload))
	if err := verifyPEM(key, sum[:], e.Signatures[0].Sig); err != nil {
		return nil, "", err
	}
	hash := func(b []byte) map[string]string {
		sum := sha256.Sum256(b)
		return map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
	}
	body, err = json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{
		"envelopeHash": hash([]byte(text)), "payloadHash": hash(e.Payload),
		"signatures": []any{map[string]any{"signature": base64.StdEncoding.EncodeToString(e.Signatures[0].Sig), "verifier": key}},
	}})
	return body, hash([]byte(text))["value"], err
}

// verifyPEM checks a signature with a certificate's key, or a naked one.
func verifyPEM(text, digest, signature []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("public key: not PEM")
	}
	return verifyDER(block.Type == "CERTIFICATE", block.Bytes, digest, signature)
}

func verifyDER(certificate bool, der, digest, signature []byte) error {
	var key any
	if certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		key = cert.PublicKey
	} else {
		var err error
		if key, err = x509.ParsePKIXPublicKey(der); err != nil {
			return err
		}
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, digest, signature) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// create2 takes a new entry as Rekor v2 does: of the kind hashedrekord only, and
// an entry that is there is not given back.
func (l *rekorLog) create2(w http.ResponseWriter, r *http.Request) {
	var p struct {
		HashedRekordRequestV002 struct {
			Digest    []byte
			Signature struct {
				Content  []byte
				Verifier struct {
					KeyDetails      string
					X509Certificate *struct{ RawBytes []byte }
					PublicKey       *struct{ RawBytes []byte }
				}
			}
		}
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxProposal)).Decode(&p); err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	e := p.HashedRekordRequestV002
	v := e.Signature.Verifier
	verifier := map[string]any{"keyDetails": v.KeyDetails}
	var err error
	switch {
	case v.X509Certificate != nil:
		verifier["x509Certificate"] = map[string]any{"rawBytes": v.X509Certificate.RawBytes}
		err = verifyDER(true, v.X509Certificate.RawBytes, e.Digest, e.Signature.Content)
	case v.PublicKey != nil:
		verifier["publicKey"] = map[string]any{"rawBytes": v.PublicKey.RawBytes}
		err = verifyDER(false, v.PublicKey.RawBytes, e.Digest, e.Signature.Content)
	default:
		err = errors.New("invalid type, must be hashedrekord")
	}
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": map[string]any{"hashedRekordV002": map[string]any{
		"data":      map[string]any{"algorithm": "SHA2_256", "digest": e.Digest},
		"signature": map[string]any{"content": e.Signature.Content, "verifier": verifier},
	}}})
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	l.answer2(w, body, hex.EncodeToString(e.Digest))
}

// answer2 adds the entry and answers with it and its proof; it has no promise and
// no time.
func (l *rekorLog) answer2(w http.ResponseWriter, body []byte, digest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.find(body); n >= 0 {
		problem(w, http.StatusConflict, fmt.Errorf("an equivalent entry already exists in the transparency log with index %d", n))
		return
	}
	n := l.put(body, digest, l.now())
	leaves := make([][sha256.Size]byte, len(l.entries))
	for i, e := range l.entries {
		leaves[i] = e.leaf
	}
	root := treeHash(leaves)
	checkpoint, err := l.checkpoint(len(leaves), root)
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{
		"logIndex": n, "logId": map[string]any{"keyId": l.id}, "canonicalizedBody": body,
		"kindVersion": map[string]string{"kind": "hashedrekord", "version": "0.0.2"},
		"inclusionProof": map[string]any{
			"logIndex": n, "treeSize": len(leaves), "rootHash": root[:], "hashes": auditPath(n, leaves), "checkpoint": map[string]string{"envelope": checkpoint},
		},
	})
}
