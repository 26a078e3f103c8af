package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgctl/imgctl/pkg/oci"
)

func write(t *testing.T, path, body string) string {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(body), 0o600))
	return path
}

// user resolves the user name that a keychain has for a repository; "-" is anonymous.
func user(t *testing.T, k authn.Keychain, repository string) (string, error) {
	t.Helper()
	repo, err := name.NewRepository(repository)
	check(t, err)
	a, err := k.Resolve(repo)
	if err != nil {
		return "", err
	}
	if a == authn.Anonymous {
		return "-", nil
	}
	c, err := a.Authorization()
	check(t, err)
	return c.Username, nil
}

func auths(hosts ...string) string {
	var parts []string
	for _, h := range hosts {
		parts = append(parts, fmt.Sprintf(`%q:{"username":%q,"password":"x"}`, h, "for "+h))
	}
	return `{"auths":{` + strings.Join(parts, ",") + `}}`
}

// R09, R10: credentials are for exactly their host, whatever looks like it.
func TestR09R10CredentialsAreForTheExactHost(t *testing.T) {
	k := oci.Keychain(write(t, t.TempDir()+"/a", auths("quay.io", "https://index.docker.io/v1/", "127.0.0.1:5000", "https://ghcr.io", "quay.io/poseidon")), nil)
	for repository, want := range map[string]string{
		"quay.io/a":                     "for quay.io",
		"quay.io/poseidon/kubelet":      "for quay.io/poseidon",
		"quay.io/poseidonx/kubelet":     "for quay.io",
		"docker.io/psdn/kubelet":        "for https://index.docker.io/v1/",
		"psdn/kubelet":                  "for https://index.docker.io/v1/",
		"busybox":                       "for https://index.docker.io/v1/",
		"ghcr.io/a":                     "for https://ghcr.io",
		"127.0.0.1:5000/a":              "for 127.0.0.1:5000",
		"127.0.0.1:5001/a":              "-",
		"127.0.0.2:5000/a":              "-",
		"quay.io.evil.test/a":           "-",
		"evil-quay.io/a":                "-",
		"quay.io:444/a":                 "-",
		"quay.io.:443/a":                "-",
		"docker.io.evil.test/psdn/a":    "-",
		"evil.test/quay.io/a":           "-",
		"index.docker.io.evil.test/a/b": "-",
	} {
		if got, err := user(t, k, repository); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", repository, got, err, want)
		}
	}
}

