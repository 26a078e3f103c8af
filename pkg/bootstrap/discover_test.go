package bootstrap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
)

// apiServer is a cluster on loopback: a directory that Init has filled, and a
// TLS server with its certificate that answers with what answer returns.
type apiServer struct {
	dir      string
	token    Token
	pin      Pin
	endpoint string
	asked    atomic.Int32
	answer   func(n int) (status int, body []byte)
}

// server is what its cluster-info names; it listens on another port.
const server = "https://127.0.0.1:6443"

func newAPIServer(t *testing.T, dir string) *apiServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{endpoint: listener.Addr().String(), dir: dir}
	s.token = onlyGrant(t, s.dir, noon).Token
	s.pin = PinOf(leaf(t, s.dir, kubernetesCA))
	s.says(t, infoOf(t, s.dir))
	s.serve(t, listener, s.dir)
	return s
}

// loopback is a directory of a cluster that is on this machine.
func loopback(t *testing.T) string {
	t.Helper()
	return initialized(t, parsed(t, "api.example.com:6443", strings.TrimPrefix(server, "https://")))
}

// serve answers on the listener with the certificate of the directory dir.
func (s *apiServer) serve(t *testing.T, listener net.Listener, dir string) {
	t.Helper()
	pair, err := tls.X509KeyPair(read(t, dir, "pki/apiserver.crt"), read(t, dir, "pki/apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		status, body := s.answer(int(s.asked.Add(1)))
		if status >= 300 && status < 400 {
			w.Header().Set("Location", "https://127.0.0.1:1/")
		}
		w.WriteHeader(status)
		w.Write(body)
	}))
	srv.Listener.Close()
	srv.Listener = listener
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

// says makes the server answer with info, as an API server does.
func (s *apiServer) says(t *testing.T, info *ClusterInfo) {
	t.Helper()
	body := answer(t, info)
	s.answer = func(int) (int, []byte) { return 200, body }
}

func answer(t *testing.T, info *ClusterInfo) []byte {
	t.Helper()
	data := map[string]string{"kubeconfig": string(info.Kubeconfig)}
	for id, jws := range info.Signatures {
		data["jws-kubeconfig-"+id] = jws
	}
	body, err := json.Marshal(corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "cluster-info", Namespace: "kube-public", ResourceVersion: "7", UID: "x"},
		Data:       data,
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// discoverer asks s with a clock that waits at once.
func (s *apiServer) discoverer() Discoverer {
	now := noon
	return Discoverer{
		Token: s.token, Pins: []Pin{s.pin}, Server: server, Timeout: time.Minute,
		Now:  func() time.Time { return now },
		Wait: func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil },
	}
}

