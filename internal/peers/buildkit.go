package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/imgctl/imgctl/internal/atomicfile"
)

// BuildkitVersion is the version of BuildKit that tools/buildkit pins.
const BuildkitVersion = "v0.33.1"

// Buildkit makes buildkitd, and buildctl to look at one. The module that pins
// them is tools/buildkit of the checkout at root; see [Root].
func Buildkit(root string) Recipe {
	return Recipe{
		Name:     "buildkitd " + BuildkitVersion,
		Packages: []string{"github.com/moby/buildkit/cmd/buildkitd", "github.com/moby/buildkit/cmd/buildctl"},
		Dir:      filepath.Join(root, "tools", "buildkit"),
		Flags:    []string{"-trimpath", "-ldflags", "-s -w -X github.com/moby/buildkit/version.Version=" + BuildkitVersion},
	}
}

// Buildkitd is a running BuildKit daemon.
type Buildkitd struct {
	Addr string // as clients are given it: "unix:///…" or "tcp://127.0.0.1:…"
	*Process
}

// BuildkitOptions say how a daemon runs. The zero value is a daemon as root on a
// unix socket.
type BuildkitOptions struct {
	Rootless bool      // as an ordinary user, in a user namespace of rootlesskit
	TLS      *TLSFiles // listens on a port of loopback, to clients with a certificate alone
}

// StartBuildkit runs buildkitd, as [Buildkit] makes it, with all its files in
// dir. It needs root, and Debian's runc; rootless also rootlesskit and uidmap.
//
// The daemon has process and mount namespaces of its own, so that nothing of it,
// no step of a build and no mount, is left when it has ended, however it did. One
// that listens on a unix socket has an empty network namespace as well: what it
// builds, it builds without any network.
func StartBuildkit(ctx context.Context, program, dir string, o BuildkitOptions) (*Buildkitd, error) {
	socket := filepath.Join(dir, "sock")
	if len(socket) > maxSocket {
		return nil, fmt.Errorf("start buildkitd: socket %s: got a path of %d bytes, want at most %d", socket, len(socket), maxSocket)
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, "buildkitd.toml"), 0o644, []byte(buildkitConfig)); err != nil {
		return nil, err
	}
	if o.Rootless && o.TLS != nil {
		return nil, errors.New("start buildkitd: rootless: it listens on a unix socket, want no TLS")
	}
	b := &Buildkitd{}
	args := daemon(program, dir, o.TLS)
	if o.Rootless {
		var err error
		if args, err = rootless(program, dir); err != nil {
			return nil, err
		}
	}
	// It is process 1 of its namespace, which needs a /proc that says so.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `mount --make-rprivate / && mount -t proc proc /proc && exec "$@"`, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	ownNamespaces(cmd, o.TLS == nil)
	log := filepath.Join(dir, "log")
	p, err := Start(ctx, cmd, log, func(ctx context.Context) (err error) {
		b.Addr, err = serverAddress(ctx, log, socket)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.Grace = 30 * time.Second
	b.Process = p
	return b, nil
}

// maxSocket is how long the path of a unix socket can be on Linux.
const maxSocket = 107

// buildkitConfig keeps a daemon from reading the machine's own configuration.
const buildkitConfig = `[worker.oci]
  enabled = true
  gc = false
  binary = "runc"
[worker.containerd]
  enabled = false
`

// running is the daemon's own word on where it listens.
var running = regexp.MustCompile(`running server on ([^" ]+)"`)

// serverAddress reads from the log where the daemon listens, and whether it answers.
func serverAddress(ctx context.Context, log, socket string) (string, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	m := running.FindSubmatch(data)
	if m == nil {
		return "", errors.New("it does not say where it listens")
	}
	if bytes.HasPrefix(m[1], []byte("/")) {
		return "unix://" + socket, dial(ctx, "unix", socket)
	}
	return "tcp://" + string(m[1]), dial(ctx, "tcp", string(m[1]))
}

func dial(ctx context.Context, network, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// daemon is the command of a daemon with its files in dir.
func daemon(program, dir string, tls *TLSFiles) []string {
	args := []string{program, "--config", filepath.Join(dir, "buildkitd.toml"), "--root", filepath.Join(dir, "root"),
		"--otel-socket-path", filepath.Join(dir, "otel.sock")}
	if tls == nil {
		return append(args, "--addr", "unix://"+filepath.Join(dir, "sock"))
	}
	return append(args, "--addr", "tcp://127.0.0.1:0", "--tlscacert", tls.CA, "--tlscert", tls.Cert, "--tlskey", tls.Key)
}

// rootlessUser is who runs a rootless daemon: there is one on every Debian, and it owns nothing.
const rootlessUser, rootlessID = "nobody", 65534

// rootless is the command of a daemon without root. Only its mount namespace has
// the subordinate ids of its user, and its directory and program at paths that the user can reach.
func rootless(program, dir string) ([]string, error) {
	const seen = "/mnt" // where the daemon sees dir
	for name, text := range map[string]string{"subid": rootlessUser + ":165536:65536\n", "buildkitd": ""} {
		if err := atomicfile.WriteBytes(filepath.Join(dir, name), 0o644, []byte(text)); err != nil {
			return nil, err
		}
	}
	home := filepath.Join(dir, "root")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, home} {
		if err := os.Chown(d, rootlessID, rootlessID); err != nil {
			return nil, err
		}
	}
	const script = `mount --bind "$1" "$3" && mount --bind "$2" "$3/buildkitd" &&
		mount --bind "$3/subid" /etc/subuid && mount --bind "$3/subid" /etc/subgid && shift 3 && exec "$@"`
	home = filepath.Join(seen, "root")
	args := []string{"/bin/sh", "-c", script, "sh", dir, program, seen,
		"setpriv", "--reuid", fmt.Sprint(rootlessID), "--regid", fmt.Sprint(rootlessID), "--clear-groups", "--pdeathsig", "KILL",
		"env", "HOME=" + home, "XDG_RUNTIME_DIR=" + home, "TMPDIR=" + home,
		"rootlesskit", "--state-dir", filepath.Join(home, "rootlesskit"), "--net=host", "--copy-up=/etc", "--copy-up=/run", "--disable-host-loopback"}
	return append(append(args, daemon(filepath.Join(seen, "buildkitd"), seen, nil)...), "--rootless"), nil
}
