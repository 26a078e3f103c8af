package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

func get(t *testing.T, w *wire, host string) (*http.Response, error) {
	t.Helper()
	return w.RoundTrip(httptest.NewRequest("GET", "https://"+host+"/v2/", nil))
}

// A dead host costs its penalty once; later one request looks again.
func TestDeadHostIsNotAskedAgainForAWhile(t *testing.T) {
	for name, dead := range map[string]error{
		"black hole": &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, "refused": syscall.ECONNREFUSED, "silent": &stallError{time.Second},
	} {
		attempts, now, down := 0, time.Now(), true
		w := patient(func(req *http.Request) (*http.Response, error) {
			attempts++
			if down && req.URL.Host == "a.test" {
				return nil, dead
			}
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
		w.next.(*breaker).now = func() time.Time { return now }
		_, first := get(t, w, "a.test")
		cost := attempts
		_, again := get(t, w, "a.test")
		if !errors.Is(first, dead) || !errors.Is(again, dead) || attempts != cost || !strings.Contains(again.Error(), "not asked again") {
			t.Errorf("%s: got %v, then %v after %d attempts more", name, first, again, attempts-cost)
		}
		if _, err := get(t, w, "b.test"); err != nil {
			t.Errorf("%s: another host: %v", name, err)
		}
		now, down = now.Add(cooldown+1), false
		if _, err := get(t, w, "a.test"); err != nil {
			t.Errorf("%s: after a while: %v", name, err)
		}
		if _, err := get(t, w, "a.test"); err != nil {
			t.Errorf("%s: and then: %v", name, err)
		}
	}
}

// What says nothing about a host does not count against it.
func TestHostThatAnswersIsAskedAgain(t *testing.T) {
	for name, err := range map[string]error{"refused by us": badContent("a", "b", "c"), "bad content": &DigestError{}, "cut": io.EOF, "given up": context.Canceled} {
		ctx, cancel := context.WithCancel(t.Context())
		attempts := 0
		w := patient(func(req *http.Request) (*http.Response, error) {
			attempts++
			if name == "given up" {
				cancel()
			}
			return nil, err
		})
		w.RoundTrip(httptest.NewRequest("GET", "https://a.test/", nil).WithContext(ctx))
		before := attempts
		if get(t, w, "a.test"); attempts == before {
			t.Errorf("%s: not asked again", name)
		}
		cancel()
	}
}

// A host is not asked faster than it says, or than we were told.
func TestHostIsAskedAtItsPace(t *testing.T) {
	now := time.Now()
	var waited time.Duration
	c := &Client{Rate: 10, Retry: Retry{Tries: 1, Now: func() time.Time { return now }, Wait: func(_ context.Context, d time.Duration) error { waited += d; now = now.Add(d); return nil }}}
	header := http.Header{}
	c.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: header, Body: http.NoBody, Request: req}, nil
	})
	w := c.newWire()
	for range 20 {
		get(t, w, "a.test")
	}
	if waited < 900*time.Millisecond || waited > 1100*time.Millisecond {
		t.Errorf("20 requests at 10 a second: waited %v, want the second for those beyond the burst", waited)
	}
	header = http.Header{"Ratelimit-Limit": {"2;w=1"}, "Ratelimit-Remaining": {"0;w=1"}}
	get(t, w, "a.test")
	waited = 0
	for range 4 {
		get(t, w, "a.test")
	}
	if waited < 1900*time.Millisecond {
		t.Errorf("4 requests at the 2 a second that it announced: waited %v", waited)
	}
	c.network = w
	if q, ok := c.Quota("a.test"); !ok || q != (Quota{Limit: 2, Window: time.Second}) {
		t.Errorf("got %+v, %v", q, ok)
	}
	if _, ok := c.Quota("b.test"); ok {
		t.Error("a host that was not asked has a quota")
	}
}

func FuzzQuota(f *testing.F) {
	f.Add("100;w=21600", "76;w=21600", "")
	f.Add("10, 10;w=1;burst=1000, 100;w=60", "9", "5")
	f.Add("-1", "99999999999999999999", ";;,,w=")
	f.Fuzz(func(t *testing.T, limit, remaining, reset string) {
		q, ok := parseQuota(http.Header{"Ratelimit-Limit": {limit}, "Ratelimit-Remaining": {remaining}, "Ratelimit-Reset": {reset}})
		if ok && (q.Limit <= 0 || q.Remaining < 0 || q.Remaining > q.Limit || q.Window < 0) {
			t.Errorf("got %+v", q)
		}
	})
}

func FuzzUploadRange(f *testing.F) {
	for _, s := range []string{"0-99", "bytes=0-99", "bytes=0--1", "0--1", "0-0", "", "0-", "1-2", "0-99999999999999999999", "bytes 0-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseUploadRange(s); n < 0 || n > maxBlob || !ok && n != 0 {
			t.Errorf("%q: got %d, %v", s, n, ok)
		}
	})
}

