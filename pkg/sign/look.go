package sign

import (
	"crypto/x509"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/imgctl/imgctl/internal/cosign"
)

// Look is what a signature says of itself. Nothing of it was verified.
type Look struct {
	Signer    string // "key 3fb…", or for whom the certificate is: "release@example.com (https://…)"
	Keyless   bool
	Log       int  // version of the log that has it; 0: none
	Timestamp bool // a timestamp authority has seen it
}

// LookAt reads a sigstore bundle.
func LookAt(bundle []byte) (Look, error) {
	b, err := decodeBundle(bundle)
	if err != nil {
		return Look{}, errors.New(printable(err.Error()))
	}
	return lookAt(b)
}

// LookAtLegacy reads a layer under a legacy tag.
func LookAtLegacy(mediaType string, annotations map[string]string, body []byte) (Look, error) {
	b, err := cosign.Layer{MediaType: mediaType, Annotations: annotations, Body: body}.Bundle()
	if err != nil {
		return Look{}, errors.New(printable(err.Error()))
	}
	return lookAt(b)
}

func lookAt(b *protobundle.Bundle) (Look, error) {
	m := b.GetVerificationMaterial()
	l := Look{Signer: "a key", Timestamp: len(m.GetTimestampVerificationData().GetRfc3161Timestamps()) > 0}
	for _, e := range m.GetTlogEntries() {
		l.Log = 2
		if len(e.GetInclusionPromise().GetSignedEntryTimestamp()) > 0 {
			l.Log = 1
		}
	}
	if hint := m.GetPublicKey().GetHint(); hint != "" {
		l.Signer = "key " + printable(hint)
	}
	der := m.GetCertificate().GetRawBytes()
	if chain := m.GetX509CertificateChain().GetCertificates(); len(chain) > 0 {
		der = chain[0].GetRawBytes()
	}
	if len(der) == 0 {
		return l, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Look{}, fmt.Errorf("certificate: %s", printable(err.Error()))
	}
	names, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return Look{}, fmt.Errorf("certificate: %s", printable(err.Error()))
	}
	l.Keyless = true
	l.Signer = printable(Identity{names.SubjectAlternativeName, names.Issuer}.String())
	return l, nil
}
