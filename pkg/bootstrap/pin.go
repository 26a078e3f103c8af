package bootstrap

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Pin is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo).
// A certificate that is renewed with its key keeps it.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin reads "sha256:" and 64 hexadecimal digits, as kubeadm writes it.
func ParsePin(text string) (Pin, error) {
	var p Pin
	digits, ok := strings.CutPrefix(text, "sha256:")
	if !ok || len(digits) != hex.EncodedLen(len(p)) {
		return Pin{}, fmt.Errorf("got %.80q, want sha256: and %d hexadecimal digits", text, hex.EncodedLen(len(p)))
	}
	if _, err := hex.Decode(p[:], []byte(digits)); err != nil {
		return Pin{}, fmt.Errorf("got %q: %w", text, err)
	}
	return p, nil
}

// String is the form that [ParsePin] reads.
func (p Pin) String() string { return "sha256:" + hex.EncodeToString(p[:]) }

// MarshalText is [Pin.String], for JSON.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// checkPins requires a pin for every one of the certificates: one that nobody
// pinned, beside a pinned one, would be trusted just as much. The error is a
// [*Refusal] for [WrongCA].
func checkPins(certs []*x509.Certificate, pins []Pin) error {
	for _, cert := range certs {
		if got := PinOf(cert); !slices.Contains(pins, got) {
			return refuse(WrongCA, "certificate authority %.80q: got %s, want %s", cert.Subject.CommonName, got, joinPins(pins))
		}
	}
	return nil
}

func joinPins(pins []Pin) string {
	var texts []string
	for _, p := range pins {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " or ")
}
