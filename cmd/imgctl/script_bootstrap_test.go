package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"
)

// listenersKey is where the addresses are that a script has taken.
type listenersKey struct{}

// takeAddress is "endpoint NAME": it sets $NAME to a HOST:PORT that nobody else uses.
func takeAddress(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Value(listenersKey{}).(map[string]net.Listener)[args[0]] = l
	ts.Setenv(args[0], l.Addr().String())
}

// startAPIServer is "apiserver NAME DIR": an API server at $NAME answers with the
// certificate and the cluster-info of the directory, as it is when it is asked.
func startAPIServer(ts *testscript.TestScript, _ bool, args []string) {
	l := ts.Value(listenersKey{}).(map[string]net.Listener)[args[0]]
	srv, err := serveClusterInfo(l, ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Defer(srv.Close)
}

// makeAgeKey is "agekey FILE NAME": it makes the key of a machine and sets $NAME to its public half.
func makeAgeKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(key.String()+"\n"), 0o600))
	ts.Setenv(args[1], key.Recipient().String())
}

// setPin is "pin NAME FILE": it sets $NAME to the first pin in FILE.
func setPin(ts *testscript.TestScript, _ bool, args []string) {
	pin := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(ts.ReadFile(args[1]))
	if pin == "" {
		ts.Fatalf("no pin in %s", args[1])
	}
	ts.Setenv(args[0], pin)
}

func serveClusterInfo(l net.Listener, dir string) (*httptest.Server, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "pki/apiserver.crt"), filepath.Join(dir, "pki/apiserver.key"))
	if err != nil {
		return nil, err
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		manifest, err := os.ReadFile(filepath.Join(dir, "manifests/cluster-info.yaml"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		document, err := yaml.YAMLToJSON(manifest)
		if err != nil || r.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		w.Write(document)
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	return srv, nil
}

// session runs imgctl in this process and keeps everything that it prints.
type session struct {
	t       *testing.T
	dir     string
	printed bytes.Buffer
	args    []string
}

func (s *session) run(stdin string, want int, args ...string) {
	s.t.Helper()
	var out bytes.Buffer
	if got := run(args, strings.NewReader(stdin), &out, &out); got != want {
		s.t.Fatalf("%v ended with %d, want %d: %s", args, got, want, out.String())
	}
	s.printed.Write(out.Bytes())
	s.args = append(s.args, args...)
}

// file writes a file that only its owner may read, and returns its path.
func (s *session) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// K04: of all that is made, nothing secret is printed by any verb that succeeds
// or fails, as text, as JSON or with --debug, nor is it in a file's name or an argument.
func TestK04NoSecretIsPrintedByAnyBootstrapVerb(t *testing.T) {
	t.Setenv("IMGCTL_BOOTSTRAP_TOKEN", "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &session{t: t, dir: t.TempDir()}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(s.dir, "secrets")
	token := s.makeCluster(secrets, l.Addr().String(), key.Recipient().String())
	s.join(secrets, token, l)
	s.open(filepath.Join(secrets, "sealed/controller.age"), key.String())

	seen := s.printed.String() + strings.Join(s.args, " ")
	looked := []string{key.String(), token[7:]}
	err = filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
		seen += " " + path
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		looked = append(looked, secretsOf(t, body)...)
		return err
	})
	if err != nil || len(looked) < 25 {
		t.Fatalf("found %d secrets to look for (%v), want 25 or more", len(looked), err)
	}
	for _, secret := range looked {
		for name, form := range formsOf(t, secret) {
			if strings.Contains(seen, form) {
				t.Errorf("%.6s… is printed (%s)", secret, name)
			}
		}
	}
}

// What is an argument, every process of the machine sees; what others may read, they do.
func TestK05ATokenIsNoArgumentAndItsFileIsItsOwnersAlone(t *testing.T) {
	t.Setenv("IMGCTL_BOOTSTRAP_TOKEN", "")
	s := &session{t: t, dir: t.TempDir()}
	secrets := filepath.Join(s.dir, "secrets")
	s.run("", 0, "bootstrap", "init", s.file("cluster.yaml", bootstrapCluster), "-o", secrets)
	info := filepath.Join(secrets, "manifests/cluster-info.yaml")
	config, err := os.ReadFile(filepath.Join(secrets, "bootstrap-kubelet.conf"))
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`[a-z0-9]{6}\.[a-z0-9]{16}`).FindString(string(config))
	file := s.file("token", token)
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o400: 0, 0o640: 2, 0o604: 2, 0o644: 2, 0o610: 2, 0o601: 2} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		s.run("", want, "bootstrap", "token", "verify", info, "--token-file", file)
	}
	s.run(token, 0, "bootstrap", "token", "verify", info, "--token-file", "-")
	for _, args := range [][]string{{token}, {info, token}, {info, "--token-file", token}, {info, "--token", token}, {info, "--token=" + token}, {info, "--token-file=" + token}} {
		s.run("", 2, append([]string{"bootstrap", "token", "verify"}, args...)...)
	}
	if strings.Contains(s.printed.String(), token[7:]) {
		t.Error("the token is repeated in an error")
	}
}

