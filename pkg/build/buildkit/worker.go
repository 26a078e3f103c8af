package buildkit

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // each registers the scheme of an address
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
	"golang.org/x/mod/semver"
)

// Worker is a BuildKit daemon.
type Worker struct {
	Platform string // what it is used for: "linux/arm64"; "" for any platform that it can do
	Address  string // "unix:///run/buildkit/buildkitd.sock", "tcp://…", "kube-pod://…", …
}

// String is the address, which is how messages name a worker.
func (w Worker) String() string { return w.Address }

// schemes are the kinds of addresses.
var schemes = []string{"unix", "tcp", "docker-container", "podman-container", "kube-pod", "ssh"}

// ParseWorker reads "[PLATFORM=]ADDRESS": "unix:///run/buildkit/buildkitd.sock",
// "linux/arm64=tcp://10.0.0.7:1234".
func ParseWorker(s string) (Worker, error) {
	w := Worker{Address: s}
	if platform, address, ok := strings.Cut(s, "="); ok && !strings.Contains(platform, "://") {
		if platform != "linux/amd64" && platform != "linux/arm64" {
			return Worker{}, fmt.Errorf("worker %q: platform: got %q, want linux/amd64 or linux/arm64", s, platform)
		}
		w = Worker{Platform: platform, Address: address}
	}
	u, err := url.Parse(w.Address)
	if err != nil {
		return Worker{}, fmt.Errorf("worker %q: %w", s, err)
	}
	if !slices.Contains(schemes, u.Scheme) || u.Host == "" && u.Path == "" {
		return Worker{}, fmt.Errorf("worker %q: want an address with one of the schemes %s", s, strings.Join(schemes, ", "))
	}
	return w, nil
}

// TLS names the files, in PEM, by which a tcp:// worker and we know each other.
type TLS struct {
	CA         string // who signed the worker's certificate
	Cert, Key  string // ours
	ServerName string // in the worker's certificate; "": the host of its address
}

// Check refuses to talk to a worker that anybody could be, or that does what
// anybody says: a BuildKit daemon runs what it is given as root.
func (t TLS) Check(w Worker) error {
	u, err := url.Parse(w.Address)
	if err != nil || u.Scheme != "tcp" {
		return err
	}
	if ip := net.ParseIP(u.Hostname()); t == (TLS{}) && (u.Hostname() == "localhost" || ip.IsLoopback()) {
		return nil
	}
	for _, f := range []struct{ what, file string }{
		{"a CA for its certificate", t.CA},
		{"a certificate for us", t.Cert},
		{"the key of our certificate", t.Key},
	} {
		if f.file == "" {
			return fmt.Errorf("worker %s: want TLS with certificates on both sides: there is no file with %s", w, f.what)
		}
	}
	return nil
}

// options are what the client of a worker needs to know.
func (t TLS) options(w Worker) []client.ClientOpt {
	if !strings.HasPrefix(w.Address, "tcp://") {
		return nil
	}
	// Go's dialer asks an idle peer whether it is still there. The client's own
	// does not, and a worker that vanished would be waited for without end.
	opts := []client.ClientOpt{client.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	})}
	if t == (TLS{}) {
		return opts
	}
	return append(opts, client.WithServerConfig(t.ServerName, t.CA), client.WithCredentials(t.Cert, t.Key))
}

// daemon is what the engine asks of a worker. [client.Client] is one.
type daemon interface {
	ListWorkers(ctx context.Context, opts ...client.ListWorkersOption) ([]*client.WorkerInfo, error)
	solver
	Close() error
}

// dialBuildkit connects to a worker, lazily.
func dialBuildkit(ctx context.Context, w Worker, t TLS) (daemon, error) {
	if err := t.Check(w); err != nil {
		return nil, err
	}
	c, err := client.New(ctx, w.Address, t.options(w)...)
	if err != nil {
		return nil, fmt.Errorf("worker %s: %w", w, err)
	}
	return c, nil
}

// answerLimit is how long a worker may take to answer a simple question: the
// slowest have to be reached through a cluster's API.
const answerLimit = 30 * time.Second

// checkWorker asks a worker whether it can do the platform. That it does not
// answer is an [*UnavailableError], that it cannot a [*PlatformError].
func (e *Engine) checkWorker(ctx context.Context, w Worker, d daemon, want v1.Platform) error {
	asked, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	infos, err := d.ListWorkers(asked)
	if err != nil {
		return cmp.Or(ctx.Err(), error(&UnavailableError{Worker: w, Err: err}))
	}
	var have []string
	for _, info := range infos {
		if v := info.BuildkitVersion.Version; semver.IsValid(v) && semver.Compare(v, compatibleSince) < 0 {
			e.log().Warn("worker may make other bytes of the same files", "worker", w.Address, "version", printable(v), "want", compatibleSince)
		}
		for _, p := range info.Platforms {
			have = append(have, printable(v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}.String()))
		}
	}
	if !slices.Contains(have, want.String()) {
		return &PlatformError{Worker: w, Want: want.String(), Have: have}
	}
	return nil
}

// workersFor returns the workers that may be asked for the platform: those for
// it alone, then those for any.
func (e *Engine) workersFor(p v1.Platform) []Worker {
	var own, any []Worker
	for _, w := range e.Workers {
		switch w.Platform {
		case p.String():
			own = append(own, w)
		case "":
			any = append(any, w)
		}
	}
	return append(own, any...)
}

// take chooses one of the workers: of those that have least to do now, the first.
// It must be given back.
func (e *Engine) take(from []Worker) Worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy == nil {
		e.busy = make(map[string]int)
	}
	w := slices.MinFunc(from, func(a, b Worker) int { return cmp.Compare(e.busy[a.Address], e.busy[b.Address]) })
	e.busy[w.Address]++
	return w
}

func (e *Engine) giveBack(w Worker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy[w.Address]--
}
