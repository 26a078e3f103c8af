package imgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"time"

	"github.com/imgctl/imgctl/pkg/upstream"
)

// Sigstore is a whole Sigstore in memory: a certificate authority as Fulcio is
// one, a certificate log, transparency logs as Rekor v1 and v2, and a timestamp
// authority; [Sigstore.Serve] lets signers talk to them. All of its signatures,
// certificates and proofs are real; only nobody trusts it but who loads
// [Sigstore.TrustedRoot]. Its methods may be called concurrently.
type Sigstore struct {
	now          func() time.Time
	start        time.Time
	rootCert     *x509.Certificate
	intermediate *x509.Certificate
	rootKey      *ecdsa.PrivateKey
	caKey        *ecdsa.PrivateKey // of the intermediate
	ctKey        *ecdsa.PrivateKey
	log, log2    *rekorLog
	tsaCert      *x509.Certificate
	tsaKey       *ecdsa.PrivateKey
}

// certificateLife is how long a signing certificate is valid, as with Fulcio.
const certificateLife = 10 * time.Minute

// NewSigstore makes new keys. Certificates and log entries carry the time that
// now says; nil means [time.Now].
func NewSigstore(now func() time.Time) (*Sigstore, error) {
	if now == nil {
		now = time.Now
	}
	s := &Sigstore{now: now, start: now().Add(-time.Hour).UTC().Truncate(time.Second)}
	keys := make([]*ecdsa.PrivateKey, 6)
	for i := range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		keys[i] = k
	}
	var err error
	s.rootKey, s.caKey, s.ctKey = keys[0], keys[1], keys[2]
	if s.rootCert, err = s.authority("imgtest root", nil, s.rootKey, nil); err != nil {
		return nil, err
	}
	if err := s.Reissue(nil); err != nil {
		return nil, err
	}
	if s.log, err = newRekorLog(keys[3], now, rekorHost, fmt.Sprintf("%s - %d", rekorHost, int64(rekorTree))); err != nil {
		return nil, err
	}
	if s.log2, err = newRekorLog(keys[4], now, rekor2Host, rekor2Host); err != nil {
		return nil, err
	}
	s.tsaKey = keys[5]
	s.tsaCert, err = s.timestampCertificate(s.rootKey)
	return s, err
}

// Reissue replaces the certificate of the intermediate authority by one for the
// same key that is changed in some way. What it has issued stays as it is; only
// [Sigstore.TrustedRoot] shows another way to it. Not to be called concurrently.
func (s *Sigstore) Reissue(change func(*x509.Certificate)) (err error) {
	s.intermediate, err = s.authority("imgtest intermediate", s.rootCert, s.caKey, change)
	return err
}

// authority makes a certificate for key that may sign others; parent nil means
// that it signs itself. The certificate may be changed before it is signed.
func (s *Sigstore) authority(name string, parent *x509.Certificate, key *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(int64(len(name))),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"imgtest"}},
		NotBefore:             s.start,
		NotAfter:              s.start.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if parent == nil {
		parent = template
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), s.rootKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Signing is how a file is signed. The zero value is how Kubernetes does it.
type Signing struct {
	Email    string        // subject alternative name, also a URI; "" means [upstream.Identity]
	Also     []string      // further names in the same certificate
	Issuer   string        // "" means [upstream.Issuer]
	Late     time.Duration // how long after the certificate was issued the log receives the signature
	NoSCT    bool          // the certificate was shown to no certificate log
	Unlogged bool          // the log never receives the signature
}

// Signed is a signature in the forms in which dl.k8s.io publishes one.
type Signed struct {
	Sig  []byte // content of the .sig file: base64
	Cert []byte // content of the .cert file: base64 of PEM
	// Entry is the log entry in the form of Rekor's API; nil when unlogged.
	Entry json.RawMessage
}

// Evidence returns the parts as a lock keeps them.
func (s *Signed) Evidence() (*upstream.Evidence, error) {
	sig, err := base64.StdEncoding.DecodeString(string(s.Sig))
	if err != nil {
		return nil, err
	}
	cert, err := base64.StdEncoding.DecodeString(string(s.Cert))
	if err != nil {
		return nil, err
	}
	return &upstream.Evidence{Signature: sig, Certificate: cert, LogEntry: s.Entry}, nil
}

// Sign signs the file that r holds with a new key and certificate, and logs it.
func (s *Sigstore) Sign(r io.Reader, how Signing) (*Signed, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	return s.SignDigest([sha256.Size]byte(h.Sum(nil)), how)
}