// makeCluster uses every verb of the one who makes a cluster, and returns a token of it.
func (s *session) makeCluster(secrets, endpoint, recipient string) string {
	s.t.Helper()
	cluster := s.file("cluster.yaml", strings.Replace(bootstrapCluster, "api.example.com:6443", endpoint, 1))
	info := filepath.Join(secrets, "manifests/cluster-info.yaml")
	s.run("", 0, "bootstrap", "init", cluster, "-o", secrets, "--seal", recipient, "--debug")
	s.run("", 0, "bootstrap", "init", cluster, "-o", secrets, "--renew", "admin", "--json")
	s.run("", 0, "bootstrap", "token", "create", secrets, "-o", "json")
	s.run("", 0, "bootstrap", "token", "rotate", secrets)
	config, err := os.ReadFile(filepath.Join(secrets, "bootstrap-kubelet.conf"))
	if err != nil {
		s.t.Fatal(err)
	}
	token := regexp.MustCompile(`[a-z0-9]{6}\.[a-z0-9]{16}`).FindString(string(config))
	s.run("", 0, "bootstrap", "token", "sign", info, "--token-file", s.file("token", token+"\n"))
	s.run(token, 0, "bootstrap", "token", "verify", info, "--token-file", "-", "-o", "json")
	s.run("", 12, "bootstrap", "token", "verify", info, "--token-file", s.file("wrong", token[:7]+"0123456789abcdef"), "--json")
	s.run("", 2, "bootstrap", "token", "verify", info, "--token-file", s.file("mistyped", token+"0"), "--json")
	before := len(s.args)
	s.run("", 2, "bootstrap", "token", "verify", token)
	s.run("", 2, "bootstrap", "token", "verify", info, "--token-file", token)
	s.run("", 2, "bootstrap", "discover", token)
	s.args = s.args[:before] // it was the caller who gave the token there; it must not be repeated
	return token
}

// join uses the verb of a joining machine.
func (s *session) join(secrets, token string, l net.Listener) {
	s.t.Helper()
	srv, err := serveClusterInfo(l, secrets)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(srv.Close)
	pin := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(s.printed.String())
	args := []string{"bootstrap", "discover", l.Addr().String(), "--discovery-token-ca-cert-hash", pin, "--debug", "--budget", "0"}
	s.run("", 0, append(args, "--token-file", filepath.Join(s.dir, "token"), "-o", filepath.Join(s.dir, "kubeconfig"))...)
	s.run("", 12, append(args, "--token-file", filepath.Join(s.dir, "wrong"), "-o", filepath.Join(s.dir, "other"), "--json")...)
}

// open uses the verb of a machine for which something was sealed.
func (s *session) open(sealed, key string) {
	s.t.Helper()
	root := filepath.Join(s.dir, "machine")
	if err := os.Mkdir(root, 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.run("", 0, "bootstrap", "open", sealed, "--identity", s.file("identity", key), "--root", root, "--unsafe-owners")
	s.run("", 4, "bootstrap", "open", sealed, "--identity", s.file("stranger", stranger(s.t)), "--root", root, "--json")
	s.run("", 2, "bootstrap", "open", sealed, "--identity", s.file("broken", key+"x"), "--root", root)
}

func stranger(t *testing.T) string {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key.String()
}

// secretsOf finds the secrets in a file that is made for a cluster: those of
// tokens, and a line from the middle of each private key.
func secretsOf(t *testing.T, body []byte) []string {
	t.Helper()
	var found []string
	for _, m := range regexp.MustCompile(`token-secret: ([a-z0-9]{16})`).FindAllSubmatch(body, -1) {
		found = append(found, string(m[1]))
	}
	if m := regexp.MustCompile(`client-key-data: (\S+)`).FindSubmatch(body); m != nil {
		pem, err := base64.StdEncoding.DecodeString(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, secretsOf(t, pem)...)
	}
	if bytes.Contains(body, []byte("BEGIN PRIVATE KEY")) {
		found = append(found, strings.Split(string(body), "\n")[2][:32])
	}
	return found
}

// formsOf are the ways in which a secret may be written.
func formsOf(t *testing.T, secret string) map[string]string {
	t.Helper()
	document, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"as it is": secret, "base64": base64.RawStdEncoding.EncodeToString([]byte(secret)), "hex": hex.EncodeToString([]byte(secret)),
		"URL": url.QueryEscape(secret), "JSON": strings.Trim(string(document), `"`),
	}
}

const bootstrapCluster = `apiVersion: imgctl.dev/v1
kind: Cluster
name: example
controlPlaneEndpoint: api.example.com:6443
networking:
  serviceSubnet: 10.3.0.0/16
  podSubnet: 10.2.0.0/16
etcd:
  servers: [node1.example.com]
`
