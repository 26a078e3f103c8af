package bootstrap

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"regexp"
)

// The form of a token: an identifier, which is public, a dot, and a secret.
var (
	tokenForm   = regexp.MustCompile(`\A([a-z0-9]{6})\.([a-z0-9]{16})\z`)
	tokenIDForm = regexp.MustCompile(`\A[a-z0-9]{6}\z`)
	tokenWithin = regexp.MustCompile(`(\A|[^a-z0-9])[a-z0-9]{6}\.[a-z0-9]{16}(\z|[^a-z0-9])`)
)

// Token lets a machine join. However it is printed, its secret is not.
type Token struct{ id, secret string }

// NewToken makes a random token.
func NewToken() Token { return Token{id: randomText(6), secret: randomText(16)} }

// ParseToken reads a token. The error does not repeat the text: a mistyped token is still most of one.
func ParseToken(text string) (Token, error) {
	m := tokenForm.FindStringSubmatch(text)
	if m == nil {
		return Token{}, fmt.Errorf("bootstrap token: got %d bytes of another form, want [a-z0-9]{6}.[a-z0-9]{16}", len(text))
	}
	return Token{id: m[1], secret: m[2]}, nil
}

// HoldsToken tells whether something in text has the form of a token.
func HoldsToken(text string) bool { return tokenWithin.MatchString(text) }

// ID is the public half.
func (t Token) ID() string { return t.id }

// Reveal returns the token with its secret.
func (t Token) Reveal() string { return t.id + "." + t.secret }

// String hides the secret.
func (t Token) String() string { return t.id + ".REDACTED" }

// GoString hides the secret.
func (t Token) GoString() string { return t.String() }

// LogValue hides the secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText hides the secret, in JSON too.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// alphabet is what tokens are made of.
const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

// randomText returns n characters of the alphabet, each as likely as any other:
// a byte above the last multiple of its length is thrown away, since taking the
// remainder of it would favour the first characters.
func randomText(n int) string {
	const fair = 256 - 256%len(alphabet)
	text := make([]byte, 0, n)
	var b [32]byte
	for len(text) < n {
		rand.Read(b[:]) // never fails, see crypto/rand
		for _, x := range b {
			if int(x) < fair && len(text) < n {
				text = append(text, alphabet[int(x)%len(alphabet)])
			}
		}
	}
	return string(text)
}