func TestAuthFilesAreTakenInOrder(t *testing.T) {
	home := t.TempDir()
	at := func(p, host string) string { return write(t, filepath.Join(home, p), auths(host)) }
	explicit, registry := at("explicit.json", "a.test"), at("registry.json", "b.test")
	at("docker/config.json", "c.test")
	at("run/containers/auth.json", "d.test")
	at("xdg/containers/auth.json", "e.test")
	at(".config/containers/auth.json", "f.test")
	at(".docker/config.json", "g.test")
	at("systemd/imgctl-auth.json", "h.test")
	all := map[string]string{
		"REGISTRY_AUTH_FILE": registry, "DOCKER_CONFIG": filepath.Join(home, "docker"), "XDG_RUNTIME_DIR": filepath.Join(home, "run"),
		"XDG_CONFIG_HOME": filepath.Join(home, "xdg"), "HOME": home,
		"CREDENTIALS_DIRECTORY": filepath.Join(home, "systemd"), "DOCKER_AUTH_CONFIG": auths("i.test"),
	}
	for _, tt := range []struct {
		authfile string
		drop     []string
		found    string // the first letters of the hosts that are known
	}{
		{explicit, nil, "a"},
		{"", nil, "b"},
		{"", []string{"REGISTRY_AUTH_FILE"}, "h"},
		{"", []string{"REGISTRY_AUTH_FILE", "CREDENTIALS_DIRECTORY"}, "ci"},
		{"", []string{"REGISTRY_AUTH_FILE", "CREDENTIALS_DIRECTORY", "DOCKER_CONFIG"}, "degi"},
		{"", []string{"REGISTRY_AUTH_FILE", "CREDENTIALS_DIRECTORY", "DOCKER_AUTH_CONFIG"}, "c"},
		{"", []string{"CREDENTIALS_DIRECTORY", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"}, "deg"},
		{"", []string{"CREDENTIALS_DIRECTORY", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"}, "fg"},
		{"", []string{"CREDENTIALS_DIRECTORY", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"}, ""},
	} {
		k := oci.Keychain(tt.authfile, func(key string) string {
			for _, d := range tt.drop {
				if d == key {
					return ""
				}
			}
			return all[key]
		})
		found := ""
		for _, c := range "abcdefghi" {
			if got, err := user(t, k, string(c)+".test/x"); err != nil {
				t.Error(err)
			} else if got != "-" {
				found += string(c)
			}
		}
		if found != tt.found {
			t.Errorf("%q without %v: found %q, want %q", tt.authfile, tt.drop, found, tt.found)
		}
	}
}

func TestAuthFileThatCannotBeUsedIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ body, want string }{
		"not JSON":             {`{"auths":{"a.test":{"auth":"c2VjcmV0`, "not the JSON"},
		"not base64":           {`{"auths":{"a.test":{"auth":"secret!"}}}`, "not the base64"},
		"no colon":             {`{"auths":{"a.test":{"auth":"c2VjcmV0"}}}`, "not the base64"},
		"too large":            {`{"auths":{}}` + strings.Repeat(" ", 1<<20), "larger than"},
		"a helper with a path": {`{"credHelpers":{"a.test":"../../bin/secret"}}`, "without a path"},
		"a mark and no more":   {"\xef\xbb\xbf{", "not the JSON"},
		"no helper":            {`{"credHelpers":{"a.test":"imgctl-test-none"}}`, "docker-credential-imgctl-test-none"},
	} {
		k := oci.Keychain(write(t, filepath.Join(dir, name), tt.body), nil)
		if _, err := user(t, k, "a.test/x"); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if _, err := user(t, oci.Keychain(filepath.Join(dir, "absent"), nil), "a.test/x"); err == nil {
		t.Error("a file that was named and is not there: want an error")
	}
	for name, body := range map[string]string{"BOM": "\xef\xbb\xbf" + auths("a.test"), "auth": `{"auths":{"a.test":{"auth":"Zm9yIGEudGVzdDp4"}}}`} {
		if got, err := user(t, oci.Keychain(write(t, filepath.Join(dir, name), body), nil), "a.test/x"); err != nil || got != "for a.test" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	open := write(t, filepath.Join(dir, "open"), auths("a.test"))
	check(t, os.Chmod(open, 0o666))
	if _, err := user(t, oci.Keychain(open, nil), "a.test/x"); err == nil || !strings.Contains(err.Error(), "everybody may write it") {
		t.Errorf("got %v, want it refused", err)
	}
	if got, err := user(t, oci.Keychain(write(t, filepath.Join(dir, "empty"), ""), nil), "a.test/x"); err != nil || got != "-" {
		t.Errorf("empty: got %q, %v", got, err)
	}
}

// C06: a helper is asked for its host only, and its answer is bounded.
func TestC06CredentialHelper(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for helper, script := range map[string]string{
		"good":    `read h; echo '{"ServerURL":"'$h'","Username":"helped '$h'","Secret":"s"}'`,
		"none":    `echo "credentials not found in native keychain"; exit 1`,
		"broken":  `echo "secret-on-stdout"; exit 1`,
		"huge":    `yes secret | head -c 10000000`,
		"strange": `echo '<html>secret'`,
		"marked":  `read h; printf '\357\273\277{"Username":"helped %s","Secret":"s"}' "$h"`,
	} {
		check(t, os.WriteFile(filepath.Join(bin, "docker-credential-"+helper), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
		for _, where := range []string{`{"credHelpers":{"a.test":%q}}`, `{"credsStore":%q}`} {
			got, err := user(t, oci.Keychain(write(t, filepath.Join(bin, "auth"), fmt.Sprintf(where, helper)), nil), "a.test/x")
			switch helper {
			case "good", "marked":
				if err != nil || got != "helped a.test" {
					t.Errorf("%s: got %q, %v", helper, got, err)
				}
			case "none":
				if err != nil || got != "-" {
					t.Errorf("%s: got %q, %v; want anonymous", helper, got, err)
				}
			default:
				if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "docker-credential-"+helper) {
					t.Errorf("%s: got %q, %v; want an error that names it", helper, got, err)
				}
			}
		}
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add([]byte(auths("a.test", "https://index.docker.io/v1/")), "a.test/x")
	f.Add([]byte(`{"auths":{"a.test":{"auth":"Zm9yIGEudGVzdDp4"}}}`), "a.test/x/y")
	f.Add([]byte(`{"auths":null,"credsStore":"a/b"}`), "busybox")
	f.Fuzz(func(t *testing.T, body []byte, repository string) {
		repo, err := name.NewRepository(repository)
		if err != nil || strings.Contains(string(body), "cred") { // no helper is run here
			return
		}
		path := filepath.Join(t.TempDir(), "auth")
		check(t, os.WriteFile(path, body, 0o600))
		oci.Keychain(path, nil).Resolve(repo) // whatever it says, it must not fall over
	})
}
