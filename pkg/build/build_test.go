package build_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/layer"
)

func TestAnImageForEachPlatformAndAnIndexOfThem(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	r := w.mustBuild(t)
	must(t, validate.Index(r.Index))
	m, err := r.Index.IndexManifest()
	must(t, err)
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
		if d.MediaType != types.OCIManifestSchema1 || d.ArtifactType != "" || d.Digest.String() != digest(t, r.Images[d.Platform.String()]) {
			t.Errorf("got %+v", d)
		}
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) || m.MediaType != types.OCIImageIndex {
		t.Errorf("got %q of type %s, want %q", platforms, m.MediaType, want)
	}
	want := map[string]string{"org.opencontainers.image.title": "kubelet", "org.opencontainers.image.version": version,
		"org.opencontainers.image.created": w.debian.Date.Format(time.RFC3339)}
	if !maps.Equal(m.Annotations, want) {
		t.Errorf("got %v, want %v", m.Annotations, want)
	}
}

func TestTheConfigIsTheSpecs(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	r := w.mustBuild(t)
	for platform, img := range r.Images {
		c, err := img.ConfigFile()
		must(t, err)
		if c.OS+"/"+c.Architecture != platform || !c.Created.Equal(l.Created) || len(c.RootFS.DiffIDs) != 2 || len(c.History) != 2 {
			t.Errorf("%s: got %+v", platform, c)
		}
		if got := strings.Join(c.Config.Env, " "); got != "LANG=C.UTF-8 PATH=/usr/bin:/bin" {
			t.Errorf("got %s, want the environment sorted", got)
		}
		if c.Config.Entrypoint[0] != "/usr/local/bin/kubelet" || c.Config.Labels["maintainer"] != "nobody" {
			t.Errorf("got %+v", c.Config)
		}
	}
}

// readLayer returns the headers and the contents of a layer by name.
func readLayer(t testing.TB, l v1.Layer) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	headers, bodies := make(map[string]*tar.Header), make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(content(t, l))); ; {
		h, err := r.Next()
		if err == io.EOF {
			return headers, bodies
		}
		must(t, err)
		body, err := io.ReadAll(r)
		must(t, err)
		headers[h.Name], bodies[h.Name] = h, body
	}
}

func TestTheLayersHoldPackagesAndKubernetes(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	r := w.mustBuild(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		both := layers(t, r, "linux/"+arch)
		_, system := readLayer(t, both[0])
		for _, name := range []string{"etc/passwd", "usr/bin/tool", "var/lib/dpkg/status", "etc/ld.so.cache", "etc/ssl/certs/ca-certificates.crt", "usr/share/doc/iptables/copyright"} {
			if len(system[name]) == 0 {
				t.Errorf("%s: %s is missing or empty", arch, name)
			}
		}
		if _, there := system["usr/share/doc/base-files/changelog.gz"]; there {
			t.Error("an excluded file is there")
		}
		headers, node := readLayer(t, both[1])
		if len(headers) != 5 { // three directories, two programs
			t.Errorf("%s: got %d entries", arch, len(headers))
		}
		for _, name := range []string{"usr/local/bin/kubelet", "usr/local/bin/kubectl"} {
			f, err := elf.NewFile(bytes.NewReader(node[name]))
			must(t, err)
			if h := headers[name]; f.Machine != machine || h.Mode != 0o755 || h.Uid+h.Gid != 0 || h.ModTime.Unix() != 0 {
				t.Errorf("%s: %v, %+v", name, f.Machine, h)
			}
		}
	}
}

// B01, B02: nothing of the machine or of the process is in the image.
func TestTheSameInputGivesTheSameBytesEverywhere(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	want := digest(t, w.mustBuild(t).Index)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	defer syscall.Umask(syscall.Umask(0))
	local := time.Local
	defer func() { time.Local = local }()
	for i, tt := range []struct {
		umask, procs int
		zone         string
	}{{0, 1, "UTC"}, {0o077, 2, "Pacific/Kiritimati"}, {0o777, 3, "America/St_Johns"}} {
		w.cache = t.TempDir()
		syscall.Umask(tt.umask &^ 0o700) // the cache itself has to be readable
		runtime.GOMAXPROCS(tt.procs)
		time.Local = time.FixedZone(tt.zone, 3600*(5*i-5))
		t.Chdir(t.TempDir())
		t.Setenv("TZ", tt.zone)
		t.Setenv("LC_ALL", "tr_TR.UTF-8")
		t.Setenv("HOME", t.TempDir())
		r := w.mustBuild(t)
		if got := digest(t, r.Index); got != want {
			t.Errorf("umask %o, %d cores, %s: got %s, want %s", tt.umask, tt.procs, tt.zone, got, want)
		}
		headers, _ := readLayer(t, layers(t, r, "linux/amd64")[0])
		for name, mode := range map[string]int64{"etc/": 0o755, "etc/passwd": 0o644, "usr/bin/tool": 0o755, "tmp/": 0o1777} {
			if h := headers[name]; h.Mode != mode || h.Uid != 0 || h.Gid != 0 {
				t.Errorf("%s: got %o %d:%d, want %o 0:0", name, h.Mode, h.Uid, h.Gid, mode)
			}
		}
	}
}

