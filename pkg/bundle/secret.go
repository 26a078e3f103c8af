package bundle

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
)

// secretForm is one kind of secret. It is named in the error; what matched is not.
type secretForm struct {
	what string
	form *regexp.Regexp
}

// secretForms start with a fixed text where they can: then a search is as fast
// as one for that text.
var secretForms = []secretForm{
	{"a private key", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)},
	{"a Secret", regexp.MustCompile(`kind["']?\s*:\s*["']?Secret\b`)},
	{"a client key", regexp.MustCompile(`client-key(-data)?["']?\s*:\s*\S`)},
	{"a token", regexp.MustCompile(`token(File)?["']?\s*:\s*\S`)},
	{"a password", regexp.MustCompile(`password["']?\s*:\s*\S`)},
	{"a bearer token", regexp.MustCompile(`earer [A-Za-z0-9+/._=-]{16,}`)},
	{"a bootstrap token", regexp.MustCompile(`(^|[^a-z0-9./-])[a-z0-9]{6}\.[a-z0-9]{16}($|[^a-z0-9./-])`)},
}

// secret reports what kind of secret the body holds, also within base64, and on
// which line (CATALOGUE K04, K12).
func secret(body []byte) error {
	for _, s := range secretForms {
		if at := s.form.FindIndex(body); at != nil {
			return fmt.Errorf("line %d holds %s; a bundle is public", line(body, at[0]), s.what)
		}
	}
	n := 0
	for text := range bytes.Lines(body) {
		n++
		for _, run := range bytes.FieldsFunc(text, notBase64) {
			inside := decoded(run)
			for _, s := range secretForms {
				if s.form.Match(inside) {
					return fmt.Errorf("line %d holds %s in base64; a bundle is public", n, s.what)
				}
			}
		}
	}
	return nil
}

func notBase64(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/')
}

// decoded returns what run stands for in base64, or nothing when it is too
// short to hold a secret or no base64.
func decoded(run []byte) []byte {
	if len(run) < 20 {
		return nil
	}
	text := make([]byte, base64.RawStdEncoding.DecodedLen(len(run)))
	if _, err := base64.RawStdEncoding.Decode(text, run); err != nil {
		return nil
	}
	return text
}
