//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/peers"
)

// These are what a node needs from the image and what each must print.
var tools = []struct{ command, want string }{
	{"kubelet --version", `^Kubernetes ` + regexp.QuoteMeta(peers.KubeVersion) + `\n$`},
	{"kubectl version --client", regexp.QuoteMeta(peers.KubeVersion)},
	{"iptables --version", `^iptables v1\.\d+\.\d+ \((nf_tables|legacy)\)`},
	{"ip6tables --version", `^ip6tables v1`},
	{"ebtables --version", `^ebtables`},
	{"ipset --version", `^ipset v`},
	{"nft --version", `^nftables v`},
	{"conntrack --version", `^conntrack v`},
	{"ethtool --version", `^ethtool version`},
	{"socat -V", `socat version`},
	{"mount.nfs -V", `mount\.nfs`},
	{"mount.cifs -V", `mount\.cifs`},
	{"mkfs.xfs -V", `mkfs\.xfs version`},
	{"mkfs.ext4 -V", `mke2fs`},
	{"blkid -V", `util-linux`},
	{"udevadm --version", `^\d+`},
	{"modprobe --version", `kmod version`},
	{"ip -V", `iproute2`},
	{`sh -c 'echo "{\"a\":[1,2]}" | jq -cM .a'`, `^\[1,2\]\n$`},
	{"id", `^uid=0\(root\) gid=0\(root\) groups=0\(root\)\n$`},
	{"id nobody", `^uid=65534\(nobody\) gid=65534\(nogroup\)`},
	{"getent services ssh", `22/tcp`},
	{"ldconfig -p", `libc\.so\.6`},
	{"dpkg -l ca-certificates", `(?m)^ii +ca-certificates `},
}

// asKubelet gives a container of those capabilities that a node's kubelet has
// the ones that the tools ask for even to print their version.
var asKubelet = []string{"--network", "none", "--cap-add", "net_admin,sys_admin,dac_read_search"}

func TestPodmanRunsTheToolsOfTheImage(t *testing.T) {
	p := shared.Podman(t)
	for _, tool := range tools {
		t.Run(tool.command, func(t *testing.T) {
			out, err := p.run(t, asKubelet, "sh", "-c", tool.command+" 2>&1").CombinedOutput()
			if err != nil || !regexp.MustCompile(tool.want).Match(out) {
				t.Errorf("got %v:\n%s\nwant %s", err, out, tool.want)
			}
		})
	}
}

func TestKubeletIsWhatTheImageRuns(t *testing.T) {
	p := shared.Podman(t)
	cmd := p.command(t, "run", "--rm", "--network", "none", p.image, "--version")
	if got, want := output(t, cmd), "Kubernetes "+peers.KubeVersion+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPackagesOfTheImageAreAsDpkgLeavesThem(t *testing.T) {
	p := shared.Podman(t)
	list := output(t, p.run(t, []string{"--network", "none"}, "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n"))
	lines := strings.Split(strings.TrimSpace(list), "\n")
	for _, l := range lines {
		if !strings.HasPrefix(l, "ii ") {
			t.Errorf("got %q, want every package installed", l)
		}
	}
	if len(lines) < 100 {
		t.Errorf("got %d packages, want more than 100", len(lines))
	}
	if got := output(t, p.run(t, []string{"--network", "none"}, "dpkg", "-V")); got != "" {
		t.Errorf("dpkg -V: got differences from the packages:\n%s", got)
	}
	spoilt := p.run(t, []string{"--network", "none"}, "sh", "-c", "echo >>/usr/bin/jq; dpkg -V")
	if got, _ := spoilt.CombinedOutput(); !strings.Contains(string(got), "/usr/bin/jq") {
		t.Errorf("dpkg -V of a spoilt file: got %q, want it named", got)
	}
	if got := output(t, p.run(t, []string{"--network", "none"}, "dpkg", "--audit")); got != "" {
		t.Errorf("dpkg --audit: got %s", got)
	}
}

// The rules go into the container's own network namespace.
func TestIptablesOfTheImageChangesRules(t *testing.T) {
	p := shared.Podman(t)
	const script = "iptables -w -A INPUT -i lo -j DROP && iptables -w -S INPUT && ip6tables -w -A INPUT -i lo -j DROP && ip6tables -w -S INPUT"
	got := output(t, p.run(t, []string{"--network", "none", "--cap-add", "net_admin"}, "sh", "-c", script))
	if strings.Count(got, "-A INPUT -i lo -j DROP") != 2 {
		t.Errorf("got %s, want the rule in both families", got)
	}
	refused(t, p.run(t, []string{"--network", "none", "--cap-drop", "all"}, "sh", "-c", script))
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

// podman runs containers of the amd64 image from the first registry, with all
// its state in a directory of its own.
type podman struct {
	dir, image string
	env        []string
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
		p.image = w.Image(0) + "@" + w.Released.Platform("linux/amd64")
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
	now := time.Now()
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true}
	}
	root := template("CA of one test")
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	caCert, caKey := certificate(t, root, nil, nil)
	leaf := template("server")
	leaf.SerialNumber.Add(leaf.SerialNumber, big.NewInt(1))
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	cert, key := certificate(t, leaf, caCert, caKey)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}})
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
	return write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caCert.Raw}))), l.Addr().String()
}

// certificate signs template with the parent's key, or its own when there is none.
func certificate(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
