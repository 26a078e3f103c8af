package bootstrap

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Discoverer finds the API server of a cluster with nothing but a bootstrap
// token and the pins of the cluster's authority.
type Discoverer struct {
	// Token under which cluster-info has to be signed.
	Token Token
	// Pins of the cluster's certificate authorities. There must be one: whoever
	// has a token, and every machine has, could else sign a cluster-info of his own.
	Pins []Pin
	// Server that cluster-info has to name; empty: the one that is asked.
	Server string
	// Budget is how long to go on while the control plane comes up; 0: one try.
	Budget time.Duration
	// Timeout of one request; 0: ten seconds.
	Timeout time.Duration
	// Now and Wait are the clock; nil: the real one. Wait returns early, with its error, when ctx ends.
	Now  func() time.Time
	Wait func(ctx context.Context, d time.Duration) error
	// Log is told why another try is needed; nil: nobody is.
	Log *slog.Logger
}

// Unavailable is the error for an API server that gave no cluster-info.
type Unavailable struct {
	Status int // of HTTP; 0 when there was no answer
	err    error
}

// Error is one line.
func (u *Unavailable) Error() string { return u.err.Error() }

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.err }

// retryEvery is how long to wait between two tries; kubeadm's join waits as long.
const retryEvery = 5 * time.Second

// Discovered is what a joining machine may rely on.
type Discovered struct {
	Server string `json:"server"`
	CAPins []Pin  `json:"caPins"`
	where  where
	token  Token
}

// Kubeconfig is the bootstrap kubeconfig: the kubelet gets its certificate with it.
func (d *Discovered) Kubeconfig() ([]byte, error) { return d.where.bootstrap(d.token) }

// Discover asks the API server at endpoint (HOST:PORT) for cluster-info without
// trusting it, checks the signature under the token and the pins of the
// authority in it, and asks again over a connection that this authority vouches
// for, which must say the same.
//
// As long as the budget lasts it goes on over servers that do not answer yet and
// over a signature that is not there yet. Whatever else is wrong ends it, as a
// [*Refusal]. The error is an [*Unavailable] when nothing was read.
func (d Discoverer) Discover(ctx context.Context, endpoint string) (*Discovered, error) {
	if len(d.Pins) == 0 {
		return nil, errors.New("discover: got no pin of the certificate authority, want one or more")
	}
	if err := CheckEndpoint(endpoint); err != nil {
		return nil, fmt.Errorf("discover: server: %w", err)
	}
	d.fillIn(endpoint)
	found, err := d.retry(ctx, func() (*Discovered, error) { return d.once(ctx, endpoint) })
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", endpoint, err)
	}
	return found, nil
}

func (d *Discoverer) fillIn(endpoint string) {
	setDefault(&d.Server, "https://"+endpoint)
	setDefault(&d.Timeout, 10*time.Second)
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Wait == nil {
		d.Wait = wait
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
}

func wait(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

// retry calls once until it succeeds, is refused or the budget is spent.
func (d *Discoverer) retry(ctx context.Context, once func() (*Discovered, error)) (*Discovered, error) {
	start := d.Now()
	for tries := 1; ; tries++ {
		found, err := once()
		if err == nil || !mayPass(err) || ctx.Err() != nil {
			return found, err
		}
		if d.Now().Add(retryEvery).Sub(start) > d.Budget {
			return nil, fmt.Errorf("try %d was the last: %w", tries, err)
		}
		d.Log.Warn("waiting for the control plane", "try", tries, "error", err)
		if err := d.Wait(ctx, retryEvery); err != nil {
			return nil, err
		}
	}
}

// mayPass tells whether waiting may help: a control plane that comes up first
// does not answer, then has no cluster-info, then one without a signature.
func mayPass(err error) bool {
	var unavailable *Unavailable
	var refusal *Refusal
	return errors.As(err, &unavailable) || errors.As(err, &refusal) && refusal.Reason == Unsigned
}

func (d *Discoverer) once(ctx context.Context, endpoint string) (*Discovered, error) {
	// Nothing of this answer is used before its signature is checked.
	info, err := d.get(ctx, endpoint, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	if err := info.Verify(d.Token); err != nil {
		return nil, err
	}
	w, certs, err := info.where()
	if err != nil {
		return nil, err
	}
	if err := checkPins(certs, d.Pins); err != nil {
		return nil, err
	}
	if w.server != d.Server {
		return nil, refuse(WrongContent, "cluster-info: server: got %s, want %s", w.server, d.Server)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	again, err := d.get(ctx, endpoint, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, Time: d.Now})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again.Kubeconfig, info.Kubeconfig) {
		return nil, refuse(Changed, "cluster-info: read over a checked connection it differs from what was read before")
	}
	found := &Discovered{Server: w.server, token: d.Token, where: w}
	found.where.name = "kubernetes"
	for _, cert := range certs {
		found.CAPins = append(found.CAPins, PinOf(cert))
	}
	return found, nil
}

// get reads cluster-info over a connection of its own. A redirect is an answer
// like any other that has no cluster-info.
func (d *Discoverer) get(ctx context.Context, endpoint string, config *tls.Config) (*ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DialContext:       (&net.Dialer{}).DialContext,
		TLSClientConfig:   config,
		DisableKeepAlives: true,
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url := "https://" + endpoint + "/api/v1/namespaces/" + clusterInfoNamespace + "/configmaps/" + clusterInfoName
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, notAnswered(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &Unavailable{resp.StatusCode, fmt.Errorf("get cluster-info: HTTP status %d, want 200", resp.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxClusterInfo+1))
	if err != nil {
		return nil, notAnswered(err)
	}
	info, err := ParseClusterInfo(body)
	if err != nil {
		return nil, refuse(WrongContent, "get %w", err)
	}
	return info, nil
}

// notAnswered tells a server that cannot show a certificate by the pinned
// authority from one that does not answer.
func notAnswered(err error) error {
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return refuse(WrongServer, "server's certificate: %w", certificate.Err)
	}
	return &Unavailable{0, fmt.Errorf("get cluster-info: %w", err)}
}
