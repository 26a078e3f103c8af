package oci_test

import (
	"net/http"
	"strings"
	"testing"

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
func TestTokenThatExpiresDuringAnUploadIsRenewed(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(bearer(reg)) // the first request
	for _, path := range []string{"/blobs/uploads/", "/manifests/"} {
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

// R25: credentials that are never good enough end in one clear error.
func TestDeniedForEverEnds(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	forever := bearer(reg)
	forever.Times, forever.Path = 0, "/v2/"
	reg.On(forever)
	f := newFixture(t, 10)
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
	if !oci.Denied(err) || oci.NotFound(err) || !strings.Contains(err.Error(), reg.Host()+"/k") {
		t.Errorf("got %v, want it denied", err)
	}
	if n := len(reg.Requests()); n > 200 {
		t.Errorf("got %d requests", n)
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
