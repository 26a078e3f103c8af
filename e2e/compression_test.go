//go:build e2e && measure

package e2e

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// The lines that images are pulled over: tc's name of the rate.
var lines = []string{loopback, "400mbit", "100mbit"}

// TestPullTimes measures what the default compression is chosen by; its table is
// in docs/compression.md. The layer of packages is pulled by each client over each
// line, in turns, each time into an empty store.
func TestPullTimes(t *testing.T) {
	runs, _ := strconv.Atoi(os.Getenv("IMGCTL_PULL_RUNS"))
	if runs <= 0 {
		t.Skip("a measurement of many minutes: set IMGCTL_PULL_RUNS to the number of runs")
	}
	variant := cmp.Or(os.Getenv("IMGCTL_PULL_VARIANT"), "slim")
	images := comparedImages(t, variant)
	for i, rate := range lines {
		t.Run(rate, func(t *testing.T) {
			for _, row := range measure(t, newLine(t, i, rate), images, runs) {
				t.Log("| " + variant + row)
			}
		})
	}
}

// measure pulls the images over the line with each client, in turns.
func measure(t *testing.T, l *line, images []comparedImage, runs int) (rows []string) {
	t.Helper()
	for _, client := range []puller{podmanPuller, containerdPuller} {
		samples := make([][]usage, len(images))
		for run := range runs {
			for i := range images {
				i = (i + run) % len(images) // none is always the first
				samples[i] = append(samples[i], client.pull(t, l, l.host+"/"+images[i].ref, "/usr/bin/dash"))
			}
		}
		for i, image := range images {
			rows = append(rows, row(l.name, client.name, image, samples[i], samples[0]))
		}
	}
	return rows
}

// newLine makes the nth line, which the kernel keeps to the rate: the client's end is in
// a network namespace of its own. A proxy in user space would be as slow as the
// machine is busy.
func newLine(t *testing.T, n int, rate string) *line {
	t.Helper()
	if rate == loopback {
		return plainLine()
	}
	registry := shared.Registries[0].Addr
	ours, theirs := fmt.Sprintf("10.213.%d.1", n), fmt.Sprintf("10.213.%d.2", n)
	near := fmt.Sprintf("im%d-%d", os.Getpid(), n)
	ns := near
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() }) // takes both ends of the link with it
	for _, command := range []string{
		"ip netns add " + ns,
		"ip link add " + near + " type veth peer name eth0 netns " + ns,
		"ip addr add " + ours + "/30 dev " + near,
		"ip link set " + near + " up",
		"nsenter --net=/run/netns/" + ns + " ip addr add " + theirs + "/30 dev eth0",
		"nsenter --net=/run/netns/" + ns + " ip link set eth0 up",
		"tc qdisc add dev " + near + " root tbf rate " + rate + " burst 1mb latency 50ms",
	} {
		fields := strings.Fields(command)
		output(t, exec.Command(fields[0], fields[1:]...))
	}
	return &line{name: rate, host: relay(t, ours+":0", registry), enter: []string{"nsenter", "--net=/run/netns/" + ns}}
}

