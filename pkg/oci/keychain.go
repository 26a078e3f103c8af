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
	byteOrderMark = "\xef\xbb\xbf" // some editors, and helpers on Windows, begin with it
)

// Keychain returns the credentials that the files of docker, podman and skopeo
// hold. The files are read when credentials are needed, in this order:
//
//   - authfile, if it is not ""
//   - $REGISTRY_AUTH_FILE
//   - $CREDENTIALS_DIRECTORY/imgctl-auth.json, a credential of systemd
//   - the JSON in $DOCKER_AUTH_CONFIG
//   - $DOCKER_CONFIG/config.json
//   - the defaults: $XDG_RUNTIME_DIR/containers/auth.json,
//     $XDG_CONFIG_HOME/containers/auth.json (else ~/.config/…) and ~/.docker/config.json
//
// Of the first two, which somebody has named, and of systemd's the first that
// is given is the only one; of the others the first that has an entry for the
// registry is taken, and DOCKER_CONFIG stands for all defaults. An entry is for
// exactly its host and port, or for a repository or namespace below
// ("quay.io/poseidon", the longest wins); there are no wildcards. A file that
// cannot be read, that everybody may write, or whose helper fails is an error:
// nobody becomes anonymous by chance. getenv is [os.Getenv].
func Keychain(authfile string, getenv func(string) string) authn.Keychain {
	return &keychain{authfile: authfile, getenv: getenv, patience: helperTimeout}
}

// systemdCredential is the name of our file in systemd's $CREDENTIALS_DIRECTORY,
// as a unit has it: LoadCredential=imgctl-auth.json:/etc/imgctl/auth.json
const systemdCredential = "imgctl-auth.json"

type keychain struct {
	authfile string
	getenv   func(string) string
	patience time.Duration // with a helper
}

// Resolve implements [authn.Keychain].
func (k *keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements [authn.ContextKeychain].
func (k *keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	places, given := k.places()
	for _, p := range places {
		f, err := p.read()
		if !given && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		config, err := f.find(ctx, r.String(), k.patience)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if config != nil {
			return authn.FromConfig(*config), nil
		}
	}
	return authn.Anonymous, nil
}

// place is where credentials may be: a file, or text in the environment.
type place struct{ name, text string }

func (p place) read() (*authFile, error) {
	if p.text == "" {
		return readAuthFile(p.name)
	}
	a, err := parseAuthFile([]byte(p.text))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %s: %w", p.name, err)
	}
	return a, nil
}

// login returns the credentials that a keychain has for a repository; zero: none.
func login(ctx context.Context, k authn.Keychain, r authn.Resource) (authn.AuthConfig, error) {
	if k == nil {
		return authn.AuthConfig{}, nil
	}
	a, err := authn.Resolve(ctx, k, r)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	found, err := authn.Authorization(ctx, a)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	c, err := authEntry(*found).config()
	if c == nil || err != nil {
		return authn.AuthConfig{}, err
	}
	return *c, nil
}

// places lists where to look, and whether somebody named the place.
func (k *keychain) places() (list []place, given bool) {
	file := func(parts ...string) { list = append(list, place{name: filepath.Join(parts...)}) }
	switch {
	case k.authfile != "":
		file(k.authfile)
		return list, true
	case k.getenv("REGISTRY_AUTH_FILE") != "":
		file(k.getenv("REGISTRY_AUTH_FILE"))
		return list, true
	}
	if dir := k.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, systemdCredential)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) { // the unit may have others
			file(path)
			return list, true
		}
	}
	if text := k.getenv("DOCKER_AUTH_CONFIG"); text != "" {
		list = append(list, place{name: "DOCKER_AUTH_CONFIG", text: text})
	}
	if dir := k.getenv("DOCKER_CONFIG"); dir != "" { // docker itself does not mind one without the file
		file(dir, "config.json")
		return list, false
	}
	home, config := k.getenv("HOME"), k.getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	for _, p := range []struct{ dir, file string }{
		{k.getenv("XDG_RUNTIME_DIR"), "containers/auth.json"}, {config, "containers/auth.json"}, {home, ".docker/config.json"},
	} {
		if p.dir != "" {
			file(p.dir, p.file)
		}
	}
	return list, false
}

// authFile is config.json of docker, or auth.json of podman, as far as it is
// about credentials.
type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of user:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func readAuthFile(path string) (*authFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o002 != 0 {
		// It names programs that are run, and who may get which password.
		return nil, fmt.Errorf("read credentials: %s: everybody may write it (chmod o-w)", path)
	}
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
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
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
func (a *authFile) find(ctx context.Context, repository string, patience time.Duration) (*authn.AuthConfig, error) {
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
			return askHelper(ctx, helper, key, patience)
		}
		if e, ok := entries[key]; ok {
			if config, err := e.config(); config != nil || err != nil {
				return config, err
			}
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			if a.CredsStore != "" {
				return askHelper(ctx, a.CredsStore, key, patience)
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
func askHelper(ctx context.Context, helper, host string, patience time.Duration) (*authn.AuthConfig, error) {
	if strings.ContainsAny(helper, `/\`) {
		return nil, fmt.Errorf("credential helper %q: want a name without a path", clip(sanitize(helper)))
	}
	if host == dockerHub {
		host = authn.DefaultAuthKey
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
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
	switch {
	case out.overflow:
		return nil, fmt.Errorf("credential helper docker-credential-%s: it prints more than %d bytes", helper, maxHelper)
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("credential helper docker-credential-%s: no answer after %s", helper, patience)
	case err != nil:
		return nil, fmt.Errorf("credential helper docker-credential-%s: %w", helper, err)
	}
	var answer struct{ Username, Secret string }
	text := bytes.TrimPrefix(out.Bytes(), []byte(byteOrderMark))
	if err := json.Unmarshal(text, &answer); err != nil || answer.Secret == "" {
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
	most     int
	overflow bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		b.overflow = true
		return 0, fmt.Errorf("more than %d bytes", b.most)
	}
	return b.Buffer.Write(p)
}
