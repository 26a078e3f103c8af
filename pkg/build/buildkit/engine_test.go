package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

var _ build.Engine = (*Engine)(nil)

func TestImageHasTheWorkersLayersAndOurConfig(t *testing.T) {
	d := &fake{platforms: []string{"linux/amd64", "linux/arm64"}}
	e := newEngine(t, map[string]*fake{"unix:///a": d}, "unix:///a")
	img, record, err := e.Build(t.Context(), input(arm64))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("got %d layers, %v; want one", len(layers), err)
	}
	want := archiveOf(tar.Header{Name: "usr/bin/tool", Mode: 0o755, Size: 4, ModTime: time.Unix(0, 0)})
	if got, err := layers[0].DiffID(); err != nil || got.String() != digestOf(want) {
		t.Errorf("layer: got %v, %v; want %s", got, err, digestOf(want))
	}
	if got, err := layers[0].MediaType(); err != nil || got != types.OCILayer { // the spec's compression, not that of the transport
		t.Errorf("layer: got %v, %v; want %s", got, err, types.OCILayer)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Platform().String(); got != "linux/arm64" {
		t.Errorf("config: got %s, want linux/arm64", got)
	}
	if config.Created.Time != created || len(config.Config.Entrypoint) != 1 || len(config.History) != 1 {
		t.Errorf("config: got %+v, want that of the spec", config)
	}
	if record.Internal["engine"] != "buildkit" {
		t.Errorf("record: got %v, want the engine in it", record.Internal)
	}
	if d.closed.Load() != 1 {
		t.Errorf("got %d closed connections, want 1", d.closed.Load())
	}
}

func TestNothingOfTheTransferIsLeft(t *testing.T) {
	e := newEngine(t, map[string]*fake{"unix:///a": {platforms: []string{"linux/amd64"}}}, "unix:///a")
	if _, _, err := e.Build(t.Context(), input(amd64)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(e.Cache, "buildkit"))
	if err != nil || len(left) != 0 {
		t.Errorf("got %v, %v; want an empty directory", left, err)
	}
}

func TestWorkerThatCannotBeReachedOrIsLostIsReplaced(t *testing.T) {
	lost := func(context.Context, client.SolveOpt, chan *client.SolveStatus) (*client.SolveResponse, error) {
		return nil, status.Error(codes.Unavailable, "error reading from server: EOF")
	}
	stopped := func(context.Context, client.SolveOpt, chan *client.SolveStatus) (*client.SolveResponse, error) {
		return nil, status.Error(codes.Canceled, "context canceled")
	}
	silent := &fake{platforms: []string{"linux/arm64"}}
	silent.dead.Store(true)
	dying := &fake{platforms: []string{"linux/arm64"}}
	dying.solve = func(context.Context, client.SolveOpt, chan *client.SolveStatus) (*client.SolveResponse, error) {
		dying.dead.Store(true) // and the error says nothing
		return nil, errors.New("session: closed")
	}
	for name, first := range map[string]*fake{
		"not reachable":         silent,
		"lost":                  {platforms: []string{"linux/arm64"}, solve: lost},
		"lost without a word":   dying,
		"shut down":             {platforms: []string{"linux/arm64"}, solve: stopped},
		"of another platform":   {platforms: []string{"linux/amd64"}},
		"without any platforms": {},
	} {
		t.Run(name, func(t *testing.T) {
			second := &fake{platforms: []string{"linux/amd64", "linux/arm64"}}
			e := newEngine(t, map[string]*fake{"unix:///a": first, "unix:///b": second}, "unix:///a", "unix:///b")
			if _, _, err := e.Build(t.Context(), input(arm64)); err != nil {
				t.Fatal(err)
			}
			if second.solves.Load() != 1 {
				t.Errorf("got %d solves on the second worker, want 1", second.solves.Load())
			}
		})
	}
}

