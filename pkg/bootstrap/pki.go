package bootstrap

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// algorithms make a key, by the names that kubeadm has for them.
var algorithms = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"RSA-2048":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"RSA-3072":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"RSA-4096":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer // nil when somebody else keeps it
}

// newAuthority makes a certificate authority of its own. It may vouch for
// certificates and for no other authority.
func newAuthority(commonName, cluster string, key crypto.Signer, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName, Organization: []string{cluster}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	return certify(template, template, key.Public(), key)
}

// issue makes the certificate that p describes for the public half of a key. It
// ends no later than the authority.
func (a authority) issue(p profile, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if a.key == nil {
		return nil, fmt.Errorf("key of %s is not here", a.cert.Subject.CommonName)
	}
	notAfter := now.Add(p.lifetime)
	if a.cert.NotAfter.Before(notAfter) {
		notAfter = a.cert.NotAfter
	}
	if !now.Before(notAfter) {
		return nil, fmt.Errorf("%s expired at %s", a.cert.Subject.CommonName, a.cert.NotAfter.Format(time.RFC3339))
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: p.commonName},
		NotBefore:             now.Add(-skew),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           p.usages,
		BasicConstraintsValid: true,
	}
	if p.organization != "" {
		template.Subject.Organization = []string{p.organization}
	}
	if _, isRSA := public.(*rsa.PublicKey); isRSA {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment // TLS 1.2 without forward secrecy, which old clients still ask for
	}
	template.DNSNames, template.IPAddresses = splitNames(p.names)
	return certify(template, a.cert, public, a.key)
}

func certify(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// fits reports why a certificate that is there is not the one that p describes, at now.
func (a authority) fits(p profile, cert *x509.Certificate, now time.Time) error {
	if err := cert.CheckSignatureFrom(a.cert); err != nil {
		return fmt.Errorf("not signed by this %s", a.cert.Subject.CommonName)
	}
	if !now.Before(cert.NotAfter) {
		return fmt.Errorf("expired at %s", cert.NotAfter.Format(time.RFC3339))
	}
	got := fmt.Sprintf("CN=%s O=%v", cert.Subject.CommonName, cert.Subject.Organization)
	var organizations []string
	if p.organization != "" {
		organizations = []string{p.organization}
	}
	if want := fmt.Sprintf("CN=%s O=%v", p.commonName, organizations); got != want {
		return fmt.Errorf("subject: got %s, want %s", got, want)
	}
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if want := unique(slices.Clone(p.names)); !slices.Equal(unique(names), want) {
		return fmt.Errorf("names: got %v, want %v", names, want)
	}
	if !slices.Equal(cert.ExtKeyUsage, p.usages) {
		return fmt.Errorf("usages: got %v, want %v", cert.ExtKeyUsage, p.usages)
	}
	return nil
}

// checkPair reports whether cert is about key.
func checkPair(cert *x509.Certificate, key crypto.Signer) error {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return errors.New("certificate is not about the key beside it")
	}
	return nil
}

// Types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
	pemPublicKey   = "PUBLIC KEY"
)

func encodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

func encodePublicKey(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: der}), nil
}

// parseCertificates reads one certificate or more, and nothing else.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("got a PEM block %q, want %s", block.Type, pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return certs, nil
}

// parseCertificate reads the one certificate in data.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("got %d certificates, want one", len(certs))
	}
	return certs[0], nil
}

// parseKey reads a private key in any of the forms that Kubernetes' tools write.
// The error repeats nothing of it.
func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no private key in PEM")
	}
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
		func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
	} {
		if key, err := parse(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, errors.New("private key is not understood")
}
