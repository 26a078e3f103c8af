//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/build/layer"
)

// Every client below reads each layer to its end; podman and containerd, who
// unpack, compare it with the digest of its content.
func TestClientsReadLayersOfEitherCompression(t *testing.T) {
	for want, c := range map[types.MediaType]layer.Compression{
		types.OCILayer:     {Algorithm: layer.Gzip, Level: 6},
		types.OCILayerZStd: {Algorithm: layer.Zstd, Level: 19}, // the strongest
	} {
		t.Run(c.String(), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "layout")
			output(t, shared.Command(t.Context(), "build", withCompression(t, c), "--variant", "slim", "-o", out))
			raw := output(t, skopeo(t, "inspect", "--raw", "oci:"+out+":"+peers.KubeVersion))
			ref := shared.Registries[0].Addr + "/" + c.Algorithm + "/kubelet:" + peers.KubeVersion
			output(t, skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+out+":"+peers.KubeVersion, "docker://"+ref))
			readByAll(t, ref, raw)
			if c.Algorithm == layer.Gzip { // crane validate of v0.22.1 takes every layer for that
				output(t, exec.Command(program(t, peers.Crane()), "--insecure", "validate", "--remote", ref))
			}
			for _, d := range layersOf(t, ref) {
				if d.MediaType != want {
					t.Errorf("got a layer of type %s, want %s", d.MediaType, want)
				}
			}
		})
	}
}

// readByAll reads the image at ref, whose index is raw, with every client.
func readByAll(t *testing.T, ref, raw string) {
	t.Helper()
	crane := program(t, peers.Crane())
	if got := output(t, exec.Command(crane, "--insecure", "manifest", ref)); got != raw {
		t.Errorf("skopeo pushed %s, want %s", got, raw)
	}
	files := filepath.Join(t.TempDir(), "files.tar")
	output(t, exec.Command(crane, "--insecure", "export", "--platform", "linux/arm64", ref, files))
	if got := output(t, exec.Command("tar", "-tf", files, "usr/local/bin/kubelet", "usr/bin/dash")); strings.Count(got, "\n") != 2 {
		t.Errorf("crane exported %q, want both files", got)
	}
	for _, c := range []puller{podmanPuller, containerdPuller} {
		c.pull(t, plainLine(), ref, "/usr/local/bin/kubelet")
	}
}

// withCompression copies the image's spec and lock, with its layers compressed in another way.
func withCompression(t *testing.T, c layer.Compression) string {
	t.Helper()
	dir := copySpec(t)
	one := fmt.Sprintf("{algorithm: %s, level: %d}", c.Algorithm, c.Level)
	edit(t, filepath.Join(dir, "image.yaml"), "\ngates:\n", fmt.Sprintf("\ncompression: {packages: %s, programs: %s}\ngates:\n", one, one))
	return dir
}

// layersOf lists the layers of the amd64 image at ref.
func layersOf(t *testing.T, ref string) []v1.Descriptor {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil || len(m.Layers) == 0 {
		t.Fatalf("%s: got %+v, %v, want layers", ref, m, err)
	}
	return m.Layers
}

// loopback is the line without a bound.
const loopback = "loopback"

// line is a way to the registry.
type line struct {
	name  string
	host  string   // of the registry, as clients name it
	enter []string // command that the client is run by
}

// run prepares a client's command at its end of the line.
func (l *line) run(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	if len(l.enter) == 0 {
		return cmd
	}
	args := append(slices.Clone(l.enter), cmd.Args...)
	entered := exec.CommandContext(t.Context(), args[0], args[1:]...)
	entered.Env = cmd.Env
	return entered
}

// plainLine is the way without a bound.
func plainLine() *line {
	return &line{name: loopback, host: shared.Registries[0].Addr}
}

// usage is what a pull took.
type usage struct{ took, cpu time.Duration }

// puller pulls an image into an empty store and unpacks it. A file that the
// image must have is looked for there.
type puller struct {
	name string
	pull func(t *testing.T, l *line, ref, file string) usage
}

var podmanPuller = puller{"podman", func(t *testing.T, l *line, ref, file string) usage {
	t.Helper()
	dir := shortDir(t)
	host, _, _ := strings.Cut(ref, "/")
	p, err := newPodman(dir, host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(p.unmount(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	}()
	cmd := l.run(t, p.command(t, "pull", "-q", ref))
	began := time.Now()
	output(t, cmd)
	u := usage{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()} // with those of the children
	wantUnpacked(t, filepath.Join(dir, "root", "overlay", "*", "diff"), file)
	return u
}}

var containerdPuller = puller{"containerd", func(t *testing.T, l *line, ref, file string) usage {
	t.Helper()
	dir := shortDir(t)
	daemon, address, stop := startContainerd(t, dir)
	before := processorTime(t, daemon.Process.Pid)
	cmd := l.run(t, exec.CommandContext(t.Context(), "ctr", "--address", address, "images", "pull", "--plain-http", "--platform", "linux/amd64", ref))
	began := time.Now()
	output(t, cmd)
	u := usage{took: time.Since(began)}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + processorTime(t, daemon.Process.Pid) - before
	wantUnpacked(t, filepath.Join(dir, "root", "io.containerd.snapshotter.v1.overlayfs", "snapshots", "*", "fs"), file)
	if err := errors.Join(stop(), os.RemoveAll(dir)); err != nil {
		t.Error(err)
	}
	return u
}}

// shortDir makes a directory for a client's files. podman takes no path of more
// than 50 characters, and a socket's may not be much longer.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantUnpacked looks for a file below the directories that a glob names.
func wantUnpacked(t *testing.T, dirs, file string) {
	t.Helper()
	found, err := filepath.Glob(dirs + file)
	if err != nil || len(found) != 1 {
		t.Fatalf("got %q, %v, want %s unpacked once", found, err, file)
	}
}

// startContainerd runs a daemon with all its files below dir.
func startContainerd(t *testing.T, dir string) (daemon *exec.Cmd, address string, stop func() error) {
	t.Helper()
	address = filepath.Join(dir, "socket")
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon = exec.Command("containerd", "--config", config)
	p, err := peers.Start(t.Context(), daemon, filepath.Join(dir, "log"), func(ctx context.Context) error {
		return exec.CommandContext(ctx, "ctr", "--address", address, "version").Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	return daemon, address, p.Stop
}

// processorTime is what a process that runs, and its children that have ended, have used.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	const ticks = time.Second / 100 // what the kernel counts in, see proc(5)
	var sum time.Duration
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * ticks
	}
	return sum
}