func TestErrorNamesEveryWorkerAndTheStep(t *testing.T) {
	began := time.Now()
	lost := &fake{platforms: []string{"linux/amd64"}, solve: func(_ context.Context, _ client.SolveOpt, s chan *client.SolveStatus) (*client.SolveResponse, error) {
		s <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString("1"), Name: "install 42 packages", Started: &began}}}
		return nil, status.Error(codes.Unavailable, "connection\nreset")
	}}
	silent := &fake{}
	silent.dead.Store(true)
	e := newEngine(t, map[string]*fake{"unix:///a": lost, "unix:///b": silent}, "unix:///a", "unix:///b")
	_, _, err := e.Build(t.Context(), input(amd64))
	has(t, err, "no worker for linux/amd64 is left", `worker unix:///a: lost during step "[linux/amd64] install 42 packages"`, "worker unix:///b: no answer")
	if !Unreachable(err) {
		t.Error("got an answer, want an outage")
	}
	var workers *WorkersError
	if !errors.As(err, &workers) || len(workers.Causes) != 2 {
		t.Errorf("got %#v, want two causes", err)
	}
}

func TestWorkerWithoutThePlatformIsRefusedWithAHint(t *testing.T) {
	e := newEngine(t, map[string]*fake{"unix:///a": {platforms: []string{"linux/amd64", "linux/386"}}}, "linux/arm64=unix:///a")
	_, _, err := e.Build(t.Context(), input(arm64))
	has(t, err, "worker unix:///a: builds for linux/amd64 linux/386, want linux/arm64")
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "binfmt") || !strings.Contains(hinted.Hint(), "--addr linux/arm64=") {
		t.Errorf("got %#v, want a hint", err)
	}
	if Unreachable(err) {
		t.Error("got an outage, want an answer")
	}
	_, _, err = e.Build(t.Context(), input(amd64))
	has(t, err, "no worker for linux/amd64")
}

func TestOldWorkerIsUsedWithAWarning(t *testing.T) {
	for version, want := range map[string]bool{"v0.30.9": true, "v0.31.0": false, "v0.33.1": false, "": false, "dirty": false} {
		var log bytes.Buffer
		e := newEngine(t, map[string]*fake{"unix:///a": {platforms: []string{"linux/amd64"}, version: version}}, "unix:///a")
		e.Log = slog.New(slog.NewTextHandler(&log, nil))
		if _, _, err := e.Build(t.Context(), input(amd64)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "worker may make other bytes"); got != want {
			t.Errorf("%q: got %v, want a warning: %v\n%s", version, got, want, &log)
		}
	}
}

func TestStepThatFailsIsNotTriedElsewhere(t *testing.T) {
	began := time.Now()
	step, other := digest.FromString("step"), digest.FromString("other")
	failing := &fake{platforms: []string{"linux/amd64"}, solve: func(_ context.Context, _ client.SolveOpt, s chan *client.SolveStatus) (*client.SolveResponse, error) {
		s <- &client.SolveStatus{
			Vertexes: []*client.Vertex{{Digest: step, Name: "install 3 packages", Started: &began}, {Digest: other, Name: "merge", Error: "canceled"}},
			Logs:     []*client.VertexLog{{Vertex: step, Data: []byte("1\n2\n3\n4\n5\n\x1b[31mdpkg: no\tspa")}, {Vertex: step, Data: []byte("ce left\n")}},
		}
		return nil, errdefs.WrapVertex(&gateway.ExitError{ExitCode: 7, Err: errors.New("process did not complete")}, step)
	}}
	second := &fake{platforms: []string{"linux/amd64"}}
	e := newEngine(t, map[string]*fake{"unix:///a": failing, "unix:///b": second}, "unix:///a", "unix:///b")
	_, _, err := e.Build(t.Context(), input(amd64))
	has(t, err, `worker unix:///a: step "[linux/amd64] install 3 packages": exit code 7: 2 | 3 | 4 | 5 | [31mdpkg: no space left`)
	if second.solves.Load() != 0 {
		t.Error("the second worker was asked, too")
	}
	var failed *StepError
	if !errors.As(err, &failed) || Unreachable(err) {
		t.Errorf("got %#v, want a step that failed", err)
	}
}

