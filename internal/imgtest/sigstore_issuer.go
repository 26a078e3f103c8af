package imgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// GitHubBearer is what a job must show to get a token from [Issuer.TokenURL].
const GitHubBearer = "imgtest-request-token-of-the-job"

// Workflow is the identity of the tokens that [Issuer.TokenURL] gives.
const Workflow = "https://github.com/poseidon/kubelet/.github/workflows/release.yaml@refs/heads/main"

// Issuer is an OIDC issuer: it makes tokens for whom the test says, hands out
// those of a job as GitHub Actions does, and publishes its key. It is served at
// its name, and everything below that.
type Issuer struct {
	url string
	now func() time.Time
	key *ecdsa.PrivateKey
}

// NewIssuer makes one that is called url; a nil now means [time.Now].
func NewIssuer(url string, now func() time.Time) (*Issuer, error) {
	if now == nil {
		now = time.Now
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &Issuer{url, now, key}, err
}

// URL is the issuer's address, which is also its name.
func (i *Issuer) URL() string { return i.url }

// TokenURL is what GitHub gives a job in ACTIONS_ID_TOKEN_REQUEST_URL.
func (i *Issuer) TokenURL() string { return i.url + "/token?job=1" }

// ServeHTTP implements [http.Handler].
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/.well-known/openid-configuration"):
		answer = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"}}
	case strings.HasSuffix(path, "/keys"):
		answer = map[string]any{"keys": []any{i.jwk()}}
	case !strings.HasSuffix(path, "/token"):
		problem(w, http.StatusNotFound, errors.New("no such page"))
		return
	case r.Header.Get("Authorization") != "Bearer "+GitHubBearer:
		problem(w, http.StatusUnauthorized, errors.New("this is no job of ours"))
		return
	default:
		answer = map[string]string{"value": i.JobToken(r.URL.Query().Get("audience"))}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// jwk is the public key (RFC 7518, 6.2).
func (i *Issuer) jwk() map[string]string {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err) // it is on the curve
	}
	return map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": raw64(point[1:33]), "y": raw64(point[33:])}
}

// Token makes an identity token. An e-mail address is a verified one; a claim in
// more replaces that of the same name, and nil removes it.
func (i *Issuer) Token(email string, more map[string]any) string {
	claims := map[string]any{
		"iss": i.url, "aud": "sigstore", "sub": "subject of " + email, "email": email, "email_verified": true,
		"iat": i.now().Unix(), "exp": i.now().Add(10 * time.Minute).Unix(),
	}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return webToken(i.key, map[string]any{}, claims)
}

// JobToken is a token of the [Workflow], with the claims of GitHub Actions.
func (i *Issuer) JobToken(audience string) string {
	const ref, commit = "refs/heads/main", "8f1d27a7b0c92b9a118f1d27a7b0c92b9a118f1d"
	workflow := strings.TrimPrefix(Workflow, "https://github.com/")
	return i.Token("", map[string]any{
		"aud": audience, "email": nil, "email_verified": nil, "sub": "repo:poseidon/kubelet:ref:" + ref,
		"job_workflow_ref": workflow, "job_workflow_sha": commit, "workflow_ref": workflow, "workflow_sha": commit, "workflow": "release",
		"repository": "poseidon/kubelet", "repository_id": "1", "repository_owner": "poseidon", "repository_owner_id": "2", "repository_visibility": "public",
		"ref": ref, "sha": commit, "event_name": "push", "runner_environment": "github-hosted", "run_id": "3", "run_attempt": "1",
	})
}

// tokenClaims are the claims that a Fulcio looks at.
type tokenClaims struct {
	Iss, Aud, Sub, Email string
	Exp                  int64
	JobWorkflowRef       string `json:"job_workflow_ref"`
}

// claims verifies the signature of a token and returns what it says.
func (i *Issuer) claims(token string) (*tokenClaims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("no token")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return nil, errors.New("signature")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&i.key.PublicKey, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, errors.New("signature")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var c tokenClaims
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return &c, nil
}

func raw64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
