package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// Sigstore is a running Fulcio, Rekor v2 and timestamp authority, without a
// certificate log. They run in a network namespace of their own, since two of
// them show their metrics on every address that there is; what they are for is
// reached on free ports of 127.0.0.1.
type Sigstore struct {
	Fulcio, Rekor, TSA         string // addresses; that of the authority with its path
	TrustedRoot, SigningConfig string // files, as cosign 3 makes them

	dir  string
	net  *network
	stop []func() error // in reverse order
}

// SigstorePrograms are paths of what [Sigstore] is made of, and of the cosign 3
// that writes its files.
type SigstorePrograms struct{ Fulcio, Rekor, TSA, Cosign string }

// SigstoreIssuer is an OIDC issuer on loopback that Fulcio believes.
type SigstoreIssuer struct {
	URL  string // "http://127.0.0.1:…/path", which is also its name
	Type string // in Fulcio's words: "email", "github-workflow"
}

// Sigstore gets the programs for [StartSigstore].
func (c *Cache) Sigstore(ctx context.Context) (SigstorePrograms, error) {
	var p SigstorePrograms
	for path, recipe := range map[*string]Recipe{&p.Fulcio: Fulcio(), &p.Rekor: Rekor2(), &p.TSA: TSA(), &p.Cosign: Cosign3()} {
		var err error
		if *path, err = c.Program(ctx, recipe); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Ports in the namespace, where everything is free. The authority for timestamps
// shows its metrics on 2112, where the others would as well.
const (
	fulcioPort, fulcioMetrics = "5555", "2212"
	rekorPort, rekorMetrics   = "3003", "2213"
	tsaPort                   = "3004"
)

// StartSigstore starts the services with all their files in dir, a directory of
// its own with a short path. It takes root. The issuers must listen already.
func StartSigstore(ctx context.Context, p SigstorePrograms, dir string, issuers ...SigstoreIssuer) (*Sigstore, error) {
	s := &Sigstore{dir: dir, TrustedRoot: filepath.Join(dir, "trusted_root.json"), SigningConfig: filepath.Join(dir, "signing_config.json")}
	var err error
	if s.net, err = newNetwork(); err != nil {
		return nil, err
	}
	s.stop = append(s.stop, s.net.close)
	for _, step := range []func() error{
		func() error { return s.admit(issuers) },
		func() error { return s.startFulcio(ctx, p.Fulcio, issuers) },
		func() error { return s.startRekor(ctx, p.Rekor) },
		func() error { return s.startTSA(ctx, p.TSA) },
		func() error { return s.describe(ctx, p.Cosign, issuers) },
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

// Stop ends every service; nobody answers at their addresses any more.
func (s *Sigstore) Stop() error {
	var errs []error
	for len(s.stop) > 0 {
		last := len(s.stop) - 1
		errs = append(errs, s.stop[last]())
		s.stop = s.stop[:last]
	}
	return errors.Join(errs...)
}

// admit lets the namespace see the issuers at the addresses that are their names.
func (s *Sigstore) admit(issuers []SigstoreIssuer) error {
	seen := map[string]bool{}
	for _, i := range issuers {
		u, err := url.Parse(i.URL)
		if err != nil {
			return fmt.Errorf("issuer: %w", err)
		}
		if seen[u.Host] {
			continue
		}
		seen[u.Host] = true
		l, err := s.net.listen(u.Host)
		if err != nil {
			return fmt.Errorf("issuer %s: %w", i.URL, err)
		}
		s.stop = append(s.stop, l.Close)
		go Forward(l, u.Host)
	}
	return nil
}

// start runs a service and returns its address outside the namespace, once it
// answers at the path.
func (s *Sigstore) start(ctx context.Context, name, port, ready string, cmd *exec.Cmd) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.stop = append(s.stop, l.Close)
	go forward(l, s.net.dial, "127.0.0.1:"+port)
	address := "http://" + l.Addr().String()
	process, err := Start(ctx, cmd, filepath.Join(s.dir, name+".log"), func(ctx context.Context) error {
		_, err := fetch(ctx, address+ready)
		return err
	})
	if err != nil {
		return "", err
	}
	s.stop = append(s.stop, process.Stop)
	return address, nil
}

// startFulcio starts an authority whose root lives as long as it does.
func (s *Sigstore) startFulcio(ctx context.Context, program string, issuers []SigstoreIssuer) (err error) {
	var config strings.Builder
	config.WriteString("oidc-issuers:\n")
	for _, i := range issuers {
		fmt.Fprintf(&config, "  %s: {issuer-url: %q, client-id: sigstore, type: %s}\n", i.URL, i.URL, i.Type)
	}
	file := filepath.Join(s.dir, "fulcio.yaml")
	if err := atomicfile.WriteBytes(file, 0o644, []byte(config.String())); err != nil {
		return err
	}
	s.Fulcio, err = s.start(ctx, "fulcio", fulcioPort, "/healthz", s.net.command(program, "serve", "--ca", "ephemeralca", "--ct-log-url", "",
		"--host", "127.0.0.1", "--port", fulcioPort, "--metrics-port", fulcioMetrics, "--config-path", file, "--legacy-unix-domain-socket", filepath.Join(s.dir, "fulcio.sock")))
	return err
}

// startRekor starts a log that is called as its address without the port:
// clients derive the origin of its checkpoints from that.
func (s *Sigstore) startRekor(ctx context.Context, program string) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	known, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	storage := filepath.Join(s.dir, "rekor")
	if err := errors.Join(os.Mkdir(storage, 0o755),
		s.writePEM("rekor.key", "PRIVATE KEY", key), s.writePEM("rekor.pub", "PUBLIC KEY", known)); err != nil {
		return err
	}
	s.Rekor, err = s.start(ctx, "rekor", rekorPort, "/healthz", s.net.command(program, "serve", "--hostname", "127.0.0.1", "--http-port", rekorPort, "--http-metrics-port", rekorMetrics,
		"--storage-dir", storage, "--signer-filepath", filepath.Join(s.dir, "rekor.key"), "--checkpoint-interval", "200ms", "--batch-max-age", "50ms"))
	return err
}

func (s *Sigstore) writePEM(name, kind string, der []byte) error {
	return atomicfile.WriteBytes(filepath.Join(s.dir, name), 0o600, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (s *Sigstore) startTSA(ctx context.Context, program string) error {
	address, err := s.start(ctx, "tsa", tsaPort, "/ping", s.net.command(program, "serve", "--host", "127.0.0.1", "--port", tsaPort,
		"--timestamp-signer", "memory", "--disable-ntp-monitoring"))
	s.TSA = address + "/api/v1/timestamp"
	return err
}

// since is from when on the services count: before anything was signed.
const since = "start-time=2020-01-01T00:00:00Z"

// describe has cosign write the files with which others know the services.
func (s *Sigstore) describe(ctx context.Context, cosign string, issuers []SigstoreIssuer) error {
	chains := map[string]string{"fulcio.pem": s.Fulcio + "/api/v1/rootCert", "tsa.pem": s.TSA + "/certchain"}
	for name, address := range chains {
		chain, err := fetch(ctx, address)
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(s.dir, name), 0o644, chain); err != nil {
			return err
		}
	}
	config := []string{"signing-config", "create", "--out", s.SigningConfig, "--rekor-config", "ANY", "--tsa-config", "ANY",
		"--fulcio", "url=" + s.Fulcio + ",api-version=1,operator=peers," + since,
		"--rekor", "url=" + s.Rekor + ",api-version=2,operator=peers," + since,
		"--tsa", "url=" + s.TSA + ",api-version=1,operator=peers," + since}
	for _, i := range issuers {
		config = append(config, "--oidc-provider", "url="+i.URL+",api-version=1,operator=peers,"+since)
	}
	root := []string{"trusted-root", "create", "--out", s.TrustedRoot,
		"--fulcio", "url=" + s.Fulcio + ",certificate-chain=fulcio.pem",
		"--tsa", "url=" + s.TSA + ",certificate-chain=tsa.pem",
		"--rekor", "url=" + s.Rekor + ",public-key=rekor.pub,origin=127.0.0.1," + since}
	for _, args := range [][]string{root, config} {
		cmd := exec.CommandContext(ctx, cosign, args...)
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "HOME="+s.dir, "TUF_ROOT="+s.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cosign %s: %w\n%s", strings.Join(args[:2], " "), err, out)
		}
	}
	return nil
}

// fetch returns what a service answers.
func fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: got %s, want 200", address, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}
