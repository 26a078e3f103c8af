//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/peers"
)

// The kubelet's image on real BuildKit daemons, where dpkg runs the packages' own
// scripts: natively for amd64, emulated for arm64. The daemon has no network.
func TestImageOnBuildKitWorkers(t *testing.T) {
	t.Parallel() // much of its time one emulated processor is busy
	emulate(t)
	root := startBuildkitd(t, peers.BuildkitOptions{})
	images := map[string]string{}
	t.Run("TwoPlatformsAreBuiltSideBySide", func(t *testing.T) { images = buildCold(t, root) })
	for _, variant := range []string{"slim", "full"} { // the daemon has most of slim, and shares its Essential packages
		t.Run("ItIsTheImageOfTheLayerEngine/"+variant, func(t *testing.T) {
			cmd := shared.Command(t.Context(), "build", "images/kubelet", "--variant", variant, "--compare", "--addr", root.Addr, "--progress", "none")
			t.Log(output(t, cmd))
		})
	}
	amd64 := amd64Spec(t)
	t.Run("ARootlessDaemonMakesTheSame", func(t *testing.T) {
		rootless := startBuildkitd(t, peers.BuildkitOptions{Rootless: true})
		began := time.Now()
		if got := built(t, "build", amd64, "--variant", "slim", "--builder", "buildkit", "--addr", rootless.Addr); got["linux/amd64"] != images["linux/amd64"] {
			t.Errorf("got %s, want %s", got["linux/amd64"], images["linux/amd64"])
		}
		t.Logf("rootless, amd64 alone: %s", time.Since(began).Round(time.Second))
	})
	t.Run("ALostWorkerIsReplaced", func(t *testing.T) { loseWorker(t, amd64, root, images["linux/amd64"]) })
	t.Run("AStepThatFailsIsNamed", func(t *testing.T) {
		spec := filepath.Join(amd64, "image.yaml")
		edit(t, spec, "\nfiles:\n", "\ndirectories:\n- {path: /srv/x, user: nobody-here}\nfiles:\n")
		said := refused(t, shared.Command(t.Context(), "build", amd64, "--variant", "slim", "-o", t.TempDir(), "--builder", "buildkit", "--addr", root.Addr))
		for _, want := range []string{"worker " + root.Addr, `step "[linux/amd64] apply the spec": exit code 1`, "chown: invalid user", "nobody-here:root"} {
			if !strings.Contains(said, want) {
				t.Errorf("got %s\nwant %q in it", said, want)
			}
		}
	})
}

// buildCold builds the image on a daemon that has never built anything, and
// compares how long that takes with the layer engine. It returns the images'
// digests by platform.
func buildCold(t *testing.T, worker *peers.Buildkitd) map[string]string {
	t.Helper()
	cmd := shared.Command(t.Context(), "build", "images/kubelet", "--variant", "slim", "--json",
		"-o", t.TempDir(), "--builder", "buildkit", "--addr", worker.Addr, "--progress", "plain")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	cold := time.Since(began)
	t.Logf("BuildKit, cold: %s\n%s", cold.Round(time.Second), stepTimes(stderr.String()))
	images := digests(t, stdout.String())
	layers := built(t, "build", "images/kubelet", "--variant", "slim")
	began = time.Now()
	if again := built(t, "build", "images/kubelet", "--variant", "slim"); !maps.Equal(again, layers) {
		t.Errorf("layer engine: got %v and %v", layers, again)
	}
	warm := time.Since(began)
	t.Logf("layer engine, warm: %s, 1/%d", warm.Round(time.Millisecond), cold/warm)
	return images
}

// stepDone is where BuildKit's plain display names a step, or says how long it took.
var stepDone = regexp.MustCompile(`(?m)^#(\d+) (?:(\[.*\] .*)|DONE (.*))$`)

// stepTimes lists how long the longer steps took.
func stepTimes(plain string) string {
	names, text := map[string]string{}, ""
	for _, m := range stepDone.FindAllStringSubmatch(plain, -1) {
		if m[2] != "" {
			names[m[1]] = m[2]
			continue
		}
		if !strings.HasPrefix(m[3], "0.") {
			text += fmt.Sprintf("%8s  %s\n", m[3], names[m[1]])
		}
	}
	return text
}

