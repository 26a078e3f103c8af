package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// Registry is a running CNCF distribution registry, or one of its ancestors.
type Registry struct {
	Addr string // host:port that it listens on
	*Process
}

// RegistryOptions say how a registry runs. The zero value speaks plain HTTP and
// has no access control.
type RegistryOptions struct {
	TLS      TLSFiles       // set: it speaks HTTPS; its CA is only used to see whether it answers
	Htpasswd string         // file of users and bcrypt hashes; set: it asks for Basic credentials
	Token    *RegistryToken // set: it asks for tokens of this server
}

// TLSFiles names the files, in PEM, by which a server and its clients know each other.
type TLSFiles struct{ CA, Cert, Key string }

// RegistryToken is what a registry knows of the server whose bearer tokens it takes.
type RegistryToken struct {
	Realm   string // URL of the server
	Service string // the registry's own name there
	Issuer  string // of the tokens
	CA      string // file in PEM; who signs tokens has a certificate of it
}

// listening is the registry's own word on where it listens: asked for port 0,
// it takes one that is free, which nobody can take away between choosing and using.
var listening = regexp.MustCompile(`listening on ([0-9.:]+)`)

// StartRegistry runs the registry program, as [Distribution] makes it, on addr
// ("127.0.0.1:0" for any free port) with all its files in dir. A registry that was
// stopped goes on with what it had when it is started again in the same dir.
func StartRegistry(ctx context.Context, program, addr, dir string, o RegistryOptions) (*Registry, error) {
	if host, _, err := net.SplitHostPort(addr); err != nil || !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("start registry: address: got %q, want one on loopback", addr)
	}
	client, scheme, err := o.client()
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	config := filepath.Join(dir, "config.yml")
	if err := atomicfile.WriteBytes(config, 0o600, registryConfig(addr, dir, o)); err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "log")
	cmd := exec.Command(program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none") // else it dials a collector
	r := &Registry{}
	p, err := Start(ctx, cmd, log, func(ctx context.Context) (err error) {
		if r.Addr, err = listenAddress(log); err != nil {
			return err
		}
		return o.answers(ctx, client, scheme+"://"+r.Addr+"/v2/")
	})
	if err != nil {
		return nil, err
	}
	r.Process = p
	return r, nil
}

// accessed is a request in the registry's access log.
var accessed = regexp.MustCompile(`(?m)^[0-9.]+ - .* "([A-Z]+ /v2/\S*) HTTP/[0-9.]+" ([0-9]{3}) `)

// Requests lists the requests that the registry has answered, such as
// "GET /v2/ 401", in the order of its log.
func (r *Registry) Requests() ([]string, error) {
	log, err := os.ReadFile(r.log)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, m := range accessed.FindAllSubmatch(log, -1) {
		list = append(list, string(m[1])+" "+string(m[2]))
	}
	return list, nil
}

// client speaks to a registry with these options.
func (o RegistryOptions) client() (client *http.Client, scheme string, err error) {
	if o.TLS == (TLSFiles{}) {
		return http.DefaultClient, "http", nil
	}
	ca, err := os.ReadFile(o.TLS.CA)
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, "", fmt.Errorf("%s: no certificate", o.TLS.CA)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}, "https", nil
}

// registryConfig is the configuration, in the words of versions 2.8 and 3.
func registryConfig(addr, dir string, o RegistryOptions) []byte {
	config := fmt.Appendf(nil, `version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
`, filepath.Join(dir, "data"))
	secure := ""
	if o.TLS != (TLSFiles{}) {
		secure = fmt.Sprintf(", tls: {certificate: %q, key: %q}", o.TLS.Cert, o.TLS.Key)
	}
	config = fmt.Appendf(config, "http: {addr: %q, secret: only-on-loopback%s}\n", addr, secure)
	switch {
	case o.Htpasswd != "":
		config = fmt.Appendf(config, "auth: {htpasswd: {realm: registry, path: %q}}\n", o.Htpasswd)
	case o.Token != nil:
		config = fmt.Appendf(config, "auth: {token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}}\n", o.Token.Realm, o.Token.Service, o.Token.Issuer, o.Token.CA)
	}
	return config
}

func listenAddress(log string) (string, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	m := listening.FindSubmatch(data)
	if m == nil || bytes.HasSuffix(data, m[0]) { // the number may go on
		return "", errors.New("it does not say where it listens")
	}
	return string(m[1]), nil
}

// answers is nil when url answers as a registry with these options should a
// stranger: 200, or 401 where it has access control.
func (o RegistryOptions) answers(ctx context.Context, client *http.Client, url string) error {
	want := http.StatusOK
	if o.Htpasswd != "" || o.Token != nil {
		want = http.StatusUnauthorized
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s: got %s, want %d", url, resp.Status, want)
	}
	return nil
}
