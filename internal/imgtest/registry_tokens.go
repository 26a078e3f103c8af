package imgtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TokenServer hands out bearer tokens as auth.docker.io does, for registries
// that name it in [RegistryOptions]. Its requests are logged, and can be
// scripted. It is to be configured before it is used.
type TokenServer struct {
	Script
	Users      map[string]string                    // name → password
	Identities map[string]string                    // identity token → name
	Grants     func(user, repo, action string) bool // nil: everything to users, nothing to others
	Life       time.Duration                        // of a token; 0: five minutes
	Now        func() time.Time                     // nil: time.Now

	server *http.Server
	host   string
	cert   *tls.Certificate // of a server with TLS, which also signs its tokens

	mu     sync.Mutex
	issued map[string]issued
}

// issued is what a token is good for.
type issued struct {
	service string
	access  []string // "repository:NAME:ACTION"
	until   time.Time
}

// TokenService is the name that registries have at a [TokenServer], and
// TokenIssuer its own in its tokens.
const TokenService, TokenIssuer = "imgtest", "imgtest tokens"

// StartTokenServer starts a token server at addr ("127.0.0.2:0") for a test, which closes it.
func StartTokenServer(t testing.TB, addr string) *TokenServer {
	t.Helper()
	return startTokenServer(t, addr, nil)
}

// StartTokenServerTLS starts a token server with TLS. Its tokens are JSON Web
// Tokens, signed with the certificate's key, which is P-256, as a real registry
// checks them that knows who issued the certificate.
func StartTokenServerTLS(t testing.TB, addr string, cert tls.Certificate) *TokenServer {
	t.Helper()
	return startTokenServer(t, addr, &cert)
}

func startTokenServer(t testing.TB, addr string, cert *tls.Certificate) *TokenServer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &TokenServer{host: l.Addr().String(), cert: cert, Users: map[string]string{}, Identities: map[string]string{}, issued: map[string]issued{}}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go s.server.Serve(l) // ends with Close
	t.Cleanup(func() { s.Release(); s.server.Close() })
	return s
}

// Host is the server's address, such as "127.0.0.2:41234".
func (s *TokenServer) Host() string { return s.host }

// Realm is its URL, as registries name it.
func (s *TokenServer) Realm() string {
	if s.cert != nil {
		return "https://" + s.host + "/token"
	}
	return "http://" + s.host + "/token"
}

// Expire makes all tokens expire that were handed out so far.
func (s *TokenServer) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.issued)
}

// ServeHTTP implements [http.Handler].
func (s *TokenServer) ServeHTTP(w http.ResponseWriter, req *http.Request) { s.play(w, req, s.serve) }

// serve hands out a token.
func (s *TokenServer) serve(w http.ResponseWriter, req *http.Request) {
	if err := req.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, ok := s.who(req)
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		return
	}
	life := s.Life
	if life == 0 {
		life = 5 * time.Minute
	}
	grant := issued{service: req.Form.Get("service"), access: s.access(user, req.Form["scope"]), until: s.now().Add(life)}
	value := rand.Text()
	if s.cert != nil {
		value = s.signed(user, grant)
	}
	s.mu.Lock()
	s.issued[value] = grant
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"token": value, "expires_in": int(life.Seconds())})
}

// who says whose request it is; "" is nobody's.
func (s *TokenServer) who(req *http.Request) (user string, ok bool) {
	if req.Method == http.MethodPost {
		user, ok = s.Identities[req.PostForm.Get("refresh_token")]
		return user, ok && req.PostForm.Get("grant_type") == "refresh_token"
	}
	user, password, given := req.BasicAuth()
	if !given {
		return "", true
	}
	want, known := s.Users[user]
	return user, known && want == password
}

// access is what of the scopes is granted.
func (s *TokenServer) access(user string, scopes []string) (list []string) {
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 {
			continue
		}
		for _, action := range strings.Split(parts[2], ",") {
			if s.Grants == nil && user != "" || s.Grants != nil && s.Grants(user, parts[1], action) {
				list = append(list, "repository:"+parts[1]+":"+action)
			}
		}
	}
	return list
}

func (s *TokenServer) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// signed is a token that says itself what it is good for, and who says so.
func (s *TokenServer) signed(user string, grant issued) string {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, one := range grant.access {
		parts := strings.Split(one, ":")
		granted = append(granted, access{parts[0], parts[1], parts[2:]})
	}
	now := s.now()
	return webToken(s.cert.PrivateKey.(*ecdsa.PrivateKey), map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(s.cert.Certificate[0])}}, map[string]any{
		"iss": TokenIssuer, "sub": user, "aud": grant.service, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": grant.until.Unix(), "access": granted,
	})
}

// webToken makes a JSON Web Token signed with ES256.
func webToken(key *ecdsa.PrivateKey, header, claims map[string]any) string {
	header = maps.Clone(header)
	maps.Copy(header, map[string]any{"alg": "ES256", "typ": "JWT"})
	var parts []string
	for _, part := range []any{header, claims} {
		data, err := json.Marshal(part)
		if err != nil {
			panic(err) // a mistake in the test
		}
		parts = append(parts, raw64(data))
	}
	text := strings.Join(parts, ".")
	digest := sha256.Sum256([]byte(text))
	r, sig, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		panic(err) // the same
	}
	return text + "." + raw64(append(r.FillBytes(make([]byte, 32)), sig.FillBytes(make([]byte, 32))...))
}

// admit reports whether a registry is to carry out the request. If not, it is
// answered with the challenge that says where a token is to be had.
func (s *TokenServer) admit(w http.ResponseWriter, req *http.Request) bool {
	repo, action := access(req)
	value, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	t, ok := s.issued[value]
	s.mu.Unlock()
	if ok && s.now().Before(t.until) && t.service == TokenService && slices.Contains(t.access, "repository:"+repo+":"+action) {
		return true
	}
	scope := "repository:" + repo + ":pull"
	if action == "push" {
		scope += ",push"
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service=%q,scope=%q`, s.Realm(), TokenService, scope))
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return false
}

// access is what a request to a registry needs to be allowed.
func access(req *http.Request) (repo, action string) {
	action = "push"
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		action = "pull"
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	for _, kind := range []string{"/blobs/", "/manifests/", "/referrers/", "/tags/"} {
		if i := strings.LastIndex(path, kind); i >= 0 {
			path = path[:i]
			break
		}
	}
	return path, action
}
