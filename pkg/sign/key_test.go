package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

const password = "correct horse"

// newKey is a key without the cost of a key file.
func newKey(t testing.TB) *Key {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestGeneratedKeyLoadsWithItsPassword(t *testing.T) {
	private, public, err := GenerateKey(Secret(password))
	if err != nil {
		t.Fatal(err)
	}
	k, err := LoadKey(private, Secret(password))
	if err != nil {
		t.Fatal(err)
	}
	if got := k.PublicPEM(); !bytes.Equal(got, public) {
		t.Errorf("public key of the loaded key:\n%swant\n%s", got, public)
	}
	if raw, err := k.private.Bytes(); err != nil || bytes.Contains(private, raw) {
		t.Error("the private file holds the private scalar in clear")
	}
}

// The library that cosign uses reads our files, and we read its files.
func TestKeyFilesAreThoseOfCosign(t *testing.T) {
	asked := func(bool) ([]byte, error) { return []byte(password), nil }

	ours, public, err := GenerateKey(Secret(password))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cryptoutils.UnmarshalPEMToPrivateKey(ours, asked); err != nil {
		t.Errorf("sigstore's library reads our private key: %v", err)
	}
	if _, err := cryptoutils.UnmarshalPEMToPublicKey(public); err != nil {
		t.Errorf("sigstore's library reads our public key: %v", err)
	}

	theirs, _, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(theirs, Secret(password)); err != nil {
		t.Errorf("we read a private key of sigstore's library: %v", err)
	}
	before2 := bytes.ReplaceAll(theirs, []byte(encryptedType), []byte(encryptedTypeBefore2))
	if _, err := LoadKey(before2, Secret(password)); err != nil {
		t.Errorf("we read a private key of cosign 1: %v", err)
	}
}

// S27: every way in which a key file can be wrong is one line that says so.
func TestLoadKeySaysWhatIsWrong(t *testing.T) {
	good, public, err := GenerateKey(Secret(password))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, password string
		file           []byte
		want           string
	}{
		{"wrong password", "battery staple", good, "wrong password, or the file is damaged"},
		{"no password", "", good, "wrong password: none was given"},
		{"public key", password, public, `got PEM type "PUBLIC KEY", want ENCRYPTED SIGSTORE PRIVATE KEY`},
		{"certificate", password, seal("CERTIFICATE", []byte("x")), `got PEM type "CERTIFICATE"`},
		{"unencrypted PKCS #8", password, seal("PRIVATE KEY", []byte("x")), "got an unencrypted PRIVATE KEY"},
		{"unencrypted SEC 1", password, seal("EC PRIVATE KEY", []byte("x")), "got an unencrypted EC PRIVATE KEY"},
		{"truncated file", password, good[:len(good)/2], "truncated or damaged: a PEM block begins and does not end"},
		{"truncated content", password, seal(encryptedType, []byte(`{"kdf":{"na`)), "truncated or damaged: the PEM block holds no JSON"},
		{"empty block", password, seal(encryptedType, nil), "truncated or damaged: the PEM block holds no JSON"},
		{"other cipher", password, seal(encryptedType, []byte(`{"kdf":{"name":"argon2"}}`)), `unknown kdf name "argon2"`},
		{"costly scrypt", password, seal(encryptedType, []byte(`{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1}},"cipher":{"name":"nacl/secretbox"}}`)), "unsupported scrypt parameters"},
		{"empty file", password, nil, "no PEM block in 0 bytes"},
		{"text", password, []byte("hunter2\n"), "no PEM block in 8 bytes"},
		{"two keys", password, append(bytes.Clone(good), good...), "more text follows the key"},
		{"huge", password, make([]byte, maxKeyFile+1), "larger than 65536 bytes"},
		{"not a key inside", password, sealed(t, []byte("not a key")), "what was decrypted is not PKCS #8"},
		{"RSA inside", password, sealed(t, rsaKey(t)), "got *rsa.PrivateKey, want ECDSA P-256"},
		{"P-384 inside", password, sealed(t, p384(t)), "got curve P-384, want P-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := LoadKey(tt.file, Secret(tt.password))
			if err == nil {
				t.Fatalf("loaded %v", k)
			}
			msg := err.Error()
			if !strings.HasPrefix(msg, "private key: ") || !strings.Contains(msg, tt.want) {
				t.Errorf("got %q, want it to contain %q", msg, tt.want)
			}
			if strings.Contains(msg, "\n") || strings.Contains(msg, "battery") {
				t.Errorf("not one line, or it holds the password: %q", msg)
			}
		})
	}
	if _, err := LoadKey(append([]byte("\n"), good...), Secret(password)); err != nil {
		t.Errorf("a blank line before the key: %v", err)
	}
}

func seal(typ string, body []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: body})
}

// sealed is a well-encrypted file around something else than our key.
func sealed(t *testing.T, der []byte) []byte {
	t.Helper()
	box, err := encrypted.Encrypt(der, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return seal(encryptedType, box)
}

func rsaKey(t *testing.T) []byte {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pkcs8(t, k)
}

func p384(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pkcs8(t, k)
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSecretDoesNotPrintItself(t *testing.T) {
	s := Secret("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "password", s)
	asJSON, err := json.Marshal(map[string]any{"password": s})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		s.String(), fmt.Sprint(s), fmt.Sprintf("%v %s %+v %#v", s, s, s, s), log.String(), string(asJSON),
		fmt.Sprintf("%v", struct{ Password Secret }{s}),
	} {
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "REDACTED") {
			t.Errorf("printed %q", text)
		}
	}
	if string(s) != "hunter2" {
		t.Error("the bytes are gone, too")
	}
}

func TestKeyPrintsItsFingerprintOnly(t *testing.T) {
	k := newKey(t)
	for _, text := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprint(k)} {
		if text != "ecdsa-p256:"+k.Fingerprint() {
			t.Errorf("printed %q", text)
		}
	}
}

func TestSignatureVerifiesAndOtherBytesDoNot(t *testing.T) {
	k := newKey(t)
	signed, err := k.Sign(t.Context(), Payload("payload"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := decodeBundle(signed.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	signature := b.GetMessageSignature().GetSignature()
	good, bad := sha256.Sum256([]byte("payload")), sha256.Sum256([]byte("Payload"))
	if !ecdsa.VerifyASN1(k.Public(), good[:], signature) {
		t.Error("the signature does not verify")
	}
	if ecdsa.VerifyASN1(k.Public(), bad[:], signature) {
		t.Error("the signature verifies over other bytes")
	}
}

func FuzzLoadKey(f *testing.F) {
	private, public, err := GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(private)
	f.Add(public)
	f.Add(private[:100])
	f.Add(seal(encryptedType, []byte(`{"kdf":{"name":"scrypt","params":{"N":32768,"r":8,"p":1}},"cipher":{"name":"nacl/secretbox"}}`)))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := LoadKey(file, nil)
		if (k == nil) == (err == nil) {
			t.Fatalf("key %v and error %v", k, err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("more than one line: %q", err)
		}
	})
}
