package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bootstrap"
	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
)

// discoverCmd is the joining side: from a token and a pin to a kubeconfig.
type discoverCmd struct {
	*app
	endpoint, out, server string
	from                  tokenFlags
	pins                  []string
	budget, timeout       time.Duration
	replace               bool
}

func newBootstrapDiscover(a *app) *cobra.Command {
	c := &discoverCmd{app: a}
	cmd := &cobra.Command{
		Use:   "discover HOST:PORT",
		Short: "On a joining machine: find the cluster by a token and a pin, and write the bootstrap kubeconfig",
		Long: `Ask an API server for cluster-info without trusting it, check the signature under the
bootstrap token and the pins of the certificate authority, ask again over a connection
that this authority vouches for, and write the bootstrap kubeconfig for the kubelet.

While the control plane comes up it is asked again, as long as --budget lasts. Whatever
does not verify ends it at once.`,
		Example: `  imgctl bootstrap discover api.example.com:6443 --token-file token --discovery-token-ca-cert-hash sha256:… -o /etc/kubernetes/kubeconfig
  IMGCTL_BOOTSTRAP_TOKEN=… imgctl bootstrap discover 10.0.0.10:6443 --server https://api.example.com:6443 --discovery-token-ca-cert-hash sha256:… -o kubeconfig --json`,
		Args: withoutTokens(exactArgs(1, "the HOST:PORT of an API server")),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.endpoint = args[0]
			return wrap("bootstrap", c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "output", "o", "", "`file` that the bootstrap kubeconfig is written to, mode 0600")
	c.from.register(f)
	registerPins(f, &c.pins)
	f.StringVar(&c.server, "server", "", "`URL` that cluster-info has to name (default: that of HOST:PORT)")
	f.DurationVar(&c.budget, "budget", 5*time.Minute, "how long to go on while the control plane comes up; 0: one try")
	f.DurationVar(&c.timeout, "attempt-timeout", 10*time.Second, "how long one request may take")
	f.BoolVar(&c.replace, "replace", false, "replace a kubeconfig that is there and is another")
	return cmd
}

func (c *discoverCmd) run(ctx context.Context) error {
	d, err := c.discoverer()
	if err != nil {
		return err
	}
	if c.offline {
		return usage(errors.New("discover: --offline allows no connection"))
	}
	found, err := d.Discover(ctx, c.endpoint)
	if err != nil {
		return discoverHint(err)
	}
	config, err := found.Kubeconfig()
	if err != nil {
		return err
	}
	outcome, err := c.write(config)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			*bootstrap.Discovered
			Kubeconfig string            `json:"kubeconfig"`
			Outcome    bootstrap.Outcome `json:"outcome"`
		}{header("Discovered"), found, c.out, outcome})
	}
	fmt.Fprintf(c.stdout, "%-8s  %s\n", outcome, c.out)
	return nil
}

// discoverer checks all flags before anything is asked.
func (c *discoverCmd) discoverer() (*bootstrap.Discoverer, error) {
	pins, err := parsePins(c.pins)
	switch {
	case err != nil:
		return nil, err
	case len(pins) == 0:
		return nil, hint(usage(errors.New("discover: got no --discovery-token-ca-cert-hash")),
			"imgctl bootstrap init prints it; without it every machine that has a token could pretend to be the cluster")
	case c.out == "":
		return nil, usage(errors.New("discover: got no --output, want a file"))
	case c.budget < 0 || c.timeout <= 0:
		return nil, usage(errors.New("discover: --budget and --attempt-timeout: want no negative time, and some for an attempt"))
	}
	if err := bootstrap.CheckEndpoint(c.endpoint); err != nil {
		return nil, usage(fmt.Errorf("discover: %w", err))
	}
	token, err := c.token(c.from)
	if err != nil {
		return nil, wrap("discover", err)
	}
	return &bootstrap.Discoverer{
		Token: token, Pins: pins, Server: c.server, Budget: c.budget, Timeout: c.timeout, Now: c.now, Log: c.logger(),
	}, nil
}

