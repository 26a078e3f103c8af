package oci_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// bearer makes the registry ask once for a token, which it also hands out.
func bearer(reg *imgtest.Registry) imgtest.Fault {
	challenge := `Bearer realm="http://` + reg.Host() + `/token",service="test",scope="repository:k:pull,push"`
	reg.On(imgtest.Fault{Path: "/token", Status: 200, Body: `{"token":"abc","expires_in":60}`})
	return imgtest.Fault{Times: 1, Status: 401, Header: http.Header{"Www-Authenticate": {challenge}}}
}

// R24: a token that expires while a blob is on its way is renewed, and the
// blob sent again, whole.
func TestR24TokenThatExpiresDuringAnUploadIsRenewed(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(bearer(reg))                                                 // the first request
	for _, path := range []string{"/blobs/uploads/", "/manifests/v1"} { // never at the same time
		expired := bearer(reg)
		expired.Method, expired.Path = "PUT", path
		reg.On(expired)
	}
	f, name := newFixture(t, 2<<20), reg.Host()+"/k"
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
	check(t, err)
	complete(t, newClient(), name, f, "v1")
	tokens := 0
	for _, q := range reg.Requests() {
		if strings.HasPrefix(q.Path, "/token") {
			tokens++
			if !strings.Contains(q.Path, "push") {
				t.Errorf("got %s, want the right to push asked for", q.Path)
			}
		}
	}
	if tokens != 3 {
		t.Errorf("got %d tokens, want one for the start and one for each expiry", tokens)
	}
}

// secured is a registry that wants the tokens of a server on another host, and
// a client with the right credentials, to which that host is listed.
func secured(t *testing.T) (*imgtest.Registry, *imgtest.TokenServer, *oci.Client) {
	t.Helper()
	tokens := imgtest.StartTokenServer(t, "127.0.0.2:0")
	tokens.Users["robot"] = password
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Tokens: tokens})
	c := newClient()
	c.Keychain = oci.Keychain(authFile(t, reg.Host(), "robot", password), func(string) string { return "" })
	c.TokenServers = map[string][]string{reg.Host(): {tokens.Host()}}
	return reg, tokens, c
}

const password = "correct-horse-battery"

// R24: whenever all tokens expire, each request that meets it is made again
// with a new one; no blob is sent twice that is there.
func TestR24NoBlobIsSentAgainForANewToken(t *testing.T) {
	reg, tokens, c := secured(t)
	for _, skip := range []int{0, 3} {
		reg.On(imgtest.Fault{Method: "PUT", Path: "/blobs/uploads/", Skip: skip, Times: 1, Do: tokens.Expire})
	}
	reg.On(imgtest.Fault{Method: "PUT", Path: "/manifests/v1", Times: 1, Do: tokens.Expire}) // not earlier: no request meets all three
	f := newFixture(t, 2<<20)
	_, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
	check(t, err)
	stored := make(map[string]int)
	for _, q := range reg.Requests() {
		if _, digest, ok := strings.Cut(q.Path, "digest="); ok && q.Status == 201 {
			stored[digest]++
		}
	}
	for digest, n := range stored {
		if n > 1 {
			t.Errorf("%s was stored %d times", digest, n)
		}
	}
	if n := len(tokens.Requests()); n < 3 || n > 12 {
		t.Errorf("got %d tokens, want one, and one more for each expiry", n)
	}
}

// R25: credentials that are never good enough end in one clear error, after
// one attempt to mend it.
func TestR25DeniedForEverEnds(t *testing.T) {
	reg, tokens, c := secured(t)
	reg.On(imgtest.Fault{If: func(imgtest.Request) bool { tokens.Expire(); return false }})
	repo, err := c.Repository(reg.Host() + "/k")
	check(t, err)
	_, err = repo.Resolve(t.Context(), "v1")
	if !oci.Denied(err) || oci.NotFound(err) || !strings.Contains(err.Error(), "credentials rejected") || !strings.Contains(err.Error(), reg.Host()+"/k") {
		t.Errorf("got %v, want the credentials rejected", err)
	}
	if asked, fetched := len(reg.Requests()), len(tokens.Requests()); asked > 3 || fetched > 2 {
		t.Errorf("got %d requests and %d tokens, want no more than one refresh", asked, fetched)
	}
	reg.Heal()
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
		t.Errorf("after it was mended: got %v, want the clear answer", err)
	}
}

