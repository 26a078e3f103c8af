package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/buildkit"
)

// buildkitFlags say who builds, and where the BuildKit workers are.
type buildkitFlags struct {
	builder   string
	addresses []string
	tls       buildkit.TLS

	workers []buildkit.Worker // what the addresses mean, once they have been checked
}

func (b *buildkitFlags) register(f *pflag.FlagSet) {
	f.StringVar(&b.builder, "builder", "layers", "who builds: layers, the engine in Go, or buildkit")
	f.StringArrayVar(&b.addresses, "addr", nil, "BuildKit worker, as `[PLATFORM=]ADDRESS`: unix://, tcp://, ssh://, kube-pod://, docker-container:// or podman-container:// (repeatable; default: $BUILDKIT_HOST)")
	f.StringVar(&b.tls.CA, "tlscacert", "", "`file` with the certificates that tcp:// workers are signed by")
	f.StringVar(&b.tls.Cert, "tlscert", "", "`file` with our certificate for tcp:// workers")
	f.StringVar(&b.tls.Key, "tlskey", "", "`file` with the key of that certificate")
	f.StringVar(&b.tls.ServerName, "tlsservername", "", "`name` in the workers' certificates (default: the host of the address)")
}

// check refuses what no build could use. Workers must be given when they are
// needed whoever builds.
func (b *buildkitFlags) check(a *app, needed bool) error {
	if !slices.Contains([]string{"layers", "buildkit"}, b.builder) {
		return usage(fmt.Errorf("--builder: got %q, want layers or buildkit", b.builder))
	}
	addresses := b.addresses
	if host := a.getenv("BUILDKIT_HOST"); len(addresses) == 0 && host != "" {
		addresses = []string{host}
	}
	if len(addresses) == 0 && (needed || b.builder == "buildkit") {
		return usage(fmt.Errorf("--addr: got nothing, and no BUILDKIT_HOST; want the address of a BuildKit worker"))
	}
	for _, text := range addresses {
		w, err := buildkit.ParseWorker(text)
		if err == nil {
			err = b.tls.Check(w)
		}
		if err == nil && a.offline && !strings.HasPrefix(w.Address, "unix://") {
			err = fmt.Errorf("worker %s: --offline allows no connection", w)
		}
		if err != nil {
			return usage(fmt.Errorf("--addr: %w", err))
		}
		b.workers = append(b.workers, w)
	}
	return nil
}

// engine is the engine on the workers.
func (b *buildkitFlags) engine(a *app, in inputs) build.Engine {
	e := &buildkit.Engine{Materials: a.materials(in), Workers: b.workers, TLS: b.tls, Cache: a.cache, Jobs: a.jobs, Log: a.logger()}
	if mode := cmp.Or(a.progress, "auto"); mode != "none" && !a.quiet {
		e.Progress = buildkit.Progress{Out: a.stderr, Mode: mode}
	}
	return e
}
