package buildkit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"
)

// compatibility pins how a worker makes an image of files. It is one of the
// numbers of BuildKit's "compatibility-version", which workers before
// compatibleSince do not know.
const (
	compatibility   = 30
	compatibleSince = "v0.31.0"
)

// job is what a worker is asked to make.
type job struct {
	platform v1.Platform
	def      *llb.Definition
	mounts   map[string]uploads
	epoch    time.Time
	layers   int    // how many the result must have
	dir      string // where the result goes
}

// solver is the part of [daemon] that does the work.
type solver interface {
	Solve(ctx context.Context, def *llb.Definition, opt client.SolveOpt, status chan *client.SolveStatus) (*client.SolveResponse, error)
}

// solve has the job done by one of the workers. When a worker cannot be reached,
// cannot do the platform or is lost, another one is asked; when a step fails, none is.
func (e *Engine) solve(ctx context.Context, j job) (*result, error) {
	left := e.workersFor(j.platform)
	none := &WorkersError{Platform: j.platform.String()}
	for len(left) > 0 {
		w := e.take(left)
		r, err := e.solveOn(ctx, w, j)
		e.giveBack(w)
		var unavailable *UnavailableError
		var platform *PlatformError
		if err == nil || !errors.As(err, &unavailable) && !errors.As(err, &platform) {
			return r, err
		}
		none.Causes = append(none.Causes, err)
		left = without(left, w)
		e.log().Warn("worker given up", "platform", j.platform.String(), "left", len(left), "err", err)
	}
	return nil, none
}

func without(workers []Worker, w Worker) []Worker {
	var rest []Worker
	for _, o := range workers {
		if o.Address != w.Address {
			rest = append(rest, o)
		}
	}
	return rest
}

// solveOn has the job done by one worker.
func (e *Engine) solveOn(ctx context.Context, w Worker, j job) (*result, error) {
	d, err := e.dial(ctx, w)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := e.checkWorker(ctx, w, d, j.platform); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(j.dir, "result-")
	if err != nil {
		return nil, err
	}
	r := &result{worker: w, file: file}
	if err := os.Remove(file.Name()); err != nil { // so that it goes with this process, however that ends
		return nil, errors.Join(err, r.Close())
	}
	if err := e.solveInto(ctx, w, d, j, r); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// solveInto has the job done by one worker that can do it.
func (e *Engine) solveInto(ctx context.Context, w Worker, d daemon, j job, r *result) error {
	opt, err := j.options(r)
	if err != nil {
		return err
	}
	began := time.Now()
	response, err := e.follow(ctx, w, d, j, opt)
	if err != nil {
		return err
	}
	if err := r.read(response.ExporterResponse[exptypes.ExporterImageDigestKey], j); err != nil {
		return fmt.Errorf("worker %s: %w", w, err)
	}
	e.log().Info("solved", "platform", j.platform.String(), "worker", w.Address, "took", time.Since(began))
	return nil
}

// options say how the result comes to us. Attestations are off: ours are made
// here, of what we know, and stand beside the image. Layers travel as zstd at its
// fastest; how they are compressed in the image is not the worker's matter.
func (j job) options(r *result) (client.SolveOpt, error) {
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: j.platform.OS, Architecture: j.platform.Architecture, Variant: j.platform.Variant},
		RootFS:   ocispec.RootFS{Type: "layers"},
	})
	if err != nil {
		return client.SolveOpt{}, err
	}
	mounts := make(map[string]fsutil.FS)
	for name, files := range j.mounts {
		mounts[name] = files
	}
	return client.SolveOpt{
		CompatibilityVersion: compatibility,
		LocalMounts:          mounts,
		Exports: []client.ExportEntry{{
			Type:   client.ExporterOCI,
			Output: func(map[string]string) (io.WriteCloser, error) { return &bounded{w: r.file, left: maxResult}, nil },
			Attrs: map[string]string{
				exptypes.ExporterImageConfigKey:         string(config),
				string(exptypes.OptKeyOCITypes):         "true",
				string(exptypes.OptKeyRewriteTimestamp): "true",
				string(exptypes.OptKeySourceDateEpoch):  strconv.FormatInt(j.epoch.Unix(), 10),
				string(exptypes.OptKeyLayerCompression): "zstd",
				string(exptypes.OptKeyForceCompression): "true",
				string(exptypes.OptKeyCompressionLevel): "1",
			},
		}},
	}, nil
}

// follow solves and shows how that goes on.
func (e *Engine) follow(ctx context.Context, w Worker, d daemon, j job, opt client.SolveOpt) (*client.SolveResponse, error) {
	shown, err := e.screen()
	if err != nil {
		return nil, err
	}
	defer shown.leave()
	watch := newWatch("["+j.platform.String()+"] ", shown.status)
	status := make(chan *client.SolveStatus)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		watch.follow(status)
	}()
	response, err := d.Solve(ctx, j.def, opt, status)
	<-followed
	if err == nil {
		return response, nil
	}
	if ctx.Err() != nil {
		watch.abandon("canceled")
		return nil, ctx.Err()
	}
	return nil, explain(ctx, w, d, watch, err)
}

// explain makes an error of what a solve ended with, and of what is known about
// its steps. A step that ended with an exit code is the step's failure. Anything
// else may be the end of the worker: whether it still answers decides.
func explain(ctx context.Context, w Worker, d daemon, watch *watch, err error) error {
	var exit *gateway.ExitError
	stepped := errors.As(err, &exit)
	if !stepped && !alive(ctx, d, err) {
		lost := &UnavailableError{Worker: w, Step: cmp.Or(watch.running(), "start"), Err: errors.New(printable(err.Error()))}
		watch.abandon("worker lost")
		return cmp.Or(ctx.Err(), error(lost))
	}
	var vertex *errdefs.VertexError
	var failed *step
	if errors.As(err, &vertex) {
		failed = watch.failed(vertex.Digest)
	} else {
		failed = watch.failed("")
	}
	cause := errors.New(printable(err.Error()))
	if stepped {
		cause = fmt.Errorf("exit code %d", exit.ExitCode)
	}
	return &StepError{Worker: w, Step: failed.Name, Log: failed.tail(), Err: cause}
}

// alive reports whether the worker answers after a solve has ended with err. One
// that cancels what we did not cancel is about to end.
func alive(ctx context.Context, d daemon, err error) bool {
	if code := grpcerrors.Code(err); code == codes.Unavailable || code == codes.Canceled {
		return false
	}
	asked, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	_, err = d.ListWorkers(asked)
	return err == nil
}