// write never leaves half a kubeconfig, and replaces another only when that is asked for.
func (c *discoverCmd) write(config []byte) (bootstrap.Outcome, error) {
	outcome := bootstrap.Created
	was, err := os.ReadFile(c.out)
	switch {
	case err == nil && bytes.Equal(was, config):
		return bootstrap.Kept, os.Chmod(c.out, 0o600)
	case err == nil && !c.replace:
		return "", hint(coded(exitDiffers, fmt.Errorf("discover: %s is there and is another kubeconfig", c.out)), "--replace replaces it")
	case err == nil:
		outcome = bootstrap.Replaced
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return outcome, atomicfile.WriteBytes(c.out, 0o600, config)
}

// discoverHint says what to look at.
func discoverHint(err error) error {
	var refusal *bootstrap.Refusal
	var unavailable *bootstrap.Unavailable
	switch {
	case errors.As(err, &refusal) && refusal.Reason == bootstrap.Unsigned:
		return hint(err, "has the token expired, and does the controller manager run bootstrap-signer-controller?")
	case errors.As(err, &refusal) && refusal.Reason == bootstrap.WrongCA:
		return hint(err, "either the hash is of another cluster, or somebody else answers: ask who made the cluster")
	case errors.As(err, &unavailable) && (unavailable.Status == http.StatusForbidden || unavailable.Status == http.StatusUnauthorized):
		return hint(err, "everybody must be allowed to get ConfigMap kube-public/cluster-info: manifests/access.yaml, and anonymous requests for its path")
	}
	return err
}

// identityCredential is systemd's credential with the machine's private key.
const identityCredential = "imgctl-identity"

// openCmd installs on a machine what was sealed for it.
type openCmd struct {
	*app
	accept         policyFlags
	file, identity string
	role           string
	on             nodeFlags
	dryRun         bool
}

func newBootstrapOpen(a *app) *cobra.Command {
	c := &openCmd{app: a}
	cmd := &cobra.Command{
		Use:   "open SEALED",
		Short: "On a machine: decrypt what was sealed for it, and install it with its owners and modes",
		Long: `Decrypt what "imgctl bootstrap init" has sealed for this machine, check all of it, and
write each file whole or not at all, with its owner and mode. Files that are there and
differ are replaced.

SEALED is a file; with --policy or --key it is a reference to what "imgctl bootstrap push"
has published, which is verified, and --role says which part of it is this machine's.

The private key is an age identity or an OpenSSH Ed25519 key without a passphrase, from
--identity or from systemd's credential ` + identityCredential + ` (LoadCredential= in the unit).`,
		Example: `  imgctl bootstrap open worker.age --identity /etc/ssh/ssh_host_ed25519_key
  imgctl bootstrap open quay.io/example/secrets:sealed --role worker --policy /etc/imgctl/secrets.yaml
  imgctl bootstrap open controller.age --root ./machine --unsafe-owners -o json`,
		Args: withoutTokens(exactArgs(1, "a sealed file or its reference")),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.file = args[0]
			return wrap("bootstrap open "+c.file, c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.identity, "identity", "", "`file` with the machine's private key (default: systemd's credential "+identityCredential+")")
	f.StringVar(&c.role, "role", "", "role of the machine, of a reference: controller, worker or etcd")
	c.accept.register(f)
	c.on.register(f)
	f.BoolVar(&c.dryRun, "dry-run", false, "decrypt and check, print what would be installed, and change nothing")
	f.BoolVar(&c.on.unsafeOwners, "unsafe-owners", false, "give files to the caller instead of to their listed owners, to look at them without being root")
	return cmd
}

func (c *openCmd) run(ctx context.Context) error {
	archive, err := c.open(ctx)
	if err != nil {
		return err
	}
	outcomes := make([]seal.Outcome, 0, len(archive.Files))
	if c.dryRun {
		for _, f := range archive.Files {
			outcomes = append(outcomes, seal.Outcome{Path: f.Path, Outcome: "listed"})
		}
	} else {
		owners := ownersOf
		if c.on.unsafeOwners {
			owners = nil
		}
		if outcomes, err = archive.Write(c.on.root, owners); err != nil {
			return err
		}
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			Cluster string         `json:"cluster"`
			Role    string         `json:"role"`
			Files   []seal.Outcome `json:"files"`
		}{header("BootstrapOpen"), archive.Cluster, archive.Role, outcomes})
	}
	for i, o := range outcomes {
		f := archive.Files[i]
		fmt.Fprintf(c.stdout, "%-8s  %04o %s:%s  %s\n", o.Outcome, f.Mode, f.Owner, f.Group, o.Path)
	}
	return nil
}

func (c *openCmd) open(ctx context.Context) (*seal.Archive, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	identities, err := seal.ParseIdentities(key)
	if err != nil {
		return nil, usage(err)
	}
	sealed, err := c.sealed(ctx)
	if err != nil {
		return nil, err
	}
	archive, err := seal.Open(sealed, identities)
	if err == nil && c.role != "" && archive.Role != c.role {
		return nil, coded(exitUnsafe, fmt.Errorf("it is sealed for role %.40q, want %s", archive.Role, c.role))
	}
	return archive, err
}

// sealed reads the file, or what the reference leads to.
func (c *openCmd) sealed(ctx context.Context) ([]byte, error) {
	if c.accept.policy != "" || c.accept.key != "" {
		return c.fetchSealed(ctx, c.accept, c.file, c.role)
	}
	fi, err := os.Stat(c.file)
	if err != nil {
		return nil, err
	}
	if fi.Size() > seal.MaxSize {
		return nil, usage(fmt.Errorf("%d bytes, want at most %d", fi.Size(), seal.MaxSize))
	}
	return os.ReadFile(c.file)
}

// key reads the private key. Credentials are guarded by systemd, whatever their mode.
func (c *openCmd) key() ([]byte, error) {
	if c.identity != "" {
		return readSecret(c.identity)
	}
	if dir := c.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		return os.ReadFile(filepath.Join(dir, identityCredential))
	}
	return nil, hint(usage(errors.New("no private key")), "give --identity FILE, or LoadCredential=%s:FILE in the unit", identityCredential)
}

// ownersOf looks a user and a group up on this machine.
func ownersOf(name, group string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(g.Gid)
	return uid, gid, err
}
