// Package certhash makes the names under which OpenSSL looks for certificates in a
// directory.
package certhash

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Subject returns the hash under which OpenSSL looks for a certificate in DER: the
// first four bytes, little endian, of the SHA-1 of the subject in canonical form
// (X509_NAME_hash(3)). SHA-1 is a file name here, nothing more.
func Subject(der []byte) (uint32, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return 0, err
	}
	hash, err := Name(cert.RawSubject)
	if err != nil {
		return 0, fmt.Errorf("subject: %w", err)
	}
	return hash, nil
}

// Name is [Subject] for a Name in DER.
func Name(der []byte) (uint32, error) {
	canonical, err := canonicalName(der)
	if err != nil {
		return 0, err
	}
	sum := sha1.Sum(canonical)
	return binary.LittleEndian.Uint32(sum[:4]), nil
}

// attribute is an AttributeTypeAndValue (RFC 5280, 4.1.2.4).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// utf8Attribute is one with its value as UTF8String.
type utf8Attribute struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"utf8"`
}

// attributeSET is a RelativeDistinguishedName. The suffix of its name makes it a SET for encoding/asn1.
type attributeSET []attribute

// canonicalName encodes a Name as OpenSSL does for comparing: text as UTF8String
// in lower case with single spaces, sets sorted, without the outer SEQUENCE.
func canonicalName(der []byte) ([]byte, error) {
	var rdns []attributeSET
	rest, err := asn1.Unmarshal(der, &rdns)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes after its end", len(rest))
	}
	var out []byte
	for _, rdn := range rdns {
		encoded := make([]asn1.RawValue, len(rdn))
		for i, a := range rdn {
			b, err := canonicalAttribute(a)
			if err != nil {
				return nil, err
			}
			encoded[i] = asn1.RawValue{FullBytes: b}
		}
		set, err := asn1.MarshalWithParams(encoded, "set") // DER sorts the elements
		if err != nil {
			return nil, err
		}
		out = append(out, set...)
	}
	return out, nil
}

func canonicalAttribute(a attribute) ([]byte, error) {
	text, ok := textOf(a.Value)
	if !ok {
		return asn1.Marshal(a)
	}
	return asn1.Marshal(utf8Attribute{a.Type, canonicalText(text)})
}

// textOf decodes the string types that OpenSSL compares as text. Others are compared as bytes.
func textOf(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal {
		return "", false
	}
	const visibleString, universalString = 26, 28
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, visibleString:
		return string(v.Bytes), true
	case asn1.TagT61String: // read as Latin-1
		runes := make([]rune, len(v.Bytes))
		for i, b := range v.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagBMPString:
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
		}
		return string(utf16.Decode(units)), true
	case universalString:
		runes := make([]rune, len(v.Bytes)/4)
		for i := range runes {
			runes[i] = rune(binary.BigEndian.Uint32(v.Bytes[4*i:]))
		}
		return string(runes), true
	}
	return "", false
}

// canonicalText lowers ASCII letters, drops white space at both ends and makes
// each run of it inside one space. Other letters stay: OpenSSL knows no Unicode case.
func canonicalText(s string) string {
	const space = " \t\n\v\f\r"
	var b strings.Builder
	pending := false
	for _, c := range []byte(strings.Trim(s, space)) {
		if strings.IndexByte(space, c) >= 0 {
			pending = true
			continue
		}
		if pending {
			b.WriteByte(' ')
			pending = false
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}
