package imgtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/digitorus/timestamp"
)

// SigstoreServices are the services of a [Sigstore] on loopback, on one port:
// an OIDC issuer that also hands out tokens as GitHub Actions does, Fulcio, Rekor
// v1 and v2, and a timestamp authority. Requests are logged and can be scripted.
type SigstoreServices struct {
	*Sigstore
	URL string

	issuer *Issuer

	mu      sync.Mutex
	asked   []string // "POST /fulcio/api/v2/signingCert"
	scripts []*script
}

// script is an answer that comes instead of the service's.
type script struct {
	path   string
	times  int
	answer http.HandlerFunc
}

// Serve starts the services, for as long as the test lasts.
func (s *Sigstore) Serve(t testing.TB) *SigstoreServices {
	t.Helper()
	v := &SigstoreServices{Sigstore: s}
	mux := http.NewServeMux()
	mux.HandleFunc("/oidc/", func(w http.ResponseWriter, r *http.Request) { v.issuer.ServeHTTP(w, r) })
	mux.HandleFunc("POST /fulcio/api/v2/signingCert", v.signingCert)
	mux.Handle("/rekor/", http.StripPrefix("/rekor", s.Rekor()))
	mux.HandleFunc("POST /rekor2/api/v2/log/entries", s.log2.create2)
	mux.HandleFunc("POST /tsa/api/v1/timestamp", v.timestamp)
	server := httptest.NewServer(v.scripted(mux))
	t.Cleanup(server.Close)
	v.URL = server.URL
	var err error
	if v.issuer, err = NewIssuer(v.Issuer(), s.now); err != nil {
		t.Fatal(err)
	}
	return v
}

// Issuer is the address of the OIDC issuer, which is also its name.
func (v *SigstoreServices) Issuer() string { return v.URL + "/oidc" }

// TokenURL is what GitHub gives a job in ACTIONS_ID_TOKEN_REQUEST_URL.
func (v *SigstoreServices) TokenURL() string { return v.issuer.TokenURL() }

// Fulcio is the address of the certificate authority.
func (v *SigstoreServices) Fulcio() string { return v.URL + "/fulcio" }

// RekorV1 is the address of the log with the older API.
func (v *SigstoreServices) RekorV1() string { return v.URL + "/rekor" }

// RekorV2 is the address of the log with the newer API.
func (v *SigstoreServices) RekorV2() string { return v.URL + "/rekor2" }

// TSA is the address of the timestamp authority, with its path.
func (v *SigstoreServices) TSA() string { return v.URL + "/tsa/api/v1/timestamp" }

// SigningConfig is the signing_config.json of these services, with Rekor v2.
func (v *SigstoreServices) SigningConfig() []byte {
	service := func(url string, version int) []any {
		return []any{map[string]any{"url": url, "majorApiVersion": version, "operator": "imgtest", "validFor": map[string]string{"start": "2020-01-01T00:00:00Z"}}}
	}
	one := map[string]string{"selector": "ANY"}
	doc, err := json.Marshal(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"caUrls":    service(v.Fulcio(), 1), "oidcUrls": service(v.Issuer(), 1),
		"rekorTlogUrls": service(v.RekorV2(), 2), "rekorTlogConfig": one,
		"tsaUrls": service(v.TSA(), 1), "tsaConfig": one,
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return doc
}

// Script lets answer stand in for the next so many requests whose path contains path.
func (v *SigstoreServices) Script(path string, times int, answer http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.scripts = append(v.scripts, &script{path, times, answer})
}

// Asked counts the requests whose method and path contain part.
func (v *SigstoreServices) Asked(part string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, line := range v.asked {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// scripted logs requests and answers them by script or by next.
func (v *SigstoreServices) scripted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := next.ServeHTTP
		v.mu.Lock()
		v.asked = append(v.asked, r.Method+" "+r.URL.Path)
		for _, s := range v.scripts {
			if s.times > 0 && strings.Contains(r.URL.Path, s.path) {
				s.times--
				answer = s.answer
				break
			}
		}
		v.mu.Unlock()
		answer(w, r)
	})
}

// Token is that of the issuer: see [Issuer.Token].
func (v *SigstoreServices) Token(email string, more map[string]any) string {
	return v.issuer.Token(email, more)
}

// signingCert is Fulcio's: a certificate for whom a token of our issuer names.
func (v *SigstoreServices) signingCert(w http.ResponseWriter, r *http.Request) {
	name, subject, err := v.identify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		problem(w, http.StatusUnauthorized, fmt.Errorf("error processing the identity token: %w", err))
		return
	}
	key, err := provenKey(r, subject)
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	cert, err := v.certificate(key, Signing{Email: name, Issuer: v.Issuer()})
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	var chain []string
	for _, der := range [][]byte{cert, v.intermediate.Raw, v.rootCert.Raw} {
		chain = append(chain, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}})
}

// identify verifies a token and returns whom the certificate is for, and what
// the key must have signed.
func (v *SigstoreServices) identify(token string) (name, subject string, err error) {
	c, err := v.issuer.claims(token)
	switch {
	case err != nil:
		return "", "", err
	case c.Iss != v.Issuer() || c.Aud != "sigstore" || v.now().Unix() > c.Exp:
		return "", "", errors.New("issuer, audience or expiry")
	case c.JobWorkflowRef != "":
		return "https://github.com/" + c.JobWorkflowRef, c.Sub, nil
	}
	return c.Email, c.Email, nil
}

// provenKey reads the key of a request, whose holder has signed the subject.
func provenKey(r *http.Request, subject string) (*ecdsa.PublicKey, error) {
	var q struct {
		PublicKeyRequest struct {
			PublicKey         struct{ Algorithm, Content string }
			ProofOfPossession []byte
		}
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&q); err != nil {
		return nil, err
	}
	text := q.PublicKeyRequest.PublicKey.Content
	digest := sha256.Sum256([]byte(subject))
	if err := verifyPEM([]byte(text), digest[:], q.PublicKeyRequest.ProofOfPossession); err != nil {
		return nil, fmt.Errorf("proof of possession: %w", err)
	}
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(*ecdsa.PublicKey), nil
}

// timestamp is the timestamp authority's (RFC 3161).
func (v *SigstoreServices) timestamp(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	q, err := timestamp.ParseRequest(body)
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	t := timestamp.Timestamp{
		HashAlgorithm: q.HashAlgorithm, HashedMessage: q.HashedMessage, Nonce: q.Nonce, Time: v.now().UTC(),
		Policy: asn1.ObjectIdentifier{1, 2, 3, 4}, AddTSACertificate: true,
	}
	answer, err := t.CreateResponseWithOpts(v.tsaCert, v.tsaKey, crypto.SHA256)
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.WriteHeader(http.StatusCreated)
	io.Copy(w, bytes.NewReader(answer))
}

// timestampCertificate makes the authority's certificate, whose only use is,
// critically, timestamping (RFC 3161, 2.3).
func (s *Sigstore) timestampCertificate(root *ecdsa.PrivateKey) (*x509.Certificate, error) {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(7),
		Subject:         pkix.Name{CommonName: "imgtest timestamps", Organization: []string{"imgtest"}},
		NotBefore:       s.start,
		NotAfter:        s.start.AddDate(10, 0, 0),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.rootCert, s.tsaKey.Public(), root)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
