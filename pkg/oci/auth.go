package oci

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
)

// authorizer says to one registry who we are, in requests about one repository.
//
// Credentials go to exactly the registry's host and port, and to a token
// server that [realms] trusts. They are looked up when the registry asks for
// them; the first request is made alone, and the others profit from what it
// was answered.
type authorizer struct {
	wire *wire
	host string // host[:port] of the registry
	repo string // path of the repository there
	find func(ctx context.Context) (authn.AuthConfig, error)

	first chan struct{} // one place: who holds it makes the first request
	asked atomic.Bool   // it has been answered

	mu       sync.Mutex
	want     *challenge // nil: nobody has asked for credentials
	realm    *url.URL   // of want, where it is a bearer's
	trusted  bool       // credentials may go to realm
	login    *authn.AuthConfig
	accepted bool // what we sent last was good
}

// RoundTrip implements [http.RoundTripper].
func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	// The same name with the other scheme may be another port.
	if req.URL.Host != a.host || req.URL.Scheme == "https" && a.wire.scheme(a.host) != "https" {
		return a.wire.RoundTrip(req.WithContext(sentBy(req.Context(), a.host, req.URL.Host, a.wire.scheme(req.URL.Host))))
	}
	if !a.asked.Load() {
		select {
		case a.first <- struct{}{}:
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
		if !a.asked.Load() {
			defer func() { <-a.first }()
			resp, err := a.exchange(req)
			a.asked.Store(err == nil)
			return resp, err
		}
		<-a.first
	}
	return a.exchange(req)
}

// exchange makes the request, and again with a new token when the one that was
// sent is not, or no longer, good. It gives up on what a new token does not
// help, except once where tokens have been good before.
func (a *authorizer) exchange(req *http.Request) (*http.Response, error) {
	fresh, patience := false, 1
	for {
		value, err := a.authorization(req)
		if err != nil {
			return nil, err
		}
		resp, err := a.send(req, value)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			if err == nil && value != "" {
				a.accept(true)
			}
			return resp, err
		}
		if fresh && (patience == 0 || !a.hasAccepted()) {
			return nil, a.rejected(resp)
		}
		if fresh {
			patience--
		}
		if ok, err := a.renew(req, resp, value); err != nil {
			return nil, err
		} else if !ok {
			return nil, a.rejected(resp)
		}
		drain(resp.Body)
		fresh = value != "" // else it was asked who we are, and nothing was refused
	}
}

// send makes one request with the given Authorization.
func (a *authorizer) send(req *http.Request, value string) (*http.Response, error) {
	r := req.Clone(req.Context())
	if value != "" {
		r.Header.Set("Authorization", value)
	}
	return a.wire.RoundTrip(r)
}

// accept remembers whether credentials of ours were good.
func (a *authorizer) accept(good bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted = good
}

func (a *authorizer) hasAccepted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accepted
}

// authorization returns the header for req; "" as long as nobody wants one.
func (a *authorizer) authorization(req *http.Request) (string, error) {
	a.mu.Lock()
	want, login := a.want, a.login
	a.mu.Unlock()
	if want == nil {
		return "", nil
	}
	if want.scheme == "basic" {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(login.Username+":"+login.Password)), nil
	}
	if login.RegistryToken != "" {
		return "Bearer " + login.RegistryToken, nil
	}
	k, realm := a.key(req)
	value, err := a.wire.tokens.get(req.Context(), k, func(ctx context.Context) (token, error) {
		return a.wire.fetchToken(ctx, realm, k)
	})
	if err != nil {
		return "", err
	}
	return "Bearer " + value, nil
}

// key is what the token for req is for, and where it is to be had.
func (a *authorizer) key(req *http.Request) (tokenKey, *url.URL) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := tokenKey{registry: a.host, realm: a.realm.String(), service: a.want.params["service"], scope: a.scope(req)}
	if a.trusted {
		k.login = *a.login
	}
	return k, a.realm
}

