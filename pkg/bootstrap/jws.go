package bootstrap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// sign returns the detached JWS of the content under the token, byte for byte
// what Kubernetes' bootstrap signer writes: the compact form of RFC 7515 with
// HS256, less the payload (its Appendix F). The key is the token's secret as text.
func (t Token) sign(content []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	header := encode(fmt.Appendf(nil, `{"alg":"HS256","kid":%q}`, t.id)) // an id needs no escapes
	mac := hmac.New(sha256.New, []byte(t.secret))
	mac.Write([]byte(header + "." + encode(content)))
	return header + ".." + encode(mac.Sum(nil))
}

// verifies tells whether jws is the one that the token makes of the content. It
// is compared as a whole, so that no header can choose another algorithm.
func (t Token) verifies(jws string, content []byte) bool {
	return hmac.Equal([]byte(jws), []byte(t.sign(content)))
}