func TestARebuildFetchesAndMakesNothing(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	first := w.mustBuild(t)
	want := digest(t, first.Index)
	packages := len(w.debian.Requests())
	w.kube.Requests() // forgets those so far
	before := modified(t, w)
	programs := extracted(w, first)
	for _, file := range programs {
		must(t, os.Remove(file))
	}
	if got := digest(t, w.mustBuild(t).Index); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := append(w.debian.Requests()[packages:], w.kube.Requests()...); len(got) > 0 {
		t.Errorf("fetched again: %q", got)
	}
	if !maps.Equal(modified(t, w), before) {
		t.Error("a layer was made again")
	}
	for _, file := range programs {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a program was taken out of its tarball again: %v", err)
		}
	}
}

// extracted returns where the cache has what was taken out of tarballs.
func extracted(w *world, r *build.Result) []string {
	var files []string
	for _, record := range r.Records {
		for _, m := range record.Materials {
			if m.Type == attest.TypeBinary && m.Path == "/usr/local/bin/kubelet" {
				files = append(files, filepath.Join(w.cache, "sha256", m.Digests["sha256"]))
			}
		}
	}
	return files
}

// modified returns the time of each layer in the cache.
func modified(t testing.TB, w *world) map[string]time.Time {
	t.Helper()
	times := make(map[string]time.Time)
	found, err := filepath.Glob(filepath.Join(w.cache, "layers", "*.tar.*"))
	must(t, err)
	for _, f := range found {
		info, err := os.Stat(f)
		must(t, err)
		times[f] = info.ModTime()
	}
	return times
}

func TestOnlyTheLayerThatChangedIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	old := w.lock(t, nil)
	before := w.mustBuild(t)

	w.release(t, 200_000, "v1.36.3")
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.3]")
	w.lock(t, old)
	newKubelet := w.mustBuild(t)

	w.debian.Packages = append(w.debian.Packages, imgtest.Deb{Name: "jq", Files: []imgtest.DebFile{{Path: "usr/bin/jq", Body: "jq"}}})
	w.debian.Date = w.debian.Date.Add(time.Minute)
	w.debian.Publish(t)
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.3]", "tool-static]", "tool-static, jq]")
	w.lock(t, nil)
	newPackages := w.mustBuild(t)

	for _, p := range []string{"linux/amd64", "linux/arm64"} {
		a, b, c := layers(t, before, p), layers(t, newKubelet, p), layers(t, newPackages, p)
		if digest(t, a[0]) != digest(t, b[0]) || digest(t, a[1]) == digest(t, b[1]) {
			t.Errorf("%s: another kubelet should change its layer and no other", p)
		}
		if digest(t, b[1]) != digest(t, c[1]) || digest(t, b[0]) == digest(t, c[0]) {
			t.Errorf("%s: other packages should change their layer and no other", p)
		}
	}
	if n := len(modified(t, w)); n != 8 {
		t.Errorf("%d layers were made, want 4, 2 and 2", n)
	}
}

// B11: a layer that changes after the build is not what is written.
func TestALayerThatChangesOnDiskIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	r := w.mustBuild(t)
	_, err := layout.Write(t.TempDir(), r.Index)
	must(t, err)
	for path := range modified(t, w) {
		body, err := os.ReadFile(path)
		must(t, err)
		body[len(body)/2] ^= 1
		must(t, os.WriteFile(path, body, 0o644))
	}
	var changed *layer.ChangedError
	if _, err := layout.Write(t.TempDir(), r.Index); !errors.As(err, &changed) {
		t.Errorf("got %v, want a ChangedError", err)
	}
	if again := w.mustBuild(t); digest(t, again.Index) != digest(t, r.Index) {
		t.Error("the damaged layers were not made again as they were")
	}
}

// B10: the time is a field, and the only one that the clock could be taken for.
func TestTheTimeIsTheLocks(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	epoch, err := build.ParseEpoch("1000000000")
	must(t, err)
	l.Created = epoch
	r, err := build.Build(t.Context(), w.engine(), w.spec(t), l, w.target(t, l))
	must(t, err)
	c, err := r.Images["linux/amd64"].ConfigFile()
	must(t, err)
	if !c.Created.Equal(epoch) {
		t.Errorf("got %v, want %v", c.Created, epoch)
	}
	headers, _ := readLayer(t, layers(t, r, "linux/amd64")[0])
	for name, h := range headers {
		if h.ModTime.After(epoch) {
			t.Errorf("%s: %v is younger than the image", name, h.ModTime)
		}
	}
}

// The memory of a build does not grow with its files: 64 MiB pass through here.
func TestContentIsNeverHeldInMemory(t *testing.T) {
	w := newWorld(t)
	big := strings.Repeat(fmt.Sprintf("%064d", 7), 1<<20)
	w.debian.Packages = append(w.debian.Packages, imgtest.Deb{Name: "big", Compress: "gz", Files: []imgtest.DebFile{{Path: "usr/lib/big", Body: big}}})
	w.debian.Publish(t)
	w.edit(t, "tool-static]", "tool-static, big]")
	l := w.lock(t, nil)
	_, err := w.archive().FetchAll(t.Context(), 0)
	must(t, err)
	w.debian.Packages, big = nil, ""
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := build.Build(t.Context(), w.engine(), w.spec(t), l, w.target(t, l))
	must(t, err)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 48<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	headers, _ := readLayer(t, layers(t, r, "linux/amd64")[0])
	if headers["usr/lib/big"].Size != 64<<20 {
		t.Errorf("got %d bytes", headers["usr/lib/big"].Size)
	}
}