// renew makes up its mind about a 401: how the registry wants to be asked, and
// whether there is anything better than the value that was sent.
func (a *authorizer) renew(req *http.Request, resp *http.Response, sent string) (bool, error) {
	want, ok := choose(parseChallenges(resp.Header.Values("WWW-Authenticate")))
	if !ok {
		return false, nil
	}
	login, err := a.lookUp(req.Context())
	if err != nil {
		return false, err
	}
	if want.scheme == "basic" {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.want, a.realm = &want, nil
		return sent == "" && login.Username != "", nil
	}
	realm, trusted, err := a.wire.realms.check(a.host, want.params["realm"])
	if err != nil {
		return false, &fault{kind: malformed, op: "authenticate at", object: a.host, err: err}
	}
	if a.known(want) {
		k, _ := a.key(req)
		a.wire.tokens.drop(k, strings.TrimPrefix(sent, "Bearer "))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want, a.realm, a.trusted = &want, realm, trusted
	return login.RegistryToken == "" || sent == "", nil
}

// known reports whether the registry had asked for the same before.
func (a *authorizer) known(want challenge) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.want != nil && a.want.scheme == want.scheme && a.realm != nil
}

// lookUp finds the credentials, once.
func (a *authorizer) lookUp(ctx context.Context) (authn.AuthConfig, error) {
	a.mu.Lock()
	login := a.login
	a.mu.Unlock()
	if login != nil {
		return *login, nil
	}
	found, err := a.find(ctx)
	if err != nil {
		return authn.AuthConfig{}, &fault{kind: other, op: "find credentials for", object: a.host, err: err}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login = &found
	return found, nil
}

// choose takes the first challenge that can be met, tokens before passwords.
func choose(all []challenge) (challenge, bool) {
	for _, scheme := range []string{"bearer", "basic"} {
		if i := slices.IndexFunc(all, func(c challenge) bool { return c.scheme == scheme }); i >= 0 {
			return all[i], true
		}
	}
	return challenge{}, false
}

// rejected is the error of a 401 that nothing helps against.
func (a *authorizer) rejected(resp *http.Response) error {
	a.mu.Lock()
	a.accepted = false
	login, trusted, realm := a.login, a.trusted, a.realm
	a.mu.Unlock()
	text := "credentials rejected"
	switch {
	case login == nil || *login == (authn.AuthConfig{}):
		text = "it wants credentials, and there are none for it"
	case realm != nil && !trusted && login.RegistryToken == "":
		text = fmt.Sprintf("credentials were not sent to its token server %s, which is not of its domain (--token-server %s=%s allows it)", realm.Host, a.host, realm.Host)
	}
	err := answerError("ask", a.host, resp)
	var f *fault
	if errors.As(err, &f) {
		f.err = fmt.Errorf("%s: %w", text, f.err)
	}
	return err
}

// wantsPush is in the context of a request that needs more than to read.
type wantsPush struct{}

// actionPattern is for what a registry may ask for besides pulling and pushing.
var actionPattern = regexp.MustCompile(`^([a-z]{1,16}|\*)$`)

// scope is what the token for req must allow. The registry may ask for other
// actions, but for no other repository than the one that is talked about.
// a.mu is held.
func (a *authorizer) scope(req *http.Request) string {
	actions := map[string]bool{}
	if push, _ := req.Context().Value(wantsPush{}).(bool); push {
		actions["push"] = true
	}
	for _, scope := range strings.Fields(a.want.params["scope"]) {
		rest, ok := strings.CutPrefix(scope, "repository:"+a.repo+":")
		for _, action := range strings.Split(rest, ",") {
			if ok && action != "push" && actionPattern.MatchString(action) && req.Method == http.MethodDelete {
				actions[action] = true
			}
		}
	}
	delete(actions, "pull")
	list := append([]string{"pull"}, slices.Sorted(maps.Keys(actions))...)
	text := "repository:" + a.repo + ":" + strings.Join(list, ",")
	if from := req.URL.Query().Get("from"); from != "" && from != a.repo { // a blob is mounted from there
		text += " repository:" + from + ":pull"
	}
	return text
}
