package certhash

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"testing"
)

// The expected hashes are those of "openssl x509 -subject_hash" (OpenSSL 3.5) for
// these certificates of Debian 13's ca-certificates.
func TestSubjectHashesAreOpenSSLs(t *testing.T) {
	for name, tt := range map[string]struct {
		subject string
		want    uint32
	}{
		"printable string": {"304f310b300906035504061302555331293027060355040a1320496e7465726e65742053656375726974792052657365617263682047726f7570311530130603550403130c4953524720526f6f74205831", 0x4042bcee},
		"beyond ASCII":     {"3081a7310b30090603550406130248553111300f06035504070c08427564617065737431153013060355040a0c0c4e65744c6f636b204b66742e31373035060355040b0c2e54616ec3ba73c3ad7476c3a16e796b696164c3b36b202843657274696669636174696f6e205365727669636573293135303306035504030c2c4e65744c6f636b204172616e792028436c61737320476f6c64292046c59174616ec3ba73c3ad7476c3a16e79", 0x988a38cb},
		"email address":    {"308182310b30090603550406130248553111300f06035504070c08427564617065737431163014060355040a0c0d4d6963726f736563204c74642e3127302506035504030c1e4d6963726f73656320652d537a69676e6f20526f6f742043412032303039311f301d06092a864886f70d0109011610696e666f40652d737a69676e6f2e6875", 0x8160b96c},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := hex.DecodeString(tt.subject)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Name(der); err != nil || got != tt.want {
				t.Errorf("got %08x, %v, want %08x", got, err, tt.want)
			}
			if _, err := Name(append(der, 0)); err == nil {
				t.Error("bytes after the name were accepted")
			}
		})
	}
}

func TestStringsAreCanonicalAsText(t *testing.T) {
	utf16 := []byte{0x00, 'A', 0x01, 0x51}
	for name, tt := range map[string]struct {
		tag  int
		in   []byte
		want string
		text bool
	}{
		"UTF8String":      {12, []byte("  A \t b  C "), "a b c", true},
		"BMPString":       {30, utf16, "aő", true},
		"T61String":       {20, []byte{0xc1}, "Á", true}, // Latin-1; OpenSSL lowers ASCII only
		"UniversalString": {28, []byte{0, 0, 0, 'Z'}, "z", true},
		"OCTET STRING":    {4, []byte("A"), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := textOf(rawValue(tt.tag, tt.in))
			if ok != tt.text || ok && canonicalText(got) != tt.want {
				t.Errorf("got %q, %v, want %q, %v", canonicalText(got), ok, tt.want, tt.text)
			}
		})
	}
}

func FuzzCanonicalName(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Add([]byte("0\x121\x100\x0e\x06\x03U\x04\x03\x13\x07Test CA"))
	f.Fuzz(func(t *testing.T, der []byte) {
		name, err := canonicalName(der)
		if err != nil {
			return
		}
		again, err := canonicalName(append(sequence(len(name)), name...))
		if err != nil || !bytes.Equal(again, name) {
			t.Errorf("%x: its canonical form %x becomes %x, %v", der, name, again, err)
		}
	})
}

func rawValue(tag int, data []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, Bytes: data}
}

// sequence returns the head of a DER SEQUENCE with n bytes of content.
func sequence(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{0x30, byte(n)}
	case n < 0x100:
		return []byte{0x30, 0x81, byte(n)}
	default:
		return []byte{0x30, 0x82, byte(n >> 8), byte(n)}
	}
}
