package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	maxToken      = 1 << 20 // of a token server's answer
	defaultExpiry = time.Minute
	formType      = "application/x-www-form-urlencoded"
	clientID      = "imgctl"
)

// tokenKey is what a token is for. Nobody else's token is ever used: not that
// of another account on the same registry, nor for another repository.
type tokenKey struct {
	registry, realm, service string
	scope                    string // several are separated by blanks
	login                    authn.AuthConfig
}

// tokens are the tokens of a client.
type tokens struct {
	now func() time.Time

	mu sync.Mutex
	by map[tokenKey]*tokenSlot
}

// tokenSlot is the place of one token. Who holds busy may fetch it.
type tokenSlot struct {
	busy chan struct{}
	mu   sync.Mutex
	token
}

// token is what a token server hands out.
type token struct {
	value   string
	expires time.Time
}

func newTokens(now func() time.Time) *tokens {
	return &tokens{now: now, by: make(map[tokenKey]*tokenSlot)}
}

func (t *tokens) slot(k tokenKey) *tokenSlot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.by[k]
	if !ok {
		s = &tokenSlot{busy: make(chan struct{}, 1)}
		t.by[k] = s
	}
	return s
}

// get returns the token for k, fetching it when there is none or it is about
// to expire. Of those who need it at once one fetches it.
func (t *tokens) get(ctx context.Context, k tokenKey, fetch func(context.Context) (token, error)) (string, error) {
	s := t.slot(k)
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if now := s.current(); now.value != "" && t.now().Before(now.expires) {
		return now.value, nil
	}
	fresh, err := fetch(ctx)
	if err != nil {
		return "", err
	}
	s.set(fresh)
	return fresh.value, nil
}

// drop forgets the token for k, unless somebody has fetched another since.
func (t *tokens) drop(k tokenKey, value string) {
	s := t.slot(k)
	if s.current().value == value {
		s.set(token{})
	}
}

func (s *tokenSlot) current() token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

func (s *tokenSlot) set(t token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = t
}

// fetchToken asks the realm for a token. login is zero where it is asked
// anonymously. Redirects are not followed: credentials would go with them.
func (w *wire) fetchToken(ctx context.Context, realm *url.URL, k tokenKey) (token, error) {
	req, err := tokenRequest(realm, k)
	if err != nil {
		return token{}, err
	}
	if !w.realms.isListed(k.registry, realm.Host) {
		ctx = sentBy(ctx, k.registry, realm.Host, realm.Scheme)
	}
	req.Header.Set("User-Agent", w.agent)
	asked := w.tokens.now()
	resp, err := w.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return token{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, tokenError(realm, resp)
	}
	body, err := readBounded(resp.Body, maxToken)
	if err != nil {
		return token{}, err
	}
	t, err := parseToken(body, asked)
	if err != nil {
		return token{}, &fault{kind: malformed, op: "fetch token from", object: realm.Host, err: err}
	}
	return t, nil
}

// tokenRequest is a GET with Basic credentials or none (distribution's token
// specification), and for an identity token a POST (its OAuth 2 variant).
func tokenRequest(realm *url.URL, k tokenKey) (*http.Request, error) {
	at := *realm
	if k.login.IdentityToken == "" {
		query := at.Query()
		query.Set("service", k.service)
		for _, scope := range strings.Fields(k.scope) {
			query.Add("scope", scope)
		}
		at.RawQuery = query.Encode()
		req, err := http.NewRequest(http.MethodGet, at.String(), nil)
		if err == nil && k.login.Username != "" {
			req.SetBasicAuth(k.login.Username, k.login.Password)
		}
		return req, err
	}
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {k.login.IdentityToken},
		"service": {k.service}, "scope": {k.scope}, "client_id": {clientID},
	}
	req, err := http.NewRequest(http.MethodPost, at.String(), strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", formType)
	}
	return req, err
}

// tokenError says what a token server answered instead of a token.
func tokenError(realm *url.URL, resp *http.Response) error {
	err := answerError("fetch token from", realm.Host, resp)
	var f *fault
	switch {
	case !errors.As(err, &f):
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		f.kind, f.err = malformed, fmt.Errorf("%w: it is not followed", f.err)
	case resp.StatusCode == http.StatusBadRequest: // of the OAuth 2 variant: invalid_grant
		f.kind = denied
	case f.kind == notFound: // there is no token server; about what was asked for it says nothing
		f.kind = unreachable
	}
	return err
}

// parseToken reads a token server's answer.
func parseToken(body []byte, asked time.Time) (token, error) {
	var answer struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return token{}, errors.New("its answer is not JSON")
	}
	t := token{value: answer.Token}
	if t.value == "" {
		t.value = answer.AccessToken
	}
	for i := range len(t.value) {
		if c := t.value[i]; c <= ' ' || c >= 0x7f {
			return token{}, errors.New("its token is not one that fits into a header")
		}
	}
	if t.value == "" {
		return token{}, errors.New("its answer holds no token")
	}
	life := defaultExpiry
	if answer.ExpiresIn > 0 {
		life = time.Duration(min(answer.ExpiresIn, (24*time.Hour).Seconds()) * float64(time.Second))
	}
	// A little earlier: it has to arrive while it is valid.
	t.expires = asked.Add(life - min(life/10, 10*time.Second))
	return t, nil
}

// readBounded reads a body of at most most bytes and closes it.
func readBounded(body io.ReadCloser, most int64) ([]byte, error) {
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, &fault{kind: malformed, op: "read", object: "answer", err: fmt.Errorf("got more than %d bytes", most)}
	}
	return b, nil
}
