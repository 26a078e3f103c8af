package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/pkg/verify"
)

// globals are the flags that every command has.
type globals struct {
	output    string // text, json or name
	json      bool
	quiet     bool
	cache     string
	authfile  string
	plainHTTP []string
	anonymous bool
	tokens    []string
	timeouts  oci.Timeouts
	rate      float64
	jobs      int
	progress  string
	offline   bool
	debug     bool
}

func (g *globals) register(f *pflag.FlagSet) {
	f.BoolVar(&g.json, "json", false, "print the result, or the error, as one JSON document on stdout")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print nothing but references (repository@digest), one a line")
	f.StringVar(&g.cache, "cache", "", "where downloads and layers are kept (default: the user's cache directory)")
	f.StringVar(&g.authfile, "authfile", "", "registry credentials (default: REGISTRY_AUTH_FILE, then systemd's imgctl-auth.json, DOCKER_AUTH_CONFIG, DOCKER_CONFIG, then the usual files)")
	f.BoolVar(&g.anonymous, "anonymous", false, "ask registries without credentials, whatever the files hold")
	f.StringArrayVar(&g.plainHTTP, "plain-http", nil, "registry `host` that is spoken to without TLS; loopback is, where it has none (repeatable, insecure)")
	f.StringArrayVar(&g.tokens, "token-server", nil, "`REGISTRY=HOST`: the registry's credentials may also go to this token server, outside its domain (repeatable, insecure)")
	f.DurationVar(&g.timeouts.Connect, "connect-timeout", 0, "how long connecting to a registry may take (default 5s)")
	f.DurationVar(&g.timeouts.Idle, "idle-timeout", 0, "after how long without a byte a registry's connection is cut and made again (default 30s)")
	f.DurationVar(&g.timeouts.Overall, "operation-timeout", 0, "how long a manifest or a blob may take to come or go, with all tries (default: as long as bytes move)")
	f.Float64Var(&g.rate, "rate", 0, "requests per second to each registry (default: as many as it takes)")
	f.IntVarP(&g.jobs, "jobs", "j", 0, "how many things are done at once (default one for each core)")
	f.StringVar(&g.progress, "progress", "auto", "auto, tty, plain or none")
	f.BoolVar(&g.debug, "debug", false, "log every step on stderr; credentials are never logged")
	f.BoolVar(&g.offline, "offline", false, "dial nothing: use the cache and directories only")
}

// registerOutput adds -o to the commands that have nothing else to put out. Some
// know more forms than all.
func (g *globals) registerOutput(f *pflag.FlagSet, more ...string) {
	if f.Lookup("output") != nil {
		return
	}
	list := strings.Join(append([]string{"text", "json"}, more...), ", ")
	f.StringVarP(&g.output, "output", "o", "text", "how the result is printed: "+list+" or name (one reference a line)")
	f.Lookup("output").Annotations = map[string][]string{outputForms: more}
}

// outputForms is the annotation that lists the further forms.
const outputForms = "imgctl_forms"

// check refuses values that the command with these flags could not use.
func (g *globals) check(flags *pflag.FlagSet) error {
	forms := "text json name"
	if f := flags.Lookup("output"); f != nil {
		forms = strings.Join(append(strings.Fields(forms), f.Annotations[outputForms]...), " ")
	}
	switch {
	case g.json:
		g.output = "json"
	case g.quiet:
		g.output = "name"
	case g.output == "":
		g.output = "text"
	}
	for _, f := range []struct{ flag, got, want string }{
		{"output", g.output, forms},
		{"progress", g.progress, "auto tty plain none"},
	} {
		if !slices.Contains(strings.Fields(f.want), f.got) {
			return usage(fmt.Errorf("--%s: got %q, want one of %s", f.flag, f.got, strings.ReplaceAll(f.want, " ", ", ")))
		}
	}
	for _, t := range g.tokens {
		if registry, host, ok := strings.Cut(t, "="); !ok || registry == "" || host == "" {
			return usage(fmt.Errorf("--token-server: got %q, want REGISTRY=HOST", t))
		}
	}
	switch {
	case min(g.timeouts.Connect, g.timeouts.Idle, g.timeouts.Overall) < 0 || g.rate < 0:
		return usage(errors.New("time-outs and --rate: want no negative number"))
	case g.jobs < 0:
		return usage(fmt.Errorf("--jobs: got %d, want 1 or more", g.jobs))
	case g.jobs == 0:
		g.jobs = runtime.GOMAXPROCS(0)
	}
	if g.cache == "" {
		g.cache = download.Dir()
	}
	return nil
}

// insecureFlags loosen a check and are therefore never read from the environment (C03).
var insecureFlags = map[string]bool{"plain-http": true, "token-server": true, "overwrite": true, "allow-rollback": true, "insecure-unsigned": true}

