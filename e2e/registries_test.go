//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/lab"
	"github.com/imgctl/imgctl/internal/peers"
)

// registries are the three kinds that imgctl's users have, each on an address of
// its own, and the environment of a user who knows their passwords.
type registries struct {
	all      []*site
	authFile string // of docker and podman alike
	ca       string
	user     string
	password string
	env      []string
	tokens   *imgtest.TokenServer
	work     string                   // directory of the user
	released map[string]*lab.Released // by prefix: a bundle names its image, and so has another digest
}

// site is one registry.
type site struct {
	name     string // as docs/interop.md calls it
	addr     string
	plain    bool            // it has no TLS
	requests func() []string // that it has answered
}

// startRegistries starts them.
//
//	127.0.0.3  distribution 3         TLS   user and password
//	127.0.0.4  docker-registry 2.8    TLS   tokens of a server at localhost
//	127.0.0.6  olareg                 -     open
func startRegistries(t *testing.T) *registries {
	t.Helper()
	dir := t.TempDir()
	ca := imgtest.NewAuthority(t, dir)
	r := &registries{ca: ca.File, user: "robot", password: rand.Text(), authFile: filepath.Join(dir, "config.json"), released: map[string]*lab.Released{}}
	r.all = []*site{r.distribution(t, ca), r.dockerRegistry(t, ca), olareg(t)}

	login := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(r.user + ":" + r.password))}
	auths, err := json.Marshal(map[string]any{"auths": map[string]any{r.all[0].addr: login, r.all[1].addr: login}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.authFile, auths, 0o600); err != nil {
		t.Fatal(err)
	}
	r.env = []string{"HOME=" + t.TempDir(), "SSL_CERT_FILE=" + ca.File, "DOCKER_CONFIG=" + dir, "REGISTRY_AUTH_FILE=" + r.authFile,
		"HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=localhost,127.0.0.0/8"}
	return r
}

func (r *registries) distribution(t *testing.T, ca *imgtest.Authority) *site {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(r.password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return runRegistry(t, "distribution 3", program(t, peers.Distribution()), "127.0.0.3", ca, peers.RegistryOptions{
		Htpasswd: write(t, "htpasswd", r.user+":"+string(hash)+"\n"),
	})
}

// dockerRegistry is Debian 12's. Its token server is called by a name: clients
// made with go-containerregistry ask none at a private address.
func (r *registries) dockerRegistry(t *testing.T, ca *imgtest.Authority) *site {
	t.Helper()
	cert, _, _ := ca.Issue(t, "tokens", "localhost")
	r.tokens = imgtest.StartTokenServerTLS(t, "127.0.0.1:0", cert)
	r.tokens.Users[r.user] = r.password
	dir := unpackDebian(t, "bookworm", func(ix *deb.Index) ([]deb.Package, error) { return ix.Only([]string{"docker-registry"}) })
	return runRegistry(t, "docker-registry 2.8", filepath.Join(dir, "usr/bin/docker-registry"), "127.0.0.4", ca, peers.RegistryOptions{
		Token: &peers.RegistryToken{Realm: "https://" + r.tokenHost() + "/token", Service: imgtest.TokenService, Issuer: imgtest.TokenIssuer, CA: ca.File},
	})
}

// tokenHost is how docker-registry calls its token server.
func (r *registries) tokenHost() string {
	return strings.Replace(r.tokens.Host(), "127.0.0.1", "localhost", 1)
}

func olareg(t *testing.T) *site {
	t.Helper()
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.6:0"})
	return &site{name: "olareg", addr: reg.Host(), plain: true, requests: func() (list []string) {
		for _, q := range reg.Requests() {
			list = append(list, q.String())
		}
		return list
	}}
}

// runRegistry runs a registry with TLS for as long as the test.
func runRegistry(t *testing.T, name, program, host string, ca *imgtest.Authority, o peers.RegistryOptions) *site {
	t.Helper()
	_, cert, key := ca.Issue(t, host, host)
	o.TLS = peers.TLSFiles{CA: ca.File, Cert: cert, Key: key}
	reg, err := peers.StartRegistry(t.Context(), program, host+":0", t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &site{name: name, addr: reg.Addr, requests: func() []string {
		list, err := reg.Requests()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}}
}

// imgctl prepares a run of imgctl by the user.
func (r *registries) imgctl(t *testing.T, args ...string) *exec.Cmd {
	cmd := shared.Command(t.Context(), append(args, "--token-server", r.all[1].addr+"="+r.tokenHost())...)
	cmd.Dir, cmd.Env = r.work, append(cmd.Env, r.env...)
	return cmd
}

// command prepares a run of another program by the user.
func (r *registries) command(t *testing.T, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), r.env...)
	return cmd
}

// release publishes the lab's image and bundle below prefix at each registry, with
// settings more in release.yaml.
func (r *registries) release(t *testing.T, prefix, more string) {
	t.Helper()
	r.work = filepath.Join(t.TempDir(), prefix)
	if err := shared.CopyTo(r.work, prefix); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(r.work, "images/kubelet") // the lab's own: in a copy names are replaced
	remove(t, image)
	if err := os.CopyFS(image, os.DirFS(shared.at("images/kubelet"))); err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer(
		shared.Registries[0].Addr+"/", r.all[0].addr+"/", shared.Registries[1].Addr+"/", r.all[1].addr+"/",
		"- repository: oci:dist/kubelet", "- repository: "+r.all[2].addr+"/"+prefix+"/kubelet",
		"/kubelet]", "/kubelet, "+r.all[2].addr+"/"+prefix+"/kubelet]", "-bundle]", "-bundle, "+r.all[2].addr+"/"+prefix+"/kubelet-bundle]",
		"\npolicy: ", "\n"+more+"policy: ")
	err := filepath.WalkDir(r.work, func(path string, d fs.DirEntry, err error) error {
		if path == image {
			return fs.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(names.Replace(string(data))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	output(t, r.imgctl(t, "release"))
	if r.released[prefix], err = lab.ReadReleased(r.work); err != nil {
		t.Fatal(err)
	}
	if got, want := r.released[prefix].Image().Digest, shared.Released.Image().Digest; got != want {
		t.Fatalf("got image %s, want that of the lab's release, %s", got, want)
	}
}

// push brings what was released to repositories below another prefix, unsigned.
func (r *registries) push(t *testing.T, from, prefix string) {
	t.Helper()
	r.released[prefix] = r.released[from]
	for _, s := range r.all {
		output(t, r.imgctl(t, "push", r.ref(s, from, rowIndex), s.image(prefix)))
		output(t, r.imgctl(t, "push", r.ref(s, from, rowBundle), s.image(prefix)+"-bundle"))
	}
}

// image is the name of what was released below prefix.
func (s *site) image(prefix string) string { return fmt.Sprintf("%s/%s/kubelet", s.addr, prefix) }