func TestErrorOfALivingWorkerIsNotTakenForItsEnd(t *testing.T) {
	d := &fake{platforms: []string{"linux/amd64"}, solve: func(_ context.Context, _ client.SolveOpt, s chan *client.SolveStatus) (*client.SolveResponse, error) {
		s <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString("1"), Name: "exporting", Error: "disk full"}}}
		return nil, errors.New("failed to solve: disk full")
	}}
	second := &fake{platforms: []string{"linux/amd64"}}
	e := newEngine(t, map[string]*fake{"unix:///a": d, "unix:///b": second}, "unix:///a", "unix:///b")
	_, _, err := e.Build(t.Context(), input(amd64))
	has(t, err, `worker unix:///a: step "[linux/amd64] exporting": failed to solve: disk full`)
	if second.solves.Load() != 0 {
		t.Error("the second worker was asked, too")
	}
}

func TestCancelledBuildAsksNobodyElse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &fake{platforms: []string{"linux/amd64"}, solve: func(ctx context.Context, _ client.SolveOpt, _ chan *client.SolveStatus) (*client.SolveResponse, error) {
		cancel()
		<-ctx.Done()
		return nil, status.Error(codes.Canceled, "canceled")
	}}
	second := &fake{platforms: []string{"linux/amd64"}}
	e := newEngine(t, map[string]*fake{"unix:///a": d, "unix:///b": second}, "unix:///a", "unix:///b")
	if _, _, err := e.Build(ctx, input(amd64)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if second.solves.Load() != 0 {
		t.Error("the second worker was asked")
	}
}

// B04: a worker that answers with something else than what it was asked for.
func TestAnswerThatIsNotTheQuestionsIsRefused(t *testing.T) {
	later := tar.Header{Name: "etc/late", ModTime: created.Add(time.Second)}
	for name, tt := range map[string]struct {
		change func(*answer)
		want   string
	}{
		"another platform":    {func(a *answer) { a.platform.Architecture = "amd64" }, "it made an image for linux/amd64, want linux/arm64"},
		"no platform":         {func(a *answer) { a.platform.OS, a.platform.Architecture = "", "" }, "want linux/arm64"},
		"another variant":     {func(a *answer) { a.platform.Variant = "v7" }, "linux/arm64/v7"},
		"more layers":         {func(a *answer) { a.layers = append(a.layers, a.layers[0]) }, "it made 2 layers and wrote down 2, want 1"},
		"no layers":           {func(a *answer) { a.layers = nil }, "it made 0 layers"},
		"Docker's media type": {func(a *answer) { a.mediaType = types.DockerLayer }, "media type"},
		"no such manifest":    {func(a *answer) { a.digest = digestOf([]byte("x")) }, "manifest: no sha256:"},
		"no digest":           {func(a *answer) { a.digest = "latest" }, "digest of the image"},
		"another layer":       {func(a *answer) { a.diffs = []string{digestOf([]byte("x"))} }, "it is not what the worker's config says"},
		"times not rewritten": {func(a *answer) { a.layers[0] = archiveOf(later) }, "the worker did not rewrite times"},
		"whiteout":            {func(a *answer) { a.layers[0] = archiveOf(tar.Header{Name: "etc/.wh.passwd"}) }, "deletes a file"},
		"damaged layer":       {func(a *answer) { a.layers[0] = archiveOf(tar.Header{Name: "etc/cut", Size: 999})[:700] }, "unexpected EOF"},
		"cut":                 {func(a *answer) { a.cut = 3000 }, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &fake{platforms: []string{"linux/arm64"}}
			d.solve = func(_ context.Context, opt client.SolveOpt, _ chan *client.SolveStatus) (*client.SolveResponse, error) {
				a := newAnswer(opt)
				tt.change(a)
				return a.send(opt)
			}
			second := &fake{platforms: []string{"linux/arm64"}}
			e := newEngine(t, map[string]*fake{"unix:///a": d, "unix:///b": second}, "unix:///a", "unix:///b")
			_, _, err := e.Build(t.Context(), input(arm64))
			has(t, err, "worker unix:///a", tt.want)
			if second.solves.Load() != 0 {
				t.Error("the second worker was asked: a lie is no outage")
			}
		})
	}
}

