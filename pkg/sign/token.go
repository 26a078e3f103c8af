package sign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// TokenSource returns an OIDC identity token when one is needed: they live a few
// minutes only.
type TokenSource func(ctx context.Context) (Secret, error)

// tokenAudience is for whom a token must be made out.
const tokenAudience = "sigstore"

const maxToken = 64 << 10 // bytes

// FixedToken is a source that has one token.
func FixedToken(token Secret) TokenSource {
	return func(context.Context) (Secret, error) { return bytes.TrimSpace(token), nil }
}

// FileToken reads the token from a file each time, since somebody keeps it fresh.
func FileToken(path string) TokenSource {
	return func(context.Context) (Secret, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read identity token: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err != nil {
			return nil, fmt.Errorf("read identity token: %w", err)
		}
		if len(data) > maxToken {
			return nil, fmt.Errorf("read identity token: %s: larger than %d bytes", path, maxToken)
		}
		return bytes.TrimSpace(data), nil
	}
}

// GitHubToken asks GitHub Actions for a token: address and bearer are what it
// gives a job in ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN.
func GitHubToken(s Services, address string, bearer Secret) TokenSource {
	return func(ctx context.Context) (Secret, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, errors.New("ask GitHub for an identity token: the address is not a URL")
		}
		query := u.Query()
		query.Set("audience", tokenAudience)
		u.RawQuery = query.Encode()
		q := request{what: "ask GitHub for an identity token", method: http.MethodGet, url: u.String(), bearer: bearer}
		a, err := s.call(ctx, q)
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusOK {
			return nil, q.refused(a)
		}
		var doc struct{ Value string }
		if err := json.Unmarshal(a.body, &doc); err != nil || doc.Value == "" {
			return nil, errors.New("ask GitHub for an identity token: the answer holds none") // and is not quoted: it may be one
		}
		return Secret(doc.Value), nil
	}
}

// tokenSubject returns what a Fulcio wants signed as a proof that we hold the
// key: the verified e-mail address in the token, or else its subject. The token
// is Fulcio's to verify; what it would certainly refuse is refused here, by name.
func tokenSubject(token Secret, now time.Time) (string, error) {
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return "", errors.New("identity token: it is no JWT: want three parts with dots between them")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("identity token: its second part is not base64")
	}
	var claims struct {
		Audience audience  `json:"aud"`
		Subject  string    `json:"sub"`
		Email    string    `json:"email"`
		Expires  float64   `json:"exp"`
		Verified looseBool `json:"email_verified"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", errors.New("identity token: its second part is not JSON with the claims of OIDC")
	}
	switch ends := time.Unix(int64(claims.Expires), 0).UTC(); {
	case !claims.Audience.has(tokenAudience):
		return "", fmt.Errorf("identity token: audience: got %s, want %s", printable(fmt.Sprint([]string(claims.Audience))), tokenAudience)
	case claims.Expires > 0 && now.After(ends):
		return "", fmt.Errorf("identity token: it was valid until %s (this machine's clock says %s)", ends.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case claims.Email != "" && !bool(claims.Verified):
		return "", errors.New("identity token: its issuer has not verified the e-mail address")
	case claims.Email != "":
		return claims.Email, nil
	case claims.Subject == "":
		return "", errors.New("identity token: it names no subject")
	}
	return claims.Subject, nil
}

// audience is one name or a list of them.
type audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

func (a audience) has(name string) bool {
	for _, n := range a {
		if n == name {
			return true
		}
	}
	return false
}

// looseBool is true or "true": some issuers write it as text.
type looseBool bool

// UnmarshalJSON implements [json.Unmarshaler].
func (b *looseBool) UnmarshalJSON(data []byte) error {
	*b = string(data) == "true" || string(data) == `"true"`
	return nil
}
