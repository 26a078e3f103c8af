package oci_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// challenged makes the registry ask for a token of the realm.
func challenged(reg *imgtest.Registry, realm string) {
	reg.On(imgtest.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer realm="` + realm + `",service="test"`}}})
}

// robot is a client with credentials for the host.
func robot(t *testing.T, host string) *oci.Client {
	t.Helper()
	c := newClient()
	c.Keychain = oci.Keychain(authFile(t, host, "robot", password), func(string) string { return "" })
	return c
}

// secrets are what must not be seen elsewhere.
func secrets() []string {
	return []string{password, base64.StdEncoding.EncodeToString([]byte("robot:" + password))}
}

// R01, R05: a realm that is no place for a token server gets not even a connection.
func TestR01RealmInsideTheNetworkIsNotAsked(t *testing.T) {
	var connections atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.3:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
			connections.Add(1)
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	for _, realm := range []string{
		"http://169.254.169.254/token", "https://169.254.169.254/token", "https://0.0.0.0:" + port + "/token", "https://[::]:" + port + "/token",
		"https://[::ffff:169.254.169.254]/token", "https://2130706435:" + port + "/token", "https://0x7f000003:" + port + "/token",
		"https://0177.0.0.3:" + port + "/token", "https://127.3:" + port + "/token", "https://[fe80::1]/token", "ftp://127.0.0.3/token", "//127.0.0.3/token",
		"https://robot:x@127.0.0.3:" + port + "/token", "token", "", "http://registry.example/token", "http://%zz/",
	} {
		reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
		challenged(reg, realm)
		repo, err := robot(t, reg.Host()).Repository(reg.Host() + "/k")
		check(t, err)
		if _, err := repo.Resolve(t.Context(), "v1"); !oci.Malformed(err) || !strings.Contains(err.Error(), "realm") || strings.Contains(err.Error(), password) {
			t.Errorf("%s: got %v, want the realm refused", realm, err)
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("got %d connections", n)
	}
}

// R02, R03: a token server on another host gets the credentials when it is
// listed, and is asked anonymously when it is not.
func TestR03CredentialsGoToListedRealmsOnly(t *testing.T) {
	for name, listed := range map[string]bool{"listed": true, "a stranger": false} {
		t.Run(name, func(t *testing.T) {
			reg, tokens, c := secured(t)
			if !listed {
				c.TokenServers = nil
			}
			repo, err := c.Repository(reg.Host() + "/k")
			check(t, err)
			_, err = repo.Resolve(t.Context(), "v1")
			if listed && !oci.NotFound(err) || !listed && (!oci.Denied(err) || !strings.Contains(err.Error(), "--token-server "+reg.Host()+"="+tokens.Host())) {
				t.Errorf("got %v", err)
			}
			if got := tokens.Requests(); len(got) == 0 || (got[0].Authorization != "") != listed {
				t.Errorf("got %v, credentials %v", got, got[0].Authorization != "")
			}
		})
	}
}

// R04: a token server that redirects is not followed.
func TestR04TokenServerIsNotFollowed(t *testing.T) {
	elsewhere := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.3:0"})
	elsewhere.On(imgtest.Fault{Status: 200, Body: `{"token":"of-somebody-else"}`})
	for _, to := range []string{"http://" + elsewhere.Host() + "/token", "http://169.254.169.254/"} {
		reg, tokens, c := secured(t)
		tokens.On(imgtest.Fault{Status: 302, Header: http.Header{"Location": {to}}})
		repo, err := c.Repository(reg.Host() + "/k")
		check(t, err)
		if _, err := repo.Resolve(t.Context(), "v1"); !oci.Malformed(err) || !strings.Contains(err.Error(), "it is not followed") {
			t.Errorf("got %v, want the redirect refused", err)
		}
	}
	if log := elsewhere.Requests(); len(log) > 0 {
		t.Errorf("it was asked: %v", log)
	}
}

// R05: what a registry writes into service and scope stays a value.
func TestR05ServiceIsEncoded(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(imgtest.Fault{Path: "/token", Status: 200, Body: `{"token":"abc"}`})
	reg.On(imgtest.Fault{Times: 1, Status: 401, Header: http.Header{"Www-Authenticate": {
		`Bearer realm="http://` + reg.Host() + `/token?a=b#x",service="s&account=root#",scope="repository:other:*&x=y repository:k:pull,push"`,
	}}})
	repo, err := robot(t, reg.Host()).Repository(reg.Host() + "/k")
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
		t.Fatal(err)
	}
	const want = "/token?a=b&scope=repository%3Ak%3Apull&service=s%26account%3Droot%23"
	for _, q := range reg.Requests() {
		if strings.HasPrefix(q.Path, "/token") && q.Path != want {
			t.Errorf("got %s, want %s", q.Path, want)
		}
	}
}

// R06, R07: whatever a registry points at, credentials stay where they belong:
// everything else in these cases is recorded, and has seen none.
func TestCredentialsAreSeenNowhereElse(t *testing.T) {
	for name, tt := range map[string]struct {
		script func(reg *imgtest.Registry, elsewhere string)
		ok     bool
		asked  bool // elsewhere is asked for something
	}{
		"nothing":                 {func(*imgtest.Registry, string) {}, true, false},
		"redirect of blobs":       {func(reg *imgtest.Registry, to string) { reg.Redirect("http://" + to) }, true, true},
		"redirect with name":      {func(reg *imgtest.Registry, to string) { reg.Redirect("http://robot:x@" + to) }, false, false},
		"redirect to https":       {func(reg *imgtest.Registry, to string) { reg.Redirect("https://" + to) }, false, false}, // where nobody speaks TLS
		"Location elsewhere":      {locations(func(at, to string) string { return "http://" + to + at }), true, true},
		"Location without scheme": {locations(func(at, to string) string { return "//" + to + at }), true, true},
		"Location with name":      {locations(func(at, to string) string { return "http://robot:x@" + to + at }), false, false},
		"Location relative":       {locations(func(at, _ string) string { return at }), true, false},
		"Location missing":        {locations(func(string, string) string { return "" }), false, false},
		"Location inside":         {locations(func(string, string) string { return "http://169.254.169.254/x" }), false, false},
		"Link elsewhere": {func(reg *imgtest.Registry, to string) {
			reg.On(imgtest.Fault{Path: "/referrers/", Edit: func(a *imgtest.Answer) { a.Header.Set("Link", "<http://"+to+"/x>; rel=next") }})
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{User: "robot", Password: password})
			elsewhere := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.4:0"})
			f := newFixture(t, 100)
			_, err := newClient().Publish(t.Context(), oci.Release{Subject: f.index}, oci.Destination{Repository: elsewhere.Host() + "/k"})
			check(t, err) // what is redirected is there
			elsewhere.Forget()
			elsewhere.On(imgtest.Fault{Method: "PUT", Status: 201})
			tt.script(reg, elsewhere.Host())
			c := robot(t, reg.Host())
			d := v1.Descriptor{MediaType: types.OCILayer, Size: 100, Digest: digestOf(f.layers[0].body)}
			repo, err := c.Repository(reg.Host() + "/k")
			check(t, err)
			_, err = c.Publish(t.Context(), oci.Release{Subject: f.index, Tags: []string{"v1"}}, oci.Destination{Repository: reg.Host() + "/k"})
			if err == nil {
				if _, err = readAll(t, repo, d); err == nil {
					_, err = repo.Referrers(t.Context(), f.digest(t))
				}
			}
			log := elsewhere.Requests()
			// Of blobs that went elsewhere the registry itself knows nothing: its answer to the manifest is clear.
			if gone := strings.HasPrefix(name, "Location") && tt.asked; !gone && (err == nil) != tt.ok || (len(log) > 0) != tt.asked {
				t.Errorf("got %v, %d requests elsewhere", err, len(log))
			}
			for _, q := range log {
				if q.Authorization != "" {
					t.Errorf("%s had %q", q, q.Authorization)
				}
				for _, s := range secrets() {
					if strings.Contains(q.Path, s) {
						t.Errorf("%s holds credentials", q)
					}
				}
			}
		})
	}
}

// locations changes the Location of every upload.
func locations(change func(at, elsewhere string) string) func(*imgtest.Registry, string) {
	return func(reg *imgtest.Registry, to string) {
		reg.On(imgtest.Fault{Method: "POST", Path: "/blobs/uploads/", Edit: func(a *imgtest.Answer) {
			at := a.Header.Get("Location")
			a.Header.Del("Location")
			if s := change(at, to); s != "" {
				a.Header.Set("Location", s)
			}
		}})
	}
}

// R40, R43: at the highest verbosity, and in errors, neither credentials nor
// tokens nor the state of an upload are to be seen, though the registry repeats them.
func TestR43NothingSecretIsLogged(t *testing.T) {
	reg, tokens, c := secured(t)
	var log bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg.On(imgtest.Fault{Method: "PUT", Path: "/blobs/uploads/", Times: 2, Status: 503, Body: "no"})
	f := newFixture(t, 100)
	_, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
	check(t, err)
	var seen []string
	for _, q := range reg.Requests() {
		if _, state, ok := strings.Cut(q.Path, "state="); ok {
			state, _, _ = strings.Cut(state, "&")
			seen = append(seen, state)
		}
		if _, token, ok := strings.Cut(q.Authorization, " "); ok {
			seen = append(seen, token)
		}
	}
	if len(seen) < 10 || len(tokens.Requests()) == 0 {
		t.Fatalf("got %d secrets, want states and tokens", len(seen))
	}
	for _, secret := range append(seen, secrets()...) {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if text := log.String(); !strings.Contains(text, "state=REDACTED") || !strings.Contains(text, "status=201") || !strings.Contains(text, "request repeated") && !strings.Contains(text, "operation goes on") {
		t.Errorf("the log does not say what happened: %.500s", text)
	}
}
