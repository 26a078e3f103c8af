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

// K04: of all that is made, nothing secret is printed by any verb that succeeds
// or fails, as text, as JSON or with --debug, nor is it in a file's name or an argument.
func TestK04NoSecretIsPrintedByAnyBootstrapVerb(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("IMGCTL_BOOTSTRAP_TOKEN", "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	writeFile := func(name, text string) string {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cluster := writeFile("cluster.yaml", strings.Replace(bootstrapCluster, "api.example.com:6443", l.Addr().String(), 1))
	identity := writeFile("identity", key.String())
	secrets := in("secrets")
	info := filepath.Join(secrets, "manifests/cluster-info.yaml")

	s := &session{t: t}
	s.run("", 0, "bootstrap", "init", cluster, "-o", secrets, "--seal", key.Recipient().String(), "--debug")
	s.run("", 0, "bootstrap", "init", cluster, "-o", secrets, "--renew", "admin", "--json")
	s.run("", 0, "bootstrap", "token", "create", secrets, "-o", "json")
	s.run("", 0, "bootstrap", "token", "rotate", secrets)
	config, err := os.ReadFile(filepath.Join(secrets, "bootstrap-kubelet.conf"))
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`[a-z0-9]{6}\.[a-z0-9]{16}`).FindString(string(config))
	tokenFile := writeFile("token", token+"\n")
	wrong := writeFile("wrong", token[:7]+"0123456789abcdef")
	mistyped := writeFile("mistyped", token+"0")
	s.run("", 0, "bootstrap", "token", "sign", info, "--token-file", tokenFile)
	s.run(token, 0, "bootstrap", "token", "verify", info, "--token-file", "-", "-o", "json")
	s.run("", 12, "bootstrap", "token", "verify", info, "--token-file", wrong, "--json")
	s.run("", 2, "bootstrap", "token", "verify", info, "--token-file", mistyped, "--json")
	s.run("", 2, "bootstrap", "token", "verify", token)
	s.run("", 2, "bootstrap", "token", "verify", info, "--token-file", token)
	s.run("", 2, "bootstrap", "discover", token)
	s.args = nil // a token was given there, and was not repeated

	srv, err := serveClusterInfo(l, secrets)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	pin := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(s.printed.String())
	join := []string{"bootstrap", "discover", l.Addr().String(), "--discovery-token-ca-cert-hash", pin, "--debug", "--budget", "0"}
	s.run("", 0, append(join, "--token-file", tokenFile, "-o", in("kubeconfig"))...)
	s.run("", 12, append(join, "--token-file", wrong, "-o", in("other"), "--json")...)
	sealed := filepath.Join(secrets, "sealed/controller.age")
	if err := os.Mkdir(in("machine"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.run("", 0, "bootstrap", "open", sealed, "--identity", identity, "--root", in("machine"), "--unsafe-owners")
	s.run("", 4, "bootstrap", "open", sealed, "--identity", writeFile("stranger", stranger(t)), "--root", in("machine"), "--json")
	s.run("", 2, "bootstrap", "open", sealed, "--identity", writeFile("broken", key.String()+"x"), "--root", in("machine"))

	seen := s.printed.String() + strings.Join(s.args, " ")
	secretsSeen := []string{key.String(), token[7:]}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		seen += " " + path
		body, err := os.ReadFile(path)
		if err == nil {
			secretsSeen = append(secretsSeen, secretsOf(t, body)...)
		}
		return nil
	})
	if len(secretsSeen) < 25 {
		t.Fatalf("found %d secrets to look for, want 25 or more", len(secretsSeen))
	}
	for _, secret := range secretsSeen {
		for name, form := range formsOf(t, secret) {
			if strings.Contains(seen, form) {
				t.Errorf("%.6s… is printed (%s)", secret, name)
			}
		}
	}
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