// relay passes connections on, and returns the address that it listens on.
func relay(t *testing.T, addr, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			var g sync.WaitGroup
			for _, c := range [][2]net.Conn{{near, far}, {far, near}} {
				g.Go(func() {
					io.Copy(c[0], c[1]) // in the kernel, by splice
					c[0].(*net.TCPConn).CloseWrite()
				})
			}
			go func() {
				g.Wait()
				near.Close()
				far.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// row is a line of the table: the median of the times with the smallest and the
// largest, its ratio to the first image's, and the median of the processor time.
func row(line, client string, image comparedImage, of, first []usage) string {
	took := func(u usage) time.Duration { return u.took }
	cpu := func(u usage) time.Duration { return u.cpu }
	low, mid, high := spread(of, took)
	_, reference, _ := spread(first, took)
	_, busy, _ := spread(of, cpu)
	return fmt.Sprintf(" | %s | %s | %s | %.1f | %.2f (%.2f–%.2f) | %.2f | %.2f |", line, client, image.name, float64(image.size)/1e6,
		mid.Seconds(), low.Seconds(), high.Seconds(), mid.Seconds()/reference.Seconds(), busy.Seconds())
}

// spread returns the smallest, the middle and the largest of the samples.
func spread(samples []usage, of func(usage) time.Duration) (low, mid, high time.Duration) {
	var all []time.Duration
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[0], all[len(all)/2], all[len(all)-1]
}

// comparedImage is the same layer in one compression.
type comparedImage struct {
	name string
	ref  string // without the registry's address
	size int64  // of the layer
}

// comparedImages pushes the amd64 layer of packages in every compression that is compared.
func comparedImages(t *testing.T, variant string) []comparedImage {
	t.Helper()
	packages := packagesLayer(t, variant)
	var images []comparedImage
	add := func(what string, l v1.Layer, err error) {
		if err != nil {
			t.Fatal(err)
		}
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		ref := "compared/" + variant + ":" + strings.NewReplacer(" ", "-", "(", "", ")", "").Replace(what)
		push(t, shared.Registries[0].Addr+"/"+ref, l)
		images = append(images, comparedImage{what, ref, size})
	}
	for _, c := range []layer.Compression{{Algorithm: layer.Gzip, Level: 6}, {Algorithm: layer.Zstd, Level: 3}, {Algorithm: layer.Zstd, Level: 9}, {Algorithm: layer.Zstd, Level: 19}} {
		l, err := recompress(t, packages, c)
		add(c.String(), l, err)
	}
	l, err := zstd1(t, packages, 19)
	add("zstd(1) 19", l, err)
	return images
}

// packagesLayer is the first layer of the amd64 image of the variant, as it was released.
func packagesLayer(t *testing.T, variant string) v1.Layer {
	t.Helper()
	index, err := layout.ImageIndexFromPath(shared.at("dist/kubelet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range shared.Released.Images() {
		for _, p := range a.Platforms {
			if a.Variant != variant || p.Platform != "linux/amd64" {
				continue
			}
			h, err := v1.NewHash(p.Digest)
			if err != nil {
				t.Fatal(err)
			}
			img, err := index.Image(h)
			if err != nil {
				t.Fatal(err)
			}
			layers, err := img.Layers()
			if err != nil || len(layers) == 0 {
				t.Fatalf("got %d layers, %v", len(layers), err)
			}
			return layers[0]
		}
	}
	t.Fatalf("no image of variant %q was released", variant)
	return nil
}

// recompress compresses the content of l as imgctl build does.
func recompress(t *testing.T, l v1.Layer, c layer.Compression) (v1.Layer, error) {
	store := &layer.Store{Dir: filepath.Join(t.TempDir(), "layers"), Compression: c, Jobs: runtime.GOMAXPROCS(0)}
	return store.Get(t.Context(), "packages", new(any), func(w io.Writer) (any, error) {
		content, err := l.Uncompressed()
		if err != nil {
			return nil, err
		}
		defer content.Close()
		_, err = io.Copy(w, content)
		return nil, err
	})
}

// zstd1 compresses the content of l with the program zstd at a level that
// package layer does not reach, to see what it would be worth.
func zstd1(t *testing.T, l v1.Layer, level int) (v1.Layer, error) {
	content, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	f := fileLayer{path: filepath.Join(t.TempDir(), "layer.tar.zst")}
	cmd := exec.CommandContext(t.Context(), "zstd", "-q", "-T0", "-"+strconv.Itoa(level), "-o", f.path)
	plain := sha256.New()
	cmd.Stdin = io.TeeReader(content, plain)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("zstd: %w: %s", err, out)
	}
	packed, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	h := sha256.New()
	if f.size, err = io.Copy(h, packed); err != nil {
		return nil, err
	}
	f.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}
	f.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
	return partial.CompressedToLayer(f)
}

// fileLayer is a file of zstd frames.
type fileLayer struct {
	path           string
	digest, diffID v1.Hash
	size           int64
}

func (f fileLayer) Digest() (v1.Hash, error)            { return f.digest, nil }
func (f fileLayer) DiffID() (v1.Hash, error)            { return f.diffID, nil }
func (f fileLayer) Size() (int64, error)                { return f.size, nil }
func (f fileLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }
func (f fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(f.path) }

// push makes an image of one layer and pushes it.
func push(t *testing.T, ref string, l v1.Layer) {
	t.Helper()
	mediaType, err := l.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: mediaType}); err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkPackagesLayer says how far a layer of real packages is from its limit.
