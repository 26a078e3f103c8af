package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

const (
	maxAuthFile   = 1 << 20
	maxHelper     = 64 << 10 // of what a credential helper prints
	helperTimeout = 15 * time.Second
)

// Keychain returns the credentials that the files of docker, podman and skopeo
// hold. The files are read when credentials are needed, in this order:
//
//   - authfile, if it is not ""
//   - $REGISTRY_AUTH_FILE
//   - $DOCKER_CONFIG/config.json
//   - the defaults: $XDG_RUNTIME_DIR/containers/auth.json,
//     $XDG_CONFIG_HOME/containers/auth.json (else ~/.config/…) and ~/.docker/config.json
//
// The first that is given is the only one, and must be there; of the defaults
// the first that has an entry for the registry is taken. An entry is for
// exactly its host and port, or for a repository or namespace below ("quay.io/poseidon",
// the longest wins); there are no wildcards. getenv is [os.Getenv].
func Keychain(authfile string, getenv func(string) string) authn.Keychain {
	return &keychain{authfile: authfile, getenv: getenv}
}

type keychain struct {
	authfile string
	getenv   func(string) string
}

// Resolve implements [authn.Keychain].
func (k *keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements [authn.ContextKeychain].
func (k *keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	files, given := k.files()
	for _, path := range files {
		f, err := readAuthFile(path)
		if !given && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		config, err := f.find(ctx, r.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if config != nil {
			return authn.FromConfig(*config), nil
		}
	}
	return authn.Anonymous, nil
}

// files lists where to look, and whether somebody named the place.
func (k *keychain) files() (paths []string, given bool) {
	switch {
	case k.authfile != "":
		return []string{k.authfile}, true
	case k.getenv("REGISTRY_AUTH_FILE") != "":
		return []string{k.getenv("REGISTRY_AUTH_FILE")}, true
	case k.getenv("DOCKER_CONFIG") != "":
		// docker itself does not mind a directory without the file.
		return []string{filepath.Join(k.getenv("DOCKER_CONFIG"), "config.json")}, false
	}
	home, config := k.getenv("HOME"), k.getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	for _, p := range []struct{ dir, file string }{
		{k.getenv("XDG_RUNTIME_DIR"), "containers/auth.json"}, {config, "containers/auth.json"}, {home, ".docker/config.json"},
	} {
		if p.dir != "" {
			paths = append(paths, filepath.Join(p.dir, p.file))
		}
	}
	return paths, false
}

// authFile is config.json of docker, or auth.json of podman, as far as it is
// about credentials.
type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func readAuthFile(path string) (*authFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAuthFile+1))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	a, err := parseAuthFile(data)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %s: %w", path, err)
	}
	return a, nil
}

// parseAuthFile says what is wrong with a file without quoting any of it.
func parseAuthFile(data []byte) (*authFile, error) {
	if len(data) > maxAuthFile {
		return nil, fmt.Errorf("larger than %d bytes", maxAuthFile)
	}
	var a authFile
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(data)) == 0 {
		return &a, nil // podman leaves an empty file after the last logout
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, errors.New("not the JSON of docker's config.json")
	}
	return &a, nil
}

// find returns the credentials for a repository, nil if there are none: of the
// repository itself, its namespaces, and last its host.
func (a *authFile) find(ctx context.Context, repository string) (*authn.AuthConfig, error) {
	entries := make(map[string]authEntry, len(a.Auths))
	for key, e := range a.Auths {
		entries[authKey(key)] = e
	}
	helpers := make(map[string]string, len(a.CredHelpers))
	for key, helper := range a.CredHelpers {
		helpers[authKey(key)] = helper
	}
	for key := authKey(repository); ; {
		if helper := helpers[key]; helper != "" {
			return askHelper(ctx, helper, key)
		}
		if e, ok := entries[key]; ok {
			if config, err := e.config(); config != nil || err != nil {
				return config, err
			}
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			if a.CredsStore != "" {
				return askHelper(ctx, a.CredsStore, key)
			}
			return nil, nil
		}
		key = key[:i]
	}
}

// authKey brings the spellings of a host together: with a scheme, with the
// version of the API behind it, and the many names of Docker Hub.
func authKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	for _, version := range []string{"/v1", "/v2"} {
		if host, ok := strings.CutSuffix(key, version); ok && !strings.Contains(host, "/") {
			key = host
		}
	}
	host, path, deeper := strings.Cut(key, "/")
	if host == name.DefaultRegistry || host == "registry-1.docker.io" || host == "registry.hub.docker.com" {
		host = dockerHub
	}
	if deeper {
		return host + "/" + path
	}
	return host
}

// config returns the entry's credentials, nil for an empty one, which is what
// docker writes where a helper has them.
func (e authEntry) config() (*authn.AuthConfig, error) {
	c := authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(e.Auth)
		user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		if err != nil || !ok {
			return nil, errors.New("an auth entry is not the base64 of user:password")
		}
		c.Username, c.Password = user, password
	}
	if c == (authn.AuthConfig{}) {
		return nil, nil
	}
	return &c, nil
}

// askHelper runs docker-credential-<helper>, which gets the host on its input
// and prints the credentials as JSON.
func askHelper(ctx context.Context, helper, host string) (*authn.AuthConfig, error) {
	if strings.ContainsAny(helper, `/\`) {
		return nil, fmt.Errorf("credential helper %q: want a name without a path", clip(sanitize(helper)))
	}
	if host == dockerHub {
		host = authn.DefaultAuthKey
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	out := &bounded{most: maxHelper}
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, "get")
	cmd.Stdin = strings.NewReader(host)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	err := cmd.Run()
	if err != nil && strings.Contains(out.String(), "credentials not found") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credential helper docker-credential-%s: %w", helper, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.Secret == "" {
		return nil, fmt.Errorf("credential helper docker-credential-%s: its answer is not what one is", helper)
	}
	if answer.Username == "<token>" {
		return &authn.AuthConfig{IdentityToken: answer.Secret}, nil
	}
	return &authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, nil
}

// bounded is a buffer that refuses to grow beyond most bytes.
type bounded struct {
	bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, fmt.Errorf("more than %d bytes", b.most)
	}
	return b.Buffer.Write(p)
}
