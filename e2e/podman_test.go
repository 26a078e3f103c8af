//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/build"
)

// asKubelet starts a container as a node starts its kubelet, but without the
// node's network.
var asKubelet = []string{"--network", "none", "--privileged"}

func TestKubeletIsWhatTheImageRuns(t *testing.T) {
	p := shared.Podman(t)
	cmd := p.command(t, "run", "--rm", "--network", "none", p.image, "--version")
	if got, want := output(t, cmd), "Kubernetes "+peers.KubeVersion+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPackagesOfTheImageAreAsDpkgLeavesThem(t *testing.T) {
	spec, lock := loadImage(t)
	for _, variant := range spec.Variants {
		t.Run(variant.Name, func(t *testing.T) {
			p := shared.Podman(t).of(t, variant.Name)
			list := output(t, p.run(t, []string{"--network", "none"}, "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n"))
			var want string
			for _, l := range lock.Debian.Packages[variant.Name]["linux/amd64"] {
				want += "ii  " + l.Name + " " + l.Version + "\n"
			}
			if list != want {
				t.Errorf("dpkg-query: got\n%s\nwant every package of the lock, installed:\n%s", list, want)
			}
			if got := differences(t, p, spec, "dpkg -V"); got != "" {
				t.Errorf("dpkg -V: got differences from the packages:\n%s", got)
			}
			if got := differences(t, p, spec, "echo >>/usr/bin/kmod; dpkg -V"); got != "??5?????? /usr/bin/kmod\n" {
				t.Errorf("dpkg -V of a spoilt file: got %q, want it named", got)
			}
			if got := output(t, p.run(t, []string{"--network", "none"}, "dpkg", "--audit")); got != "" {
				t.Errorf("dpkg --audit: got %s", got)
			}
		})
	}
}

// differences are what the command, which runs dpkg -V, finds beside the files
// that the spec leaves out.
func differences(t *testing.T, p *podman, spec *build.Spec, command string) string {
	t.Helper()
	var globs []string
	for _, g := range spec.Packages.Exclude {
		globs = append(globs, strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(g)))
	}
	leftOut := regexp.MustCompile(`^missing +(c )?(` + strings.Join(globs, "|") + `)\n$`)
	var found string
	for line := range strings.Lines(output(t, p.run(t, []string{"--network", "none"}, "sh", "-c", command+"; true"))) {
		if !leftOut.MatchString(line) {
			found += strings.Join(strings.Fields(line), " ") + "\n"
		}
	}
	return found
}

func TestImageTrustsTheCAsOfItsBundleAndNoOthers(t *testing.T) {
	p := shared.Podman(t)
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	const root = "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt"
	verify := []string{"openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile"}
	output(t, p.run(t, []string{"--network", "none"}, append(verify, bundle, root)...))

	ca, addr := serveTLS(t)
	refused(t, p.run(t, []string{"--network", "none", "-v", ca + ":/ca.pem:ro"}, append(verify, bundle, "/ca.pem")...))
	dial := func(options ...string) *exec.Cmd {
		return p.run(t, append([]string{"--network", "host"}, options...),
			"sh", "-c", "openssl s_client -connect "+addr+" -verify_return_error -verify_ip 127.0.0.1 -brief </dev/null 2>&1")
	}
	if out := refused(t, dial()); !strings.Contains(out, "verify error") {
		t.Errorf("a server that nobody vouches for: got %s, want a verify error", out)
	}
	system := output(t, p.run(t, []string{"--network", "none"}, "cat", bundle))
	own, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	with := write(t, "ca-certificates.crt", system+string(own))
	if out := output(t, dial("-v", with+":"+bundle+":ro")); !strings.Contains(out, "Verification: OK") {
		t.Errorf("the same server with its CA in the bundle: got %s, want it verified", out)
	}
}

func TestPodmanRefusesBytesOfAnotherDigest(t *testing.T) {
	p := shared.Podman(t)
	other := "sha256:" + strings.Repeat("0", 64)
	refused(t, p.command(t, "pull", "-q", shared.Image(0)+"@"+other))
}

// podman runs containers of an amd64 image from the first registry, with all its
// state in a directory of its own.
type podman struct {
	dir, repository, image string
	env                    []string
}

// of is podman with the image of a variant, which is pulled when it is run first.
func (p *podman) of(t *testing.T, variant string) *podman {
	t.Helper()
	other := *p
	other.image = p.repository + "@" + shared.digest(t, variant, "linux/amd64")
	return &other
}

// podmanOnce is the podman that all tests share: the image is pulled once.
type podmanOnce struct {
	once  sync.Once
	value *podman
}

// Podman returns it, with the image pulled by digest.
func (w *world) Podman(t *testing.T) *podman {
	t.Helper()
	w.podman.once.Do(func() {
		p, err := newPodman(filepath.Join(w.Dir, "podman"), w.Registries[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		p.repository = w.Image(0)
		p.image = p.repository + "@" + w.Released.Platform("linux/amd64")
		w.podman.value = p // also when the pull fails: there may be something to unmount
		output(t, p.command(t, "pull", "-q", p.image))
	})
	if w.podman.value == nil {
		t.Fatal("podman could not be set up, see above")
	}
	return w.podman.value
}

// newPodman writes podman's settings: those that it needs where CAP_SYS_RESOURCE
// is missing and cgroups are version 1, as on many CI machines; elsewhere they
// do no harm.
func newPodman(dir, registry string) (*podman, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("podman needs root here: the image has files of several users")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	conf, registries := filepath.Join(dir, "containers.conf"), filepath.Join(dir, "registries.conf")
	for path, text := range map[string]string{
		conf: `[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_config_dir = "` + dir + `/networks"
`,
		registries: fmt.Sprintf("unqualified-search-registries = []\n[[registry]]\nlocation = %q\ninsecure = true\n", registry),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return &podman{dir: dir, env: append(os.Environ(), "CONTAINERS_CONF="+conf, "CONTAINERS_REGISTRIES_CONF="+registries)}, nil
}

func (p *podman) command(t *testing.T, args ...string) *exec.Cmd {
	global := []string{"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--storage-driver", "overlay"}
	cmd := exec.CommandContext(t.Context(), "podman", append(global, args...)...)
	cmd.Env = p.env
	return cmd
}

// run executes a program of the image instead of its entry point.
func (p *podman) run(t *testing.T, options []string, command ...string) *exec.Cmd {
	args := append([]string{"run", "--rm", "--entrypoint", command[0]}, options...)
	return p.command(t, append(append(args, p.image), command[1:]...)...)
}

// unmount undoes the bind mount that containers/storage makes of its own
// directory, so that the directory can be removed.
func (p *podman) unmount() error {
	err := syscall.Unmount(filepath.Join(p.dir, "root", "overlay"), 0)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) { // not mounted
		return nil
	}
	return err
}

// serveTLS listens on loopback with a certificate of a CA that exists for this
// test only, and returns the CA's file and the address.
func serveTLS(t *testing.T) (ca, addr string) {
	t.Helper()
	authority := imgtest.NewAuthority(t, t.TempDir())
	cert, _, _ := authority.Issue(t, "server", "127.0.0.1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.(*tls.Conn).Handshake() // the client's verdict is what counts
				c.Close()
			}()
		}
	}()
	return authority.File, l.Addr().String()
}