func TestPlatformsAreSpreadOverTheWorkers(t *testing.T) {
	both := []string{"linux/amd64", "linux/arm64"}
	daemons := map[string]*fake{"unix:///a": {platforms: both}, "unix:///b": {platforms: both}}
	e := newEngine(t, daemons, "unix:///a", "unix:///b")
	arrived := make(chan struct{}, 2)
	together := make(chan struct{})
	for _, d := range daemons {
		d.solve = func(_ context.Context, opt client.SolveOpt, _ chan *client.SolveStatus) (*client.SolveResponse, error) {
			arrived <- struct{}{}
			<-together
			return newAnswer(opt).send(opt)
		}
	}
	ended := make(chan error, 2)
	go func() { _, _, err := e.Build(t.Context(), input(amd64)); ended <- err }()
	go func() { _, _, err := e.Build(t.Context(), input(arm64)); ended <- err }()
	<-arrived
	<-arrived
	close(together)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for address, d := range daemons {
		if d.solves.Load() != 1 {
			t.Errorf("%s: got %d solves, want 1", address, d.solves.Load())
		}
	}
}

func TestWorkersForThePlatformComeFirst(t *testing.T) {
	e := newEngine(t, nil, "unix:///any", "linux/arm64=unix:///arm", "linux/amd64=unix:///x86", "linux/arm64=unix:///arm2")
	for platform, want := range map[string]string{"linux/arm64": "unix:///arm unix:///arm2 unix:///any", "linux/amd64": "unix:///x86 unix:///any"} {
		p := amd64
		if platform == "linux/arm64" {
			p = arm64
		}
		var got []string
		for _, w := range e.workersFor(p) {
			got = append(got, w.Address)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", platform, got, want)
		}
	}
}

func TestPackagesWithoutTheirClosureCannotBeInstalled(t *testing.T) {
	e := newEngine(t, map[string]*fake{"unix:///a": {platforms: []string{"linux/amd64"}}}, "unix:///a")
	in := withPackages(t, e, tree)
	_, _, err := e.Build(t.Context(), in)
	var closure *ClosureError
	if !errors.As(err, &closure) {
		t.Fatalf("got %v, want a *ClosureError", err)
	}
	has(t, err, "no dpkg", "packages.dependencies", `engine "layers"`)
}

func TestSpecWithoutAnythingIsRefused(t *testing.T) {
	e := newEngine(t, map[string]*fake{"unix:///a": {platforms: []string{"linux/amd64"}}}, "unix:///a")
	e.Materials = materials{}
	_, _, err := e.Build(t.Context(), input(amd64))
	has(t, err, "nothing to build")
}

func TestImageWithoutPackagesHasALayerForTheSpecsFiles(t *testing.T) {
	d := &fake{platforms: []string{"linux/amd64"}}
	d.solve = func(_ context.Context, opt client.SolveOpt, _ chan *client.SolveStatus) (*client.SolveResponse, error) {
		a := newAnswer(opt)
		a.layers = append([][]byte{archiveOf(tar.Header{Name: "etc/passwd", ModTime: created})}, a.layers...)
		return a.send(opt)
	}
	e := newEngine(t, map[string]*fake{"unix:///a": d}, "unix:///a")
	in := input(amd64)
	in.Spec.Users = []rootfs.User{{Name: "tool", UID: 7, GID: 65534}}
	img, _, err := e.Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil || len(config.History) != 2 || config.History[0].Comment != "files of image.yaml" {
		t.Errorf("got %+v, %v; want two layers, the spec's files first", config, err)
	}
}