func TestDiscoverFindsTheCluster(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	found, err := s.discoverer().Discover(t.Context(), s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if s.asked.Load() != 2 || found.Server != server || len(found.CAPins) != 1 {
		t.Errorf("asked %d times and found %+v", s.asked.Load(), found)
	}
	body, err := found.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	w, who, err := parseConfig(body, 1)
	if err != nil || w.server != found.Server || string(w.ca) != string(read(t, s.dir, "pki/ca.crt")) || who.Token != s.token.Reveal() {
		t.Errorf("got %+v and %v", w, err)
	}
}

// While a control plane comes up it does not answer, then knows nothing, then
// has not signed.
func TestDiscoverWaitsForTheControlPlane(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	signed := infoOf(t, s.dir)
	unsigned := answer(t, &ClusterInfo{Kubeconfig: signed.Kubeconfig})
	good := answer(t, signed)
	s.answer = func(n int) (int, []byte) {
		switch n {
		case 1:
			return 503, []byte("<html>")
		case 2:
			return 403, nil
		case 3:
			return 404, nil
		case 4:
			return 200, unsigned
		}
		return 200, good
	}
	d := s.discoverer()
	d.Budget = 20 * time.Second
	if _, err := d.Discover(t.Context(), s.endpoint); err != nil {
		t.Fatal(err)
	}
	if got := s.asked.Load(); got != 6 {
		t.Errorf("asked %d times, want 6", got)
	}
	s.asked.Store(0)
	d.Budget = 14 * time.Second // the clock is now too late for the fourth try
	if _, err := d.Discover(t.Context(), s.endpoint); err == nil || !strings.Contains(err.Error(), "try 3 was the last") || s.asked.Load() != 3 {
		t.Errorf("asked %d times and got %v, want the budget to end it after 3 tries", s.asked.Load(), err)
	}
}

func TestDiscoverSaysWhyThereWasNoAnswer(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	var unavailable *Unavailable
	for _, status := range []int{301, 401, 403, 404, 500} {
		s.answer = func(int) (int, []byte) { return status, []byte(`{"kind":"Status"}`) }
		if _, err := s.discoverer().Discover(t.Context(), s.endpoint); !errors.As(err, &unavailable) || unavailable.Status != status {
			t.Errorf("got %v, want *Unavailable of %d", err, status)
		}
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := s.discoverer().Discover(t.Context(), closed.Addr().String()); !errors.As(err, &unavailable) || unavailable.Status != 0 {
		t.Errorf("got %v, want *Unavailable without a status", err)
	}
}

// A server that accepts and says nothing costs the time-out of one request.
func TestDiscoverDoesNotWaitForeverForAnAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	d := Discoverer{Token: NewToken(), Pins: []Pin{{}}, Timeout: 50 * time.Millisecond}
	var unavailable *Unavailable
	if _, err := d.Discover(t.Context(), silent.Addr().String()); !errors.As(err, &unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want *Unavailable after the time-out", err)
	}
}

func TestDiscoverEndsWhenItIsCancelled(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	s.answer = func(int) (int, []byte) { return 503, nil }
	ctx, cancel := context.WithCancel(t.Context())
	d := s.discoverer()
	d.Budget = time.Hour
	d.Wait = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := d.Discover(ctx, s.endpoint); !errors.Is(err, context.Canceled) || s.asked.Load() != 1 {
		t.Errorf("got %v after %d requests, want context.Canceled after one", err, s.asked.Load())
	}
}

// Each row is refused at once, for its own reason, whatever the budget.
func TestDiscoverRefusesWhatItCannotBelieve(t *testing.T) {
	dir, stranger := loopback(t), loopback(t)
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, s *apiServer, d *Discoverer)
		want  Reason
	}{
		"another pin": {func(_ *testing.T, _ *apiServer, d *Discoverer) { d.Pins[0][31] ^= 1 }, WrongCA},
		"another token with the same id": {func(_ *testing.T, s *apiServer, d *Discoverer) {
			d.Token = Token{s.token.id, NewToken().secret}
		}, BadSignature},
		"content changed on its way": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			info := infoOf(t, s.dir)
			info.Kubeconfig = append(info.Kubeconfig, '\n')
			s.says(t, info)
		}, BadSignature},
		"a server that is not the one that was asked": {func(_ *testing.T, _ *apiServer, d *Discoverer) { d.Server = "" }, WrongContent},
		"another server": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			s.signs(t, func(c *clientcmd.Config) { c.Clusters[0].Cluster.Server = "https://127.0.0.2:6443" })
		}, WrongContent},
		"two clusters": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			s.signs(t, func(c *clientcmd.Config) { c.Clusters = append(c.Clusters, c.Clusters[0]) })
		}, WrongContent},
		"a user": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			s.signs(t, func(c *clientcmd.Config) { c.AuthInfos = []clientcmd.NamedAuthInfo{{Name: "a"}} })
		}, WrongContent},
		"an authority nobody pinned, beside ours": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			other := read(t, stranger, "pki/ca.crt")
			s.signs(t, func(c *clientcmd.Config) {
				c.Clusters[0].Cluster.CertificateAuthorityData = append(c.Clusters[0].Cluster.CertificateAuthorityData, other...)
			})
		}, WrongCA},
		"another cluster behind the address": {func(t *testing.T, s *apiServer, d *Discoverer) {
			impostor := newAPIServer(t, stranger)
			impostor.says(t, infoOf(t, s.dir))
			s.endpoint = impostor.endpoint
		}, WrongServer},
		"another answer over the checked connection": {func(t *testing.T, s *apiServer, _ *Discoverer) {
			first, second := infoOf(t, s.dir), infoOf(t, s.dir)
			second.Kubeconfig = append(second.Kubeconfig, '\n')
			second.Sign(s.token)
			s.answer = func(n int) (int, []byte) {
				if n == 1 {
					return 200, answer(t, first)
				}
				return 200, answer(t, second)
			}
		}, Changed},
		"no ConfigMap": {func(_ *testing.T, s *apiServer, _ *Discoverer) {
			s.answer = func(int) (int, []byte) { return 200, []byte("<html>") }
		}, WrongContent},
		"an endless answer": {func(_ *testing.T, s *apiServer, _ *Discoverer) {
			s.answer = func(int) (int, []byte) { return 200, make([]byte, 4*maxClusterInfo) }
		}, WrongContent},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t, dir)
			d := s.discoverer()
			d.Budget = time.Hour
			tt.spoil(t, s, &d)
			_, err := d.Discover(t.Context(), s.endpoint)
			if reasonOf(err) != tt.want || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), s.token.secret) {
				t.Errorf("got %v, want one line that refuses for %q", err, tt.want)
			}
			if got := s.asked.Load(); got > 2 {
				t.Errorf("asked %d times, want no other try", got)
			}
		})
	}
}

// signs makes the server answer with a changed kubeconfig under a good
// signature, as a machine that has the token could.
func (s *apiServer) signs(t *testing.T, change func(*clientcmd.Config)) {
	t.Helper()
	info := &ClusterInfo{Kubeconfig: hostile(t, s.dir, change)}
	info.Sign(s.token)
	s.says(t, info)
}

func TestAnExpiredServerCertificateIsRefused(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	d := s.discoverer()
	d.Now = func() time.Time { return noon.Add(5000 * time.Hour) }
	if _, err := d.Discover(t.Context(), s.endpoint); reasonOf(err) != WrongServer {
		t.Errorf("got %v, want %q", err, WrongServer)
	}
}

func TestATokenThatTheClusterDoesNotKnowIsUnsigned(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	d := s.discoverer()
	d.Token = NewToken()
	d.Budget = 10 * time.Second
	if _, err := d.Discover(t.Context(), s.endpoint); reasonOf(err) != Unsigned || s.asked.Load() != 3 {
		t.Errorf("asked %d times and got %v, want %q after 3 tries", s.asked.Load(), err, Unsigned)
	}
}

func TestDiscoverAsksNobodyWithoutAPin(t *testing.T) {
	s := newAPIServer(t, loopback(t))
	d := s.discoverer()
	d.Pins = nil
	if _, err := d.Discover(t.Context(), s.endpoint); err == nil || s.asked.Load() != 0 {
		t.Errorf("got %v after %d requests", err, s.asked.Load())
	}
	d = s.discoverer()
	for _, endpoint := range []string{"", "a", "https://127.0.0.1:1", "127.0.0.1", "127.0.0.1:0", "a/b:1", "u@a:1"} {
		if _, err := d.Discover(t.Context(), endpoint); err == nil || reasonOf(err) != "" {
			t.Errorf("%q: got %v, want a plain error", endpoint, err)
		}
	}
}