// R25: one refresh is for a token that was refused. The question who comes, with
// which a registry begins, is no refusal.
func TestR25FirstTokenIsRefusedOnce(t *testing.T) {
	reg, tokens, c := secured(t)
	reg.On(imgtest.Fault{Skip: 1, Times: 1, Status: 401, Header: map[string][]string{
		"Www-Authenticate": {`Bearer realm="http://` + tokens.Host() + `/token",service="imgtest"`}}})
	repo, err := c.Repository(reg.Host() + "/k")
	check(t, err)
	if _, err = repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
		t.Errorf("got %v, want the answer that the second token gets", err)
	}
	if asked, fetched := len(reg.Requests()), len(tokens.Requests()); asked != 3 || fetched != 2 {
		t.Errorf("got %d requests and %d tokens, want 3 and 2", asked, fetched)
	}
}

// A wrong password is refused by the token server, by name, and none is no error of credentials.
func TestR25WrongPasswordIsDenied(t *testing.T) {
	reg, tokens, c := secured(t)
	tokens.Users["robot"] = "another"
	repo, err := c.Repository(reg.Host() + "/k")
	check(t, err)
	if _, err = repo.Resolve(t.Context(), "v1"); !oci.Denied(err) || !strings.Contains(err.Error(), "fetch token from "+tokens.Host()) {
		t.Errorf("got %v, want it denied by %s", err, tokens.Host())
	}
	if _, err := repository(t, reg.Host()+"/k").Resolve(t.Context(), "v1"); !oci.Denied(err) || !strings.Contains(err.Error(), "there are none") {
		t.Errorf("anonymous: got %v, want it to say that credentials are wanted", err)
	}
}

// A token is used until shortly before it expires, and an identity token gets one by POST.
func TestTokenIsKeptAsLongAsItLives(t *testing.T) {
	reg, tokens, c := secured(t)
	now := time.Now()
	c.Retry.Now = func() time.Time { return now }
	tokens.Life = 100 * time.Second
	tokens.Identities["identity-token"] = "robot"
	path := write(t, t.TempDir()+"/auth.json", `{"auths":{"`+reg.Host()+`":{"identitytoken":"identity-token"}}}`)
	c.Keychain = oci.Keychain(path, func(string) string { return "" })
	repo, err := c.Repository(reg.Host() + "/k")
	check(t, err)
	for i, tt := range []struct {
		later  time.Duration
		tokens int
	}{{0, 1}, {80 * time.Second, 1}, {11 * time.Second, 2}} {
		now = now.Add(tt.later)
		if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
			t.Fatal(err)
		}
		if got := tokens.Requests(); len(got) != tt.tokens || got[0].Method != "POST" || strings.Contains(got[0].Path, "identity") {
			t.Errorf("step %d: got %v, want %d tokens, by POST", i, got, tt.tokens)
		}
	}
}

// R42: two accounts on one registry, each for a repository of its own: nobody
// uses the token of the other.
func TestR42EachAccountHasItsOwnTokens(t *testing.T) {
	reg, tokens, c := secured(t)
	tokens.Users = map[string]string{"a": "password-of-a", "b": "password-of-b"}
	tokens.Grants = func(user, repo, _ string) bool { return user == repo }
	path := write(t, t.TempDir()+"/auth.json", strings.ReplaceAll(`{"auths":{"H/a":{"username":"a","password":"password-of-a"},"H/b":{"username":"b","password":"password-of-b"}}}`, "H", reg.Host()))
	c.Keychain = oci.Keychain(path, func(string) string { return "" })
	f := newFixture(t, 100)
	_, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/a"}, oci.Destination{Repository: reg.Host() + "/b"})
	check(t, err)
	for _, q := range tokens.Requests() {
		r := http.Request{Header: http.Header{"Authorization": {q.Authorization}}}
		if user, _, _ := r.BasicAuth(); !strings.Contains(q.Path, "repository%3A"+user+"%3A") {
			t.Errorf("%s asked for %s", user, q.Path)
		}
	}
	repo, err := c.Repository(reg.Host() + "/c") // nobody's
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.Denied(err) {
		t.Errorf("got %v, want it denied", err)
	}
}

// A wrong password is denied, and the right one is not.
func TestBasicAuthentication(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{User: "robot", Password: "right"})
	f := newFixture(t, 10)
	for password, ok := range map[string]bool{"right": true, "wrong": false} {
		c := newClient()
		c.Keychain = oci.Keychain(authFile(t, reg.Host(), "robot", password), nil)
		_, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
		if ok && err != nil || !ok && !oci.Denied(err) {
			t.Errorf("%s: got %v", password, err)
		}
	}
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
	if !oci.Denied(err) {
		t.Errorf("anonymous: got %v, want it denied", err)
	}
}

func TestAnOutageOfTheTokenServerIsUnreachable(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(imgtest.Fault{Path: "/token", Status: 503, Body: "<html>\nno\n</html>"})
	reg.On(bearer(reg))
	repo, err := newClient().Repository(reg.Host() + "/k")
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.Unreachable(err) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v, want it unreachable, on one line", err)
	}
}