// SignDigest is [Sigstore.Sign] of the file with the given sha256.
func (s *Sigstore) SignDigest(digest [sha256.Size]byte, how Signing) (*Signed, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := s.certificate(&key.PublicKey, how)
	if err != nil {
		return nil, err
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	out := &Signed{Sig: encode64(sig), Cert: encode64(text)}
	if !how.Unlogged {
		out.Entry, err = s.log.add(digest, sig, text, s.now().Add(how.Late))
	}
	return out, err
}

func encode64(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

// certificate issues a signing certificate as Fulcio does (fulcio's
// docs/certificate-specification.md): no subject, the name as an alternative
// one, the issuer in an extension, and the certificate log's promise in another.
func (s *Sigstore) certificate(key *ecdsa.PublicKey, how Signing) ([]byte, error) {
	email, issuer := how.Email, how.Issuer
	if email == "" {
		email = upstream.Identity
	}
	if issuer == "" {
		issuer = upstream.Issuer
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	issuerV2, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		return nil, err
	}
	now := s.now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:   serial,
		NotBefore:      now,
		NotAfter:       now.Add(certificateLife),
		KeyUsage:       x509.KeyUsageDigitalSignature,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		EmailAddresses: append([]string{email}, how.Also...),
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: issuerV2},
		},
	}
	if u, err := url.Parse(email); err == nil && u.Scheme != "" {
		template.EmailAddresses, template.URIs = how.Also, []*url.URL{u}
	}
	pre, err := x509.CreateCertificate(rand.Reader, template, s.intermediate, key, s.caKey)
	if err != nil || how.NoSCT {
		return pre, err
	}
	scts, err := s.scts(pre, now)
	if err != nil {
		return nil, err
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: scts})
	return x509.CreateCertificate(rand.Reader, template, s.intermediate, key, s.caKey)
}

// scts makes the extension with the certificate log's promise for a certificate
// that lacks it (RFC 6962, 3.2 and 3.3).
func (s *Sigstore) scts(pre []byte, now time.Time) ([]byte, error) {
	cert, err := x509.ParseCertificate(pre)
	if err != nil {
		return nil, err
	}
	ms := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
	issuerKey := sha256.Sum256(s.intermediate.RawSubjectPublicKeyInfo)
	tbs := cert.RawTBSCertificate

	signed := []byte{0, 0} // version 1, certificate_timestamp
	signed = append(signed, ms...)
	signed = append(signed, 0, 1) // precert_entry
	signed = append(signed, issuerKey[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(signed, tbs...)
	signed = append(signed, 0, 0) // no extensions
	digest := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, s.ctKey, digest[:])
	if err != nil {
		return nil, err
	}
	id, err := keyID(&s.ctKey.PublicKey)
	if err != nil {
		return nil, err
	}
	sct := append([]byte{0}, id...)
	sct = append(sct, ms...)
	sct = append(sct, 0, 0, 4, 3) // no extensions; sha256 with ECDSA
	sct = binary.BigEndian.AppendUint16(sct, uint16(len(sig)))
	sct = append(sct, sig...)
	list := binary.BigEndian.AppendUint16(nil, uint16(len(sct)+2))
	list = binary.BigEndian.AppendUint16(list, uint16(len(sct)))
	return asn1.Marshal(append(list, sct...))
}

// keyID is how logs are named: the sha256 of their public key.
func keyID(key *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	id := sha256.Sum256(der)
	return id[:], nil
}

// TrustedRoot returns the trusted_root.json of this Sigstore.
func (s *Sigstore) TrustedRoot() ([]byte, error) {
	type raw struct {
		RawBytes []byte `json:"rawBytes"`
	}
	valid := map[string]string{"start": s.start.Format(time.RFC3339)}
	logInstance := func(url string, key *ecdsa.PublicKey) (map[string]any, error) {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(der)
		return map[string]any{
			"baseUrl":       url,
			"hashAlgorithm": "SHA2_256",
			"publicKey":     map[string]any{"rawBytes": der, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid},
			"logId":         map[string]any{"keyId": id[:]},
		}, nil
	}
	tlog, err := logInstance("https://"+rekorHost, &s.log.key.PublicKey)
	if err != nil {
		return nil, err
	}
	tlog2, err := logInstance("https://"+rekor2Host, &s.log2.key.PublicKey)
	if err != nil {
		return nil, err
	}
	ctlog, err := logInstance("https://ct.imgtest", &s.ctKey.PublicKey)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"tlogs":     []any{tlog, tlog2},
		"ctlogs":    []any{ctlog},
		"certificateAuthorities": []any{map[string]any{
			"subject":   map[string]string{"organization": "imgtest", "commonName": "imgtest root"},
			"uri":       "https://fulcio.imgtest",
			"certChain": map[string]any{"certificates": []raw{{s.intermediate.Raw}, {s.rootCert.Raw}}},
			"validFor":  valid,
		}},
		"timestampAuthorities": []any{map[string]any{
			"subject":   map[string]string{"organization": "imgtest", "commonName": "imgtest root"},
			"certChain": map[string]any{"certificates": []raw{{s.tsaCert.Raw}, {s.rootCert.Raw}}},
			"validFor":  valid,
		}},
	}, "", "  ")
}
