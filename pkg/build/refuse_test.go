package build_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// B13: one platform that fails is no index.
func TestOnePlatformThatFailsIsNoIndex(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	w.cache = t.TempDir()
	w.kube.Missing(upstream.NodeTarball(version, "arm64"))
	r, err := w.build(t)
	if r != nil || err == nil || !strings.Contains(err.Error(), "build v1.36.2 linux/arm64: ") || !download.NotFound(err) {
		t.Errorf("got %v, %v", r, err)
	}
	w.kube.Script(upstream.NodeTarball(version, "arm64"), nil)
	w.mustBuild(t)
}

func TestOtherBytesThanLockedAreRefused(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	w.cache = t.TempDir()
	pool := w.debian.Paths("tool-static")[0]
	w.debian.Tamper(t, pool)
	_, err := w.build(t)
	var mismatch *download.Mismatch
	if !errors.As(err, &mismatch) || mismatch.What != "sha256" {
		t.Errorf("got %v, want a mismatch of the package", err)
	}
	w.debian.Tamper(t, pool) // back
	w.cache = t.TempDir()
	w.kube.Flip(upstream.NodeTarball(version, "amd64"), 1000)
	_, err = w.build(t)
	if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "image.lock.json") {
		t.Errorf("got %v, want a mismatch that names the lock", err)
	}
}

// U11: all is signed, and it is a program for another machine.
func TestAProgramForAnotherMachineIsRefused(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	amd, arm := l.Upstream[0].Files["linux/amd64"], l.Upstream[0].Files["linux/arm64"]
	for i := range amd {
		path := arm[i].Path
		arm[i], arm[i].Path = amd[i], path
		body := w.kube
		body.Script(path, func(rw http.ResponseWriter, r *http.Request) {
			r.URL.Path = "/" + amd[i].Path
			body.Original(rw, r)
		})
	}
	must(t, l.Save(w.dir))
	_, err := w.build(t)
	if err == nil || !strings.Contains(err.Error(), "build v1.36.2 linux/arm64: /usr/local/bin/kube") {
		t.Errorf("got %v", err)
	}
}

func TestAProgramOfAnotherVersionIsRefused(t *testing.T) {
	w := newWorld(t)
	binaries, err := imgtest.WritePrograms(t.TempDir(), "v1.36.1", 200_000, "amd64", "arm64")
	must(t, err)
	dir := t.TempDir()
	must(t, imgtest.Kube{Version: version, Binaries: binaries}.Write(dir))
	w.kube, err = imgtest.ServeKube(dir, "", nil)
	must(t, err)
	defer w.kube.Close()
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.2]\n  require: [pin]")
	w.lock(t, nil)
	if _, err := w.build(t); err == nil || !strings.Contains(err.Error(), "v1.36.2") {
		t.Errorf("got %v", err)
	}
}

func TestASignatureThatIsRequiredMustBeThere(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	engine := w.engine()
	engine.Materials.Upstream.Verifier = nil
	if _, err := build.Build(t.Context(), engine, w.spec(t), l, w.target(t, l)); err == nil {
		t.Error("a signature that nobody can judge was accepted")
	}
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.2]\n  require: [pin]")
	if _, err := build.Build(t.Context(), engine, w.spec(t), l, w.target(t, l)); err != nil {
		t.Errorf("got %v, want the pin alone to do where only that is required", err)
	}
}

func TestCancellingEndsTheBuild(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.cache = t.TempDir()
	if _, err := build.Build(ctx, w.engine(), w.spec(t), l, w.target(t, l)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// wrongEngine makes images for one platform whatever it is asked for.
type wrongEngine struct{ e build.Engine }

func (w wrongEngine) Build(ctx context.Context, in build.Input) (v1.Image, attest.Record, error) {
	in.Platform.Architecture = "amd64"
	return w.e.Build(ctx, in)
}

// B04: what an engine calls arm64 must be it.
func TestAnEngineThatMixesUpPlatformsIsNoticed(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	_, err := build.Build(t.Context(), wrongEngine{w.engine()}, w.spec(t), l, w.target(t, l))
	if err == nil || err.Error() != "build v1.36.2 linux/arm64: the image says it is for linux/amd64" {
		t.Errorf("got %v", err)
	}
}
