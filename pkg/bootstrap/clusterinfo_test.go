package bootstrap

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	upstreamjws "k8s.io/cluster-bootstrap/token/jws"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
)

func infoOf(t testing.TB, dir string) *ClusterInfo {
	t.Helper()
	info, err := ParseClusterInfo(read(t, dir, clusterInfoFile))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// reasonOf is why err is refused.
func reasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// What Init writes is what kubeadm's join reads: checked with Kubernetes' own code.
func TestClusterInfoIsSignedAsKubernetesChecksIt(t *testing.T) {
	dir := initialized(t, parsed(t))
	g := onlyGrant(t, dir, noon)
	var m corev1.ConfigMap
	if err := yaml.UnmarshalStrict(read(t, dir, clusterInfoFile), &m); err != nil {
		t.Fatal(err)
	}
	if m.Namespace != "kube-public" || m.Name != "cluster-info" || len(m.Data) != 2 {
		t.Errorf("got %s/%s with %d keys", m.Namespace, m.Name, len(m.Data))
	}
	jws := m.Data["jws-kubeconfig-"+g.Token.ID()]
	if !upstreamjws.DetachedTokenIsValid(jws, m.Data["kubeconfig"], g.Token.id, g.Token.secret) {
		t.Errorf("Kubernetes does not accept %s", jws)
	}
	var config clientcmd.Config
	if err := yaml.UnmarshalStrict([]byte(m.Data["kubeconfig"]), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Clusters) != 1 || config.Clusters[0].Name != "" || len(config.AuthInfos)+len(config.Contexts) > 0 {
		t.Errorf("got %+v, want one cluster without a name and nobody", config)
	}
	if err := infoOf(t, dir).Verify(g.Token); err != nil {
		t.Error(err)
	}
}

func TestClusterInfoIsVerifiedUnderItsTokensAlone(t *testing.T) {
	info := &ClusterInfo{Kubeconfig: []byte("content")}
	token, other := NewToken(), NewToken()
	info.Sign(token)
	if err := info.Verify(token); err != nil {
		t.Fatal(err)
	}
	if got := reasonOf(info.Verify(other)); got != Unsigned {
		t.Errorf("another token: got %q, want %q", got, Unsigned)
	}
	if got := reasonOf(info.Verify(Token{token.id, other.secret})); got != BadSignature {
		t.Errorf("the same id: got %q, want %q", got, BadSignature)
	}
}

// hostile is a cluster-info's kubeconfig with one thing that must not be in it.
func hostile(t testing.TB, dir string, change func(*clientcmd.Config)) []byte {
	t.Helper()
	var config clientcmd.Config
	if err := yaml.Unmarshal(infoOf(t, dir).Kubeconfig, &config); err != nil {
		t.Fatal(err)
	}
	change(&config)
	body, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// hostiles are what a holder of a token could sign to lead a machine astray.
func hostiles() map[string]func(*clientcmd.Config) {
	return map[string]func(*clientcmd.Config){
		"two clusters": func(c *clientcmd.Config) { c.Clusters = append(c.Clusters, c.Clusters[0]) },
		"no cluster":   func(c *clientcmd.Config) { c.Clusters = nil },
		"a user":       func(c *clientcmd.Config) { c.AuthInfos = []clientcmd.NamedAuthInfo{{Name: "a"}} },
		"a program": func(c *clientcmd.Config) {
			c.AuthInfos = []clientcmd.NamedAuthInfo{{AuthInfo: clientcmd.AuthInfo{Exec: &clientcmd.ExecConfig{Command: "sh"}}}}
		},
		"a context":         func(c *clientcmd.Config) { c.Contexts = []clientcmd.NamedContext{{Name: "a"}} },
		"a current context": func(c *clientcmd.Config) { c.CurrentContext = "a" },
		"no TLS":            func(c *clientcmd.Config) { c.Clusters[0].Cluster.InsecureSkipTLSVerify = true },
		"a proxy":           func(c *clientcmd.Config) { c.Clusters[0].Cluster.ProxyURL = "http://127.0.0.9:3128" },
		"another TLS name":  func(c *clientcmd.Config) { c.Clusters[0].Cluster.TLSServerName = "evil" },
		"a CA file":         func(c *clientcmd.Config) { c.Clusters[0].Cluster.CertificateAuthority = "/tmp/ca.crt" },
		"no CA":             func(c *clientcmd.Config) { c.Clusters[0].Cluster.CertificateAuthorityData = nil },
		"a CA that is none": func(c *clientcmd.Config) { c.Clusters[0].Cluster.CertificateAuthorityData = []byte("x") },
		"a key among the CA": func(c *clientcmd.Config) {
			c.Clusters[0].Cluster.CertificateAuthorityData = []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
		},
		"no https":          func(c *clientcmd.Config) { c.Clusters[0].Cluster.Server = "http://api.example.com:6443" },
		"a user in the URL": func(c *clientcmd.Config) { c.Clusters[0].Cluster.Server = "https://a:b@api.example.com:6443" },
		"a path":            func(c *clientcmd.Config) { c.Clusters[0].Cluster.Server = "https://api.example.com:6443/evil" },
		"another kind":      func(c *clientcmd.Config) { c.Kind = "Confg" },
		"an extension":      func(c *clientcmd.Config) { c.Extensions = []clientcmd.NamedExtension{{Name: "a"}} },
	}
}

func TestAClusterInfoThatSaysMoreThanItShouldIsRefused(t *testing.T) {
	dir := initialized(t, parsed(t))
	if _, _, err := (&ClusterInfo{Kubeconfig: hostile(t, dir, func(*clientcmd.Config) {})}).where(); err != nil {
		t.Fatal(err) // the sibling that passes
	}
	for name, change := range hostiles() {
		if _, _, err := (&ClusterInfo{Kubeconfig: hostile(t, dir, change)}).where(); reasonOf(err) != WrongContent {
			t.Errorf("%s: got %v, want %q", name, err, WrongContent)
		}
	}
	unknown := string(infoOf(t, dir).Kubeconfig) + "surprise: 1\n"
	if _, _, err := (&ClusterInfo{Kubeconfig: []byte(unknown)}).where(); reasonOf(err) != WrongContent {
		t.Errorf("an unknown key: got %v", err)
	}
}

func TestOnlyTheConfigMapClusterInfoIsRead(t *testing.T) {
	dir := initialized(t, parsed(t))
	good := string(read(t, dir, clusterInfoFile))
	document, err := yaml.YAMLToJSON([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseClusterInfo(document); err != nil {
		t.Errorf("as the API server answers: %v", err)
	}
	for name, text := range map[string]string{
		"another kind":      strings.Replace(good, "kind: ConfigMap", "kind: Status", 1),
		"another name":      strings.Replace(good, "name: cluster-info", "name: cluster-inf", 1),
		"another namespace": strings.Replace(good, "namespace: kube-public", "namespace: default", 1),
		"no kubeconfig":     strings.Replace(good, "kubeconfig: |", "kubecfg: |", 1),
		"a key twice":       good + "kind: ConfigMap\n",
		"HTML":              "<html><body>502 Bad Gateway</body></html>",
		"nothing":           "",
		"too much":          good + strings.Repeat("#", maxClusterInfo),
	} {
		if _, err := ParseClusterInfo([]byte(text)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: got %v, want a short error", name, err)
		}
	}
}

func TestCreatedTokensSignClusterInfoBesideTheOthers(t *testing.T) {
	dir := initialized(t, parsed(t))
	first := onlyGrant(t, dir, noon)
	bootstrap := read(t, dir, bootstrapConfig)
	made, err := CreateToken(t.Context(), dir, TokenOptions{TTL: time.Hour, Groups: []string{DefaultGroup}}, noon)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ParseGrant(read(t, dir, grantFile(made.ID)))
	if err != nil || !second.Expires.Equal(noon.Add(time.Hour)) {
		t.Fatalf("got %+v and %v", second, err)
	}
	info := infoOf(t, dir)
	for _, token := range []Token{first.Token, second.Token} {
		if err := info.Verify(token); err != nil {
			t.Error(err)
		}
	}
	if string(bootstrap) != string(read(t, dir, bootstrapConfig)) {
		t.Error("the bootstrap kubeconfig is another")
	}
	w, who, err := parseConfig(read(t, dir, "tokens/"+made.ID+".conf"), 1)
	if err != nil || who.Token != second.Token.Reveal() || w.server != "https://api.example.com:6443" || w.name != "example" {
		t.Errorf("got %+v and %v, want a bootstrap kubeconfig", w, err)
	}
}

func TestARotatedTokenLeavesTheOldOneItsTime(t *testing.T) {
	dir := initialized(t, parsed(t)) // a token of two hours
	first := onlyGrant(t, dir, noon)
	made, err := RotateToken(t.Context(), dir, TokenOptions{TTL: 24 * time.Hour}, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ParseGrant(read(t, dir, grantFile(made.ID)))
	if err != nil {
		t.Fatal(err)
	}
	info := infoOf(t, dir)
	if err := errors.Join(info.Verify(first.Token), info.Verify(second.Token)); err != nil {
		t.Error(err)
	}
	if _, who, err := parseConfig(read(t, dir, bootstrapConfig), 1); err != nil || who.Token != second.Token.Reveal() {
		t.Errorf("the bootstrap kubeconfig does not have the new token: %v", err)
	}
	// After the first has expired, the next rotation removes it everywhere.
	if _, err := RotateToken(t.Context(), dir, TokenOptions{TTL: 24 * time.Hour}, noon.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	info = infoOf(t, dir)
	if got := reasonOf(info.Verify(first.Token)); got != Unsigned {
		t.Errorf("the expired token: got %q, want %q", got, Unsigned)
	}
	if err := info.Verify(second.Token); err != nil {
		t.Error(err)
	}
	for path, body := range tree(t, dir) {
		if strings.Contains(path, first.Token.id) || strings.Contains(body, first.Token.secret) {
			t.Errorf("the expired token is still in %s", path)
		}
	}
}

func TestInitMakesANewTokenOnceAllHaveExpired(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	first := onlyGrant(t, dir, noon)
	if _, err := Init(t.Context(), dir, c, nil, noon.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	second := onlyGrant(t, dir, noon.Add(3*time.Hour))
	if second.Token == first.Token || infoOf(t, dir).Verify(second.Token) != nil || infoOf(t, dir).Verify(first.Token) == nil {
		t.Errorf("got tokens %v and %v", first.Token, second.Token)
	}
}

func TestTokensThatCannotBeAreRefused(t *testing.T) {
	dir := initialized(t, parsed(t))
	before := tree(t, dir)
	for name, o := range map[string]TokenOptions{
		"no lifetime":  {},
		"in the past":  {TTL: -time.Hour},
		"a free group": {TTL: time.Hour, Groups: []string{"system:masters"}},
	} {
		if _, err := CreateToken(t.Context(), dir, o, noon); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := CreateToken(t.Context(), filepath.Join(dir, "absent"), TokenOptions{TTL: time.Hour}, noon); err == nil {
		t.Error("a token in a directory that is not there")
	}
	if !maps.Equal(before, tree(t, dir)) {
		t.Error("a file was changed")
	}
}

func TestATokenFileUnderAnotherNameIsRefused(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	g := onlyGrant(t, dir, noon)
	write(t, dir, "tokens/zzzzzz.yaml", read(t, dir, grantFile(g.Token.id)), 0o600)
	var d *Differs
	if _, err := Init(t.Context(), dir, c, nil, noon); !errors.As(err, &d) || d.Path != "tokens/zzzzzz.yaml" {
		t.Errorf("got %v, want *Differs of that file", err)
	}
}

// K04: no secret is in what is reported, in an error or in a name, in any usual form.
func TestK04NoSecretIsInWhatIsReported(t *testing.T) {
	dir := initialized(t, parsed(t))
	g := onlyGrant(t, dir, noon)
	steps, err := Init(t.Context(), dir, parsed(t), nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	made, err := RotateToken(t.Context(), dir, TokenOptions{TTL: time.Hour}, noon)
	if err != nil {
		t.Fatal(err)
	}
	report, err := json.Marshal([]any{steps, made})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "admin.conf", append(read(t, dir, "admin.conf"), "surprise: 1\n"...), 0o600)
	_, broken := Init(t.Context(), dir, parsed(t), nil, noon)
	if broken == nil {
		t.Fatal("a broken kubeconfig was accepted")
	}
	all := string(report) + broken.Error()
	for path := range tree(t, dir) {
		all += " " + path
	}
	for _, secret := range []string{g.Token.secret, base64.StdEncoding.EncodeToString([]byte(g.Token.secret)), "PRIVATE KEY", "LS0tLS1CRUdJTiBQUklW"} {
		if strings.Contains(all, secret) {
			t.Errorf("%.8s… is in %s", secret, all)
		}
	}
}

func FuzzParseClusterInfo(f *testing.F) {
	info := &ClusterInfo{Kubeconfig: []byte("apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://a:1\n  name: ''\n")}
	info.Sign(Token{"abcdef", "0123456789abcdef"})
	good, err := info.Manifest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kind":"ConfigMap","metadata":{"name":"cluster-info","namespace":"kube-public"},"data":{"kubeconfig":"a: &a [*a]"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseClusterInfo(data)
		if err != nil {
			return
		}
		info.Verify(Token{"abcdef", "0123456789abcdef"})
		if w, certs, err := info.where(); err == nil && (len(certs) == 0 || !strings.HasPrefix(w.server, "https://")) {
			t.Errorf("accepted: %+v", w)
		}
	})
}

func FuzzParsePin(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0a", 32))
	f.Add("sha256:" + strings.Repeat("0A", 32))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePin(text)
		if err == nil && !strings.EqualFold(p.String(), text) {
			t.Errorf("%q comes back as %s", text, p)
		}
	})
}

func TestAPinIsReadAsKubeadmWritesIt(t *testing.T) {
	dir := initialized(t, parsed(t))
	cert := leaf(t, dir, kubernetesCA)
	p := PinOf(cert)
	if got, err := ParsePin(p.String()); err != nil || got != p {
		t.Errorf("got %v and %v", got, err)
	}
	for _, text := range []string{"", "sha256:", strings.TrimPrefix(p.String(), "sha256:"), "sha512:" + strings.Repeat("00", 32), p.String() + "00", p.String() + " ", strings.Replace(p.String(), "sha256:", "sha256:0x", 1), "sha256:" + strings.Repeat("zz", 32)} {
		if _, err := ParsePin(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