// environmentName is the variable that stands in for a flag: IMGCTL_ and the
// flag's name in upper case.
func environmentName(flag string) string {
	return "IMGCTL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// bindEnvironment sets every flag that was not given from its variable.
func (a *app) bindEnvironment(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		value := a.getenv(name)
		if value == "" || f.Changed || failed != nil {
			return
		}
		if insecureFlags[f.Name] {
			failed = usage(fmt.Errorf("%s: a check is not loosened through the environment; give --%s", name, f.Name))
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = usage(fmt.Errorf("%s: %w", name, err))
		}
	})
	return failed
}

// inputFlags say where build inputs come from.
type inputFlags struct {
	upstream    []string
	rekor       string
	trustedRoot string
	archives    []string
	snapshot    string
}

func (i *inputFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&i.upstream, "upstream", nil, "base `URL` of Kubernetes' release files, in order (repeatable; default "+upstream.DefaultBase+")")
	f.StringVar(&i.rekor, "rekor", "", "`URL` of the transparency log that upstream's signatures are looked up in (default "+upstream.DefaultRekor+")")
	f.StringVar(&i.trustedRoot, "trusted-root", "", "Sigstore trust root that upstream's signatures are checked against (default: the public-good root that is built in)")
	f.StringArrayVar(&i.archives, "archive", nil, "Debian archive, as `[NAME=]URL`: NAME is debian, the default, or debian-security (repeatable; default: those that apt uses on this machine, else Debian's own)")
	f.StringVar(&i.snapshot, "snapshot", deb.DefaultSnapshot, "`URL` of a service like snapshot.debian.org, asked for packages that left the archive; empty: nobody is asked")
}

// logger tells the person at three in the morning what goes on: warnings, and
// every step with --debug.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn
	if a.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// offlineTransport is the transport of --offline.
type offlineTransport struct{}

func (offlineTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("dial %s: --offline allows no connection", r.URL.Host)
}

// downloader is the one that fills the cache.
func (a *app) downloader(p *printer) *download.Client {
	return &download.Client{Cache: a.cache, Offline: a.offline, Progress: p.fetched}
}

// upstreamClient fetches Kubernetes' files from the flags' places, else the spec's, else the defaults.
func (a *app) upstreamClient(i inputFlags, spec build.Upstream, d *download.Client) (*upstream.Client, error) {
	trust, err := verify.LoadTrust(i.trustedRoot)
	if err != nil {
		return nil, err
	}
	return &upstream.Client{
		Download: d,
		Bases:    firstList(i.upstream, spec.Bases),
		Rekor:    cmp.Or(i.rekor, spec.Rekor),
		Verifier: &verify.BlobVerifier{Trust: trust, Identity: upstream.Identity, Issuer: upstream.Issuer},
	}, nil
}

func firstList(lists ...[]string) []string {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return nil
}

// debianArchives are the flags', else the spec's, else those of the machine's apt, else Debian's own.
func (a *app) debianArchives(i inputFlags, spec *build.Spec, d *download.Client) (build.Archives, error) {
	given := make(map[string]string)
	for _, text := range i.archives {
		name, base, named := strings.Cut(text, "=")
		if !named || strings.Contains(name, ":") { // a URL may have a "=" of its own
			name, base = deb.Main, text
		}
		given[name] = base
	}
	configured := deb.Configured("/")
	archives := make(build.Archives)
	for name, standard := range map[string]string{deb.Main: deb.DefaultBase, deb.Security: deb.DefaultSecurityBase} {
		base := cmp.Or(given[name], spec.Packages.Archives[name], configured[name], standard)
		archives[name] = &deb.Archive{Download: d, Name: name, Base: base, Keyring: spec.Keyring(), Now: a.now, Snapshot: i.snapshot}
		delete(given, name)
	}
	for name := range given {
		return nil, usage(fmt.Errorf("--archive: got %q, want debian or debian-security before the =", name))
	}
	return archives, nil
}

// registries is the client of every registry that a command talks to.
func (a *app) registries() *oci.Client {
	c := &oci.Client{
		Keychain:  oci.Keychain(a.authfile, a.getenv),
		PlainHTTP: a.plainHTTP,
		Timeouts:  a.timeouts,
		Rate:      a.rate,
		Jobs:      a.jobs,
		Log:       a.logger(),
		Progress:  a.printer().pushed,
	}
	c.TokenServers = make(map[string][]string)
	for _, t := range a.tokens {
		registry, host, _ := strings.Cut(t, "=") // check has seen to it that it has both
		c.TokenServers[registry] = append(c.TokenServers[registry], host)
	}
	if a.anonymous {
		c.Keychain = nil
	}
	if a.offline {
		c.Transport = offlineTransport{}
	}
	return c
}