// In turns it makes the layer, of .debs that are in the cache, and does alone what
// cannot be left out: it decodes the .debs, and compresses the same bytes. Whole
// divided by the sum of both is what everything else costs.
func BenchmarkPackagesLayer(b *testing.B) {
	for _, variant := range []string{"slim", "full"} {
		in := inputOf(b, variant, "linux/amd64")
		packages, err := materials(b, in).Packages(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range []layer.Compression{{Algorithm: layer.Gzip, Level: 6}, {Algorithm: layer.Zstd, Level: 3}, {Algorithm: layer.Zstd, Level: 9}} {
			b.Run(variant+"/"+strings.ReplaceAll(c.String(), " ", "-"), func(b *testing.B) {
				plain := filepath.Join(b.TempDir(), "layer.tar")
				writeFile(b, plain, func(w io.Writer) error { return assemble(b, in, packages, w) })
				var whole, decoded, compressed time.Duration
				for b.Loop() {
					whole += timed(func() { compressTo(b, c, func(w io.Writer) error { return assemble(b, in, packages, w) }) })
					decoded += timed(func() { decodeAll(b, packages) })
					compressed += timed(func() { compressTo(b, c, func(w io.Writer) error { return copyFile(w, plain) }) })
				}
				b.ReportMetric(0, "ns/op") // of all three together it means nothing
				b.ReportMetric(whole.Seconds()/float64(b.N), "whole-s")
				b.ReportMetric(decoded.Seconds()/float64(b.N), "decode-s")
				b.ReportMetric(compressed.Seconds()/float64(b.N), "compress-s")
				b.ReportMetric(whole.Seconds()/(decoded+compressed).Seconds(), "whole/sum")
			})
		}
	}
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// decodeAll reads every .deb to its end, on all cores.
func decodeAll(b *testing.B, packages []rootfs.Package) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range packages {
		g.Go(func() error {
			return deb.Unpack(p.File, func(m deb.Member) error {
				_, err := io.Copy(io.Discard, m.Body)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// assemble writes the layer of the packages, as it is before compression.
func assemble(b *testing.B, in build.Input, packages []rootfs.Package, w io.Writer) error {
	tree, err := rootfs.Assemble(b.Context(), in.Rootfs(), packages, b.TempDir(), make(chan struct{}, runtime.GOMAXPROCS(0)))
	if err != nil {
		return err
	}
	defer tree.Close()
	return tree.WriteTar(w)
}

// compressTo compresses what fill writes, into a store that has nothing yet.
func compressTo(b *testing.B, c layer.Compression, fill func(io.Writer) error) {
	b.Helper()
	store := &layer.Store{Dir: filepath.Join(b.TempDir(), "layers"), Compression: c, Jobs: runtime.GOMAXPROCS(0)}
	if _, err := store.Get(b.Context(), "packages", new(any), func(w io.Writer) (any, error) { return nil, fill(w) }); err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(store.Dir); err != nil {
		b.Fatal(err)
	}
}

func writeFile(b *testing.B, name string, fill func(io.Writer) error) {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		b.Fatal(err)
	}
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// inputOf is what an engine is asked to make the lab's image of.
func inputOf(b *testing.B, variant, platform string) build.Input {
	b.Helper()
	dir := shared.at("images/kubelet")
	s, err := build.LoadSpec(dir)
	if err != nil {
		b.Fatal(err)
	}
	l, err := build.LoadLock(dir)
	if err != nil {
		b.Fatal(err)
	}
	targets, err := build.Select(s.Targets(l), "", variant)
	if err != nil {
		b.Fatal(err)
	}
	e := &listener{asked: make(map[string]build.Input)}
	if _, err := build.Build(b.Context(), e, s, l, targets[0]); !errors.Is(err, errListener) {
		b.Fatal(err)
	}
	return e.asked[platform]
}

// listener is an engine that only remembers what it is asked for.
type listener struct {
	mu    sync.Mutex
	asked map[string]build.Input
}

var errListener = errors.New("nothing is built")

func (e *listener) Build(_ context.Context, in build.Input) (v1.Image, attest.Record, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked[in.Platform.String()] = in
	return nil, attest.Record{}, errListener
}

// materials are those of the user's cache, which the lab's release has filled.
func materials(b *testing.B, in build.Input) *build.Materials {
	b.Helper()
	archives := build.Archives{}
	for _, s := range in.Lock.Debian.Suites {
		name := cmp.Or(s.Archive, deb.Main)
		archives[name] = &deb.Archive{Name: name, Download: &download.Client{Cache: download.Dir(), Offline: true}, Keyring: in.Spec.Keyring()}
	}
	return &build.Materials{Debian: archives, Cache: b.TempDir()}
}
