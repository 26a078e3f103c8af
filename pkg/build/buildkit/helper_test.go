package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

var (
	created = time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC)
	amd64   = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64   = v1.Platform{OS: "linux", Architecture: "arm64"}
)

// errGone is what a client says when its daemon has died.
var errGone = errors.New("error reading from server: EOF")

// fake plays a BuildKit daemon.
type fake struct {
	platforms []string // that it can do
	version   string   // of BuildKit
	dead      atomic.Bool
	solves    atomic.Int32
	closed    atomic.Int32
	// solve, when set, is asked instead of answering with an image that fits.
	solve func(ctx context.Context, opt client.SolveOpt, status chan *client.SolveStatus) (*client.SolveResponse, error)
}

func (f *fake) ListWorkers(context.Context, ...client.ListWorkersOption) ([]*client.WorkerInfo, error) {
	if f.dead.Load() {
		return nil, errGone
	}
	info := &client.WorkerInfo{BuildkitVersion: client.BuildkitVersion{Version: f.version}}
	for _, p := range f.platforms {
		os, arch, _ := strings.Cut(p, "/")
		info.Platforms = append(info.Platforms, ocispec.Platform{OS: os, Architecture: arch})
	}
	return []*client.WorkerInfo{info}, nil
}

func (f *fake) Solve(ctx context.Context, def *llb.Definition, opt client.SolveOpt, status chan *client.SolveStatus) (*client.SolveResponse, error) {
	defer close(status)
	f.solves.Add(1)
	if f.solve != nil {
		return f.solve(ctx, opt, status)
	}
	return newAnswer(opt).send(opt)
}

func (f *fake) Close() error {
	f.closed.Add(1)
	return nil
}

// answer is the image that a worker sends, as far as tests change it.
type answer struct {
	platform  ocispec.Platform
	layers    [][]byte // tar archives
	diffs     []string // default: of the layers
	mediaType types.MediaType
	digest    string // default: of the manifest
	cut       int    // bytes of the archive's end that get lost
}

// newAnswer is what a good worker sends for an image of one program.
func newAnswer(opt client.SolveOpt) *answer {
	var config ocispec.Image
	if err := json.Unmarshal([]byte(opt.Exports[0].Attrs[exptypes.ExporterImageConfigKey]), &config); err != nil {
		panic(err)
	}
	return &answer{platform: config.Platform, mediaType: types.OCILayerZStd,
		layers: [][]byte{archiveOf(tar.Header{Name: "usr/bin/tool", Mode: 0o755, Size: 4, ModTime: time.Unix(0, 0)})}}
}

// archiveOf is a tar archive of entries with nothing but zeros in them.
func archiveOf(entries ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		w.Write(make([]byte, h.Size))
	}
	w.Close()
	return b.Bytes()
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// send writes the image as an OCI layout to where the engine wants it.
func (a *answer) send(opt client.SolveOpt) (*client.SolveResponse, error) {
	var blobs [][]byte
	add := func(data []byte) v1.Descriptor {
		blobs = append(blobs, data)
		h, _ := v1.NewHash(digestOf(data))
		return v1.Descriptor{Digest: h, Size: int64(len(data)), MediaType: a.mediaType}
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	config := ocispec.Image{Platform: a.platform, RootFS: ocispec.RootFS{Type: "layers"}}
	z, _ := zstd.NewWriter(nil)
	for i, l := range a.layers {
		m.Layers = append(m.Layers, add(z.EncodeAll(l, nil)))
		diff := digestOf(l)
		if a.diffs != nil {
			diff = a.diffs[i]
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(diff))
	}
	m.Config = add(marshal(config))
	manifest := marshal(m)
	add(manifest)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, data := range blobs {
		w.WriteHeader(&tar.Header{Name: "blobs/sha256/" + strings.TrimPrefix(digestOf(data), "sha256:"), Mode: 0o444, Size: int64(len(data))})
		w.Write(data)
	}
	w.Close()
	out, err := opt.Exports[0].Output(nil)
	if err != nil {
		return nil, err
	}
	if _, err := out.Write(b.Bytes()[:b.Len()-a.cut]); err != nil {
		return nil, err
	}
	if a.digest == "" {
		a.digest = digestOf(manifest)
	}
	return &client.SolveResponse{ExporterResponse: map[string]string{exptypes.ExporterImageDigestKey: a.digest}}, out.Close()
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// materials are files of a test.
type materials struct {
	packages []rootfs.Package
	programs []rootfs.OnDisk
}

func (m materials) Packages(context.Context, build.Input) ([]rootfs.Package, error) {
	return m.packages, nil
}

func (m materials) Published(context.Context, build.Input) ([]*upstream.Blob, error) {
	return nil, nil
}

func (m materials) Programs(context.Context, build.Input, []*upstream.Blob) ([]rootfs.OnDisk, error) {
	return m.programs, nil
}

// newEngine is an engine for the workers, which are found under their addresses.
func newEngine(t testing.TB, daemons map[string]*fake, workers ...string) *Engine {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, []byte("tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := &Engine{Materials: materials{programs: []rootfs.OnDisk{{Path: "/usr/bin/tool", File: tool, Mode: 0o755}}}, Cache: t.TempDir(), Jobs: 2}
	for _, text := range workers {
		w, err := ParseWorker(text)
		if err != nil {
			t.Fatal(err)
		}
		e.Workers = append(e.Workers, w)
	}
	e.connect = func(_ context.Context, w Worker) (daemon, error) {
		d, ok := daemons[w.Address]
		if !ok {
			return nil, fmt.Errorf("no such daemon %s", w)
		}
		return d, nil
	}
	return e
}

// input is an image of one program.
func input(p v1.Platform) build.Input {
	return build.Input{Spec: &build.Spec{Entrypoint: []string{"/usr/bin/tool"}}, Lock: &build.Lock{Created: created}, Platform: p}
}

// writeDebs writes packages to disk.
func writeDebs(t testing.TB, packages ...imgtest.Deb) []rootfs.Package {
	t.Helper()
	var result []rootfs.Package
	dir := t.TempDir()
	for _, d := range packages {
		file := filepath.Join(dir, d.Name)
		if err := os.WriteFile(file, d.Bytes(t), 0o644); err != nil {
			t.Fatal(err)
		}
		if d.Version == "" {
			d.Version = "1.0-1"
		}
		result = append(result, rootfs.Package{Name: d.Name, Version: d.Version, File: file})
	}
	return result
}

// has fails the test unless err is one, on one line, that says all of want.
func has(t testing.TB, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("got an error of several lines: %q", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want %q in it", err, w)
		}
	}
}