// R26: the forms that registries have for "so much is here".
func TestR26RangeOfAnUploadIsReadInEveryForm(t *testing.T) {
	for s, want := range map[string]int64{
		"0-99": 100, "bytes=0-99": 100, " 0-99 ": 100, "bytes=0--1": 0, "0--1": 0, "0-0": 0, "0-1": 2,
		"": -1, "0-": -1, "1-99": -1, "0-1-2": -1, "0--2": -1, "99": -1, "0-0x10": -1, "0-99999999999999999999": -1, "bytes 0-99/100": -1,
	} {
		n, ok := parseUploadRange(s)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: got %d, want %d", s, n, want)
		}
	}
}

func TestChallengesAreRead(t *testing.T) {
	for header, want := range map[string]string{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"`: `bearer https://auth.docker.io/token registry.docker.io repository:a/b:pull,push`,
		`bEaReR realm=https://a.test/t , service = "a \"b\", c"`:                                                    `bearer https://a.test/t a "b", c `,
		`Basic realm="x", Bearer realm="https://a.test"`:                                                            `bearer https://a.test  `,
		`Basic realm="x"`:            `basic x  `,
		`Basic`:                      `basic   `,
		`Bearer realm="a",realm="b"`: "",
		`Bearer realm="a`:            "",
		`Negotiate, NTLM`:            "",
		``:                           "",
		`=`:                          "",
		`Bearer realm="a", Bearer realm="second"`: `bearer a  `,
	} {
		got := ""
		if c, ok := choose(parseChallenges([]string{header})); ok {
			got = c.scheme + " " + c.params["realm"] + " " + c.params["service"] + " " + c.params["scope"]
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`)
	f.Add(`Basic realm="\"", x=, Bearer`)
	f.Fuzz(func(t *testing.T, header string) {
		all := parseChallenges([]string{header, header})
		if len(all) > maxChallenges {
			t.Errorf("got %d challenges", len(all))
		}
		for _, c := range all {
			u, trusted, err := (realms{plain: func(string) bool { return false }}).check("quay.io", c.params["realm"])
			if err == nil && (u.Scheme != "https" || u.User != nil || u.Host == "") || err != nil && (trusted || strings.ContainsAny(err.Error(), "\n\x1b")) {
				t.Errorf("realm %q: got %v, %v, %v", c.params["realm"], u, trusted, err)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"token":"abc","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"access_token":"a\r\nb","expires_in":-1e400}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Unix(1_800_000_000, 0)
		token, err := parseToken(body, now)
		if err == nil && (token.value == "" || strings.ContainsAny(token.value, " \r\n\x00") || token.expires.Before(now) || token.expires.After(now.Add(25*time.Hour))) {
			t.Errorf("%s: got %+v", body, token)
		}
	})
}

// R02, R03, R09: which token servers get a registry's credentials.
func TestR02RealmsThatARegistryMayName(t *testing.T) {
	r := realms{plain: isLoopback, listed: map[string][]string{"https://quay.io": {"login.example:8443"}, "docker.io": {"hub.example"}}}
	for _, tt := range []struct {
		registry, realm string
		want            string // trusted, stranger or refused
	}{
		{"index.docker.io", "https://auth.docker.io/token", "trusted"},
		{"index.docker.io", "https://hub.example/token", "trusted"},
		{"quay.io", "https://quay.io/v2/auth", "trusted"},
		{"quay.io", "https://QUAY.IO/v2/auth", "trusted"},
		{"quay.io", "https://quay.io:8443/v2/auth", "trusted"},
		{"quay.io", "https://login.example:8443/", "trusted"},
		{"quay.io", "https://login.example/", "stranger"},
		{"registry.gitlab.com", "https://gitlab.com/jwt/auth", "trusted"},
		{"registry.example.co.uk", "https://auth.example.co.uk/", "trusted"},
		{"registry.example.co.uk", "https://other.co.uk/", "stranger"},
		{"a.github.io", "https://b.github.io/token", "stranger"},
		{"quay.io", "https://quay.io.evil.test/", "stranger"},
		{"quay.io", "https://evil-quay.io/", "stranger"},
		{"quay.io", "https://quay.io./", "stranger"},
		{"10.0.0.7:5000", "https://10.0.0.7/token", "trusted"},
		{"10.0.0.7:5000", "https://10.0.0.8/token", "stranger"},
		{"127.0.0.1:5000", "http://127.0.0.1:5001/token", "trusted"},
		{"127.0.0.1:5000", "http://127.0.0.2:5001/token", "stranger"},
		{"localhost:5000", "http://127.0.0.1:5001/token", "stranger"},
		{"quay.io", "http://quay.io/v2/auth", "refused"},
		{"quay.io", "https://quay.io@evil.test/", "refused"},
		{"quay.io", "https://127.0.0.1/", "refused"},
		{"quay.io", "https://localhost/", "refused"},
		{"quay.io", "https://a.localhost/", "refused"},
		{"quay.io", "https://[::ffff:127.0.0.1]/", "refused"},
		{"quay.io", "https://[::1]/", "refused"},
		{"quay.io", "https://[::]/", "refused"},
		{"quay.io", "https://0.0.0.0/", "refused"},
		{"quay.io", "https://169.254.169.254/", "refused"},
		{"quay.io", "https://2130706433/", "refused"},
		{"quay.io", "https://0x7f.1/", "refused"},
		{"quay.io", "https://017700000001/", "refused"},
		{"quay.io", "https://127.1./", "refused"},
	} {
		_, trusted, err := r.check(tt.registry, tt.realm)
		got := "stranger"
		if err != nil {
			got = "refused"
		} else if trusted {
			got = "trusted"
		}
		if got != tt.want {
			t.Errorf("%s names %s: got %s, %v; want %s", tt.registry, tt.realm, got, err, tt.want)
		}
	}
}

// R01: a name is checked again by what it turns out to stand for, when it is dialed.
func TestR01NameThatStandsForThisMachineIsNotDialed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	address := "localhost:" + port // a name as any other, to a dialer
	dial := dialer(&net.Dialer{})
	for name, tt := range map[string]struct {
		f  foreign
		ok bool
	}{
		"named by a registry elsewhere":   {foreign{address: address}, false},
		"named by a registry on loopback": {foreign{address: address, loopback: true}, true},
		"named by nobody":                 {foreign{}, true},
		"through a proxy":                 {foreign{address: "auth.example:443"}, true},
	} {
		conn, err := dial(context.WithValue(t.Context(), foreignKey{}, tt.f), "tcp4", address)
		if (err == nil) != tt.ok || !tt.ok && !Malformed(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	for _, ip := range []string{"169.254.169.254:80", "0.0.0.0:80", "[::]:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80"} {
		if err := (foreign{address: "a.test:80", loopback: true}).check(ip); err == nil {
			t.Errorf("%s may be dialed", ip)
		}
	}
}

// R43: of an address is shown what grants nothing.
func TestR43AddressesAreShownWithoutSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@cdn.test/x?X-Amz-Signature=abc&digest=sha256:1": "https://cdn.test/x?X-Amz-Signature=REDACTED&digest=sha256:1",
		"https://a.test/v2/k/blobs/uploads/uuid?_state=abc":          "https://a.test/v2/k/blobs/uploads/REDACTED?_state=REDACTED",
		"https://a.test/v2/k/manifests/v1":                           "https://a.test/v2/k/manifests/v1",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := safeURL(u); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := scrub("failed at " + in + " today"); got != "failed at "+want+" today" {
			t.Errorf("in a text: got %s", got)
		}
	}
	if got := scrub(`bad Location "/x?_state=abcdef" Bearer abcdefghijklmnopqrstuvwxyz`); strings.Contains(got, "abcdef") {
		t.Errorf("got %s", got)
	}
}

// R04: a token server's answer is bounded, as every other.
func TestTokenAnswerIsBounded(t *testing.T) {
	body := `{"token":"abc","x":"` + strings.Repeat("x", maxToken) + `"}`
	w := patient(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	})
	realm := &url.URL{Scheme: "https", Host: "a.test", Path: "/token"}
	if _, err := w.fetchToken(t.Context(), realm, tokenKey{registry: "a.test"}); !Malformed(err) {
		t.Errorf("got %v, want it refused", err)
	}
	body = `{"token":"abc"}`
	if got, err := w.fetchToken(t.Context(), realm, tokenKey{registry: "a.test"}); err != nil || got.value != "abc" {
		t.Errorf("got %v, %v", got, err)
	}
}

// C06: a helper that hangs is given up, by name.
func TestC06HelperThatHangs(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	path := filepath.Join(bin, "auth.json")
	for name, body := range map[string]string{
		"docker-credential-hangs": "#!/bin/sh\nexec sleep 60\n", "auth.json": `{"credsStore":"hangs"}`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	k := &keychain{authfile: path, patience: 10 * time.Millisecond}
	_, err := k.Resolve(resource("a.test/x"))
	if err == nil || !strings.Contains(err.Error(), "docker-credential-hangs: no answer after 10ms") {
		t.Errorf("got %v, want it given up", err)
	}
}

type resource string

func (r resource) String() string      { return string(r) }
func (r resource) RegistryStr() string { return string(r) }

var _ authn.Resource = resource("")