// loseWorker kills the first of two workers while it installs packages.
func loseWorker(t *testing.T, spec string, second *peers.Buildkitd, want string) {
	t.Helper()
	first := startBuildkitd(t, peers.BuildkitOptions{})
	cmd := shared.Command(t.Context(), "build", spec, "--variant", "slim", "--json", "-o", t.TempDir(),
		"--builder", "buildkit", "--addr", "linux/amd64="+first.Addr, "--addr", second.Addr, "--progress", "plain")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	killed := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if !killed && strings.Contains(lines.Text(), "Unpacking base-files") {
			killed = true
			if err := syscall.Kill(first.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !killed {
		t.Fatalf("%v, killed: %v\n%s", err, killed, &said)
	}
	for _, w := range []string{"worker given up", first.Addr, "lost during step", "ERROR: worker lost"} {
		if !strings.Contains(said.String(), w) {
			t.Errorf("got\n%s\nwant %q in it", &said, w)
		}
	}
	if got := digests(t, stdout.String())["linux/amd64"]; got != want {
		t.Errorf("got %s from the second worker, want %s", got, want)
	}
}

// An image without packages needs no emulation, and tells both engines apart by
// what each of them makes of the spec's own files.
const bareSpec = `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/amd64, linux/arm64]
local:
- {source: tool, path: /opt/tool/bin/tool}
groups:
- {name: tool, gid: 1200}
users:
- {name: tool, uid: 1200, gid: 1200, home: /var/lib/tool}
directories:
- {path: /var/lib/tool, mode: "0750", user: tool, group: tool}
- {path: /tmp, mode: "1777"}
files:
- {path: /etc/tool.conf, content: "$(id) 'quoted'\n", mode: "0640", group: tool}
links:
- {path: /usr/bin/tool, target: ../../opt/tool/bin/tool}
entrypoint: [/usr/bin/tool]
user: tool
gates: {worldWritable: [/tmp]}
`

func TestWorkerOnTCPWantsToKnowItsClients(t *testing.T) {
	certificates := newCertificates(t)
	worker := startBuildkitd(t, peers.BuildkitOptions{TLS: &peers.TLSFiles{CA: certificates["ca"], Cert: certificates["worker"], Key: certificates["worker-key"]}})
	dir := t.TempDir()
	for name, text := range map[string]string{"image.yaml": bareSpec, "tool": "what a program would be\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	output(t, shared.Command(t.Context(), "lock", dir))
	known := []string{"--tlscacert", certificates["ca"], "--tlscert", certificates["client"], "--tlskey", certificates["client-key"]}
	stranger := []string{"--tlscacert", certificates["ca"], "--tlscert", certificates["stranger"], "--tlskey", certificates["stranger-key"]}
	build := []string{"build", dir, "--builder", "buildkit", "--addr", worker.Addr, "-o", t.TempDir()}
	for name, tls := range map[string][]string{
		"without a certificate":         nil,
		"with one of another authority": stranger,
		"of a worker by another name":   append(known, "--tlsservername", "elsewhere"),
		"of a worker of another":        append([]string{"--tlscacert", certificates["stranger"]}, known[2:]...),
	} {
		if said := refused(t, shared.Command(t.Context(), append(build, tls...)...)); !strings.Contains(said, "worker "+worker.Addr) {
			t.Errorf("%s: got %s, want the worker named", name, said)
		}
	}
	output(t, shared.Command(t.Context(), append(build, known...)...))
	t.Log(output(t, shared.Command(t.Context(), append([]string{"build", dir, "--compare", "--addr", worker.Addr}, known...)...)))
}

// newCertificates makes files: an authority with a worker and a client, and a stranger.
func newCertificates(t *testing.T) map[string]string {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	var parent *x509.Certificate
	var signer *ecdsa.PrivateKey
	for i, name := range []string{"ca", "worker", "client", "stranger"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IsCA: name == "ca", BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		if name == "ca" {
			parent, signer = c, key
		}
		by, with := parent, signer
		if name == "stranger" {
			by, with = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{name: {Type: "CERTIFICATE", Bytes: der}, name + "-key": {Type: "PRIVATE KEY", Bytes: private}} {
			files[file] = filepath.Join(dir, file+".pem")
			if err := os.WriteFile(files[file], pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// startBuildkitd starts a daemon with an empty cache.
func startBuildkitd(t *testing.T, o peers.BuildkitOptions) *peers.Buildkitd {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bk") // short: the path of a socket has its limit
	if err != nil {
		t.Fatal(err)
	}
	b, err := peers.StartBuildkit(t.Context(), program(t, peers.Buildkit(root)), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.Stop(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return b
}

// emulate lets the kernel run arm64 programs, and leaves it as it was.
func emulate(t *testing.T) {
	t.Helper()
	const dir = "/proc/sys/fs/binfmt_misc"
	run := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if _, err := os.Stat(dir + "/status"); errors.Is(err, fs.ErrNotExist) {
		run("mount", "-t", "binfmt_misc", "binfmt_misc", dir)
		t.Cleanup(func() { run("umount", dir) })
	}
	if _, err := os.Stat(dir + "/qemu-aarch64"); errors.Is(err, fs.ErrNotExist) {
		run("update-binfmts", "--enable", "qemu-aarch64")
		t.Cleanup(func() { run("update-binfmts", "--disable", "qemu-aarch64") })
	}
}

// amd64Spec is the kubelet's image for the platform that needs no emulation.
func amd64Spec(t *testing.T) string {
	t.Helper()
	return editedSpec(t, "platforms: [linux/amd64, linux/arm64]", "platforms: [linux/amd64]")
}

// copySpec copies the image's spec and lock.
func copySpec(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kubelet")
	if err := os.CopyFS(dir, os.DirFS(shared.at("images/kubelet"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// editedSpec is a copy with a text replaced, and locked anew.
func editedSpec(t *testing.T, old, new string) string {
	t.Helper()
	dir := copySpec(t)
	edit(t, filepath.Join(dir, "image.yaml"), old, new)
	output(t, shared.Command(t.Context(), "lock", dir))
	return dir
}

// edit replaces a text that stands once in a file.
func edit(t *testing.T, file, old, new string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(data), old) != 1 {
		t.Fatalf("%s: got %q %d times, want it once", file, old, strings.Count(string(data), old))
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// built runs imgctl, and returns the digests of the images by platform.
func built(t *testing.T, args ...string) map[string]string {
	t.Helper()
	return digests(t, output(t, shared.Command(t.Context(), append(args, "--json", "-o", t.TempDir())...)))
}

func digests(t *testing.T, document string) map[string]string {
	t.Helper()
	var b struct {
		Images []struct {
			Platforms []struct{ Platform, Digest string }
		}
	}
	if err := json.Unmarshal([]byte(document), &b); err != nil || len(b.Images) != 1 {
		t.Fatalf("got %v and %s, want one image", err, document)
	}
	images := map[string]string{}
	for _, p := range b.Images[0].Platforms {
		images[p.Platform] = p.Digest
	}
	return images
}
