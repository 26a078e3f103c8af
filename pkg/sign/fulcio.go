package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/sign"
)

// credential is a key that lives as long as this process, with a certificate
// that says whose it is.
type credential struct {
	pair  keypair
	cert  *x509.Certificate
	owner Identity
	until time.Time // on our clock, some time before the certificate ends
}

// GetCertificate implements CertificateProvider of sigstore-go.
func (c *credential) GetCertificate(context.Context, sign.Keypair, *sign.CertificateProviderOptions) ([]byte, error) {
	return c.cert.Raw, nil
}

// spare is how long before its end a certificate is replaced: signing, the log
// and the timestamp must all happen while it is valid.
const spare = 2 * time.Minute

// newCredential makes a key and asks Fulcio to certify it for whom the token is.
func newCredential(ctx context.Context, s *Services, token Secret) (*credential, error) {
	subject, err := tokenSubject(token, s.now())
	if err != nil {
		return nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &credential{pair: keypair{&private.PublicKey, func(_ context.Context, digest []byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, private, digest)
	}}}
	asked := s.now()
	if c.cert, err = certify(ctx, s, token, subject, c.pair); err != nil {
		return nil, err
	}
	if !private.PublicKey.Equal(c.cert.PublicKey) {
		return nil, errors.New("ask Fulcio for a certificate: the answer is about another key")
	}
	names, err := certificate.SummarizeCertificate(c.cert)
	if err != nil {
		return nil, fmt.Errorf("certificate: %s", printable(err.Error()))
	}
	c.owner = Identity{Subject: names.SubjectAlternativeName, Issuer: names.Issuer}
	c.until = asked.Add(c.cert.NotAfter.Sub(c.cert.NotBefore) - spare)
	return c, nil
}

// certify asks for a certificate. The signature over the token's subject proves
// that we hold the key.
func certify(ctx context.Context, s *Services, token Secret, subject string, pair keypair) (*x509.Certificate, error) {
	proof, _, err := pair.SignData(ctx, []byte(subject))
	if err != nil {
		return nil, err
	}
	text, err := pair.GetPublicKeyPem()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]string{"algorithm": pair.GetKeyAlgorithm(), "content": text},
		"proofOfPossession": base64.StdEncoding.EncodeToString(proof),
	}})
	if err != nil {
		return nil, err
	}
	q := request{what: "ask Fulcio for a certificate", method: http.MethodPost, url: join(s.Fulcio, "/api/v2/signingCert"), bearer: token, typ: "application/json", body: body}
	a, err := s.call(ctx, q)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		return nil, q.refused(a)
	}
	return parseCertificate(a.body)
}

// parseCertificate returns the first certificate of Fulcio's answer. The others
// lead to its root, which is for the trust root to say.
func parseCertificate(doc []byte) (*x509.Certificate, error) {
	type chain struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var a struct {
		Embedded chain `json:"signedCertificateEmbeddedSct"`
		Detached chain `json:"signedCertificateDetachedSct"`
	}
	if err := json.Unmarshal(doc, &a); err != nil {
		return nil, fmt.Errorf("certificate: %s", printable(err.Error()))
	}
	list := append(a.Embedded.Chain.Certificates, a.Detached.Chain.Certificates...)
	if len(list) == 0 {
		return nil, errors.New("certificate: got none")
	}
	block, _ := pem.Decode([]byte(list[0]))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("certificate: not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate: %s", printable(err.Error()))
	}
	return cert, nil
}
