package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bootstrap"
	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
)

func newBootstrap(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make, renew and hand out what is secret in a cluster",
		Args:  exactArgs(0, "a subcommand"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []*cobra.Command{newBootstrapInit(a), newBootstrapToken(a), newBootstrapDiscover(a), newBootstrapOpen(a), newBootstrapPush(a)} {
		a.registerOutput(c.Flags())
		cmd.AddCommand(c)
	}
	return cmd
}

// withoutTokens is args of a command that is about tokens. A token among the
// arguments has been seen by every process of the machine, and is not repeated
// in an error as well (K05).
func withoutTokens(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if slices.ContainsFunc(given, bootstrap.HoldsToken) {
			return hint(usage(fmt.Errorf("%s: got a bootstrap token as an argument", cmd.Name())),
				"give it in a file, on stdin or in %s; this one is known to every process of the machine, so make another", bootstrapTokenVariable)
		}
		return args(cmd, given)
	}
}

type bootstrapInitCmd struct {
	*app
	file, out   string
	renew, seal []string
}

func newBootstrapInit(a *app) *cobra.Command {
	c := &bootstrapInitCmd{app: a}
	cmd := &cobra.Command{
		Use:   "init CLUSTER.yaml",
		Short: "Fill a directory with the PKI, kubeconfigs and bootstrap token of a cluster",
		Long: `Make what is secret in a cluster, as its cluster file says: certificate authorities
and certificates, the service-account key, kubeconfigs, a bootstrap token, and the
cluster-info that is signed under it. The directory is readable for its owner alone
and laid out as kubeadm lays out /etc/kubernetes.

What is there already is kept, so that a run which was cut off is finished by the
next. What no longer answers the cluster file, or has expired, is an error until
--renew names it; a certificate authority is never replaced.

With recipients, in the cluster file or by --seal, what each kind of machine is
given is encrypted for them in DIR/sealed; "imgctl bootstrap open" installs it there.`,
		Example: `  imgctl bootstrap init cluster.yaml -o secrets
  imgctl bootstrap init cluster.yaml -o secrets --renew apiserver --json
  imgctl bootstrap init cluster.yaml -o secrets --seal controller=age1… --seal "worker=$(cat ssh_host_ed25519_key.pub)"`,
		Args: exactArgs(1, "a cluster file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.file = args[0]
			return wrap("bootstrap init", c.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "output", "o", "", "`directory` that is filled")
	f.StringArrayVar(&c.renew, "renew", nil, "`name` of a certificate or kubeconfig that is made anew (repeatable): "+strings.Join(bootstrap.Renewable(), ", "))
	f.StringArrayVar(&c.seal, "seal", nil, "`[ROLE=]RECIPIENT`: encrypt what machines of the role (controller, worker or etcd; default: every one) are given for this public key, age1… or ssh-ed25519 … (repeatable)")
	return cmd
}

func (c *bootstrapInitCmd) run(ctx context.Context) error {
	if c.out == "" {
		return usage(errors.New("got no --output, want a directory"))
	}
	for _, name := range c.renew {
		if !slices.Contains(bootstrap.Renewable(), name) {
			return usage(fmt.Errorf("--renew: got %q, want one of %s", name, strings.Join(bootstrap.Renewable(), ", ")))
		}
	}
	recipients, err := parseSeals(c.seal)
	if err != nil {
		return usage(fmt.Errorf("--seal: %w", err))
	}
	cluster, warnings, err := bootstrap.Load(c.file)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintf(c.stderr, "warning: %s\n", oneLine(w))
	}
	now := c.now()
	steps, err := bootstrap.Init(ctx, c.out, cluster, c.renew, now)
	if err == nil {
		var sealed []bootstrap.Step
		sealed, err = bootstrap.SealRoles(ctx, c.out, cluster, recipients, now)
		steps = append(steps, sealed...)
	}
	if err != nil {
		return renewHint(err)
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			Directory string           `json:"directory"`
			Warnings  []string         `json:"warnings,omitempty"`
			Steps     []bootstrap.Step `json:"steps"`
		}{header("BootstrapInit"), c.out, warnings, steps})
	}
	c.printSteps(steps)
	return nil
}

// renewHint says how to have made anew what is not as it should be.
func renewHint(err error) error {
	var d *bootstrap.Differs
	if errors.As(err, &d) && d.Renew != "" {
		return hint(err, "--renew %s makes it anew; everything else stays", d.Renew)
	}
	return err
}

// printSteps prints what was done, or with --quiet the files alone.
func (a *app) printSteps(steps []bootstrap.Step) {
	for _, s := range steps {
		if a.output == "name" {
			fmt.Fprintln(a.stdout, s.Path)
			continue
		}
		line := fmt.Sprintf("%-8s  %s", s.Outcome, s.Path)
		if s.Expires != nil {
			line += "  until " + s.Expires.UTC().Format(time.RFC3339)
		}
		if s.SPKIHash != "" {
			line += "  " + s.SPKIHash
		}
		fmt.Fprintln(a.stdout, line)
	}
}

// parseSeals reads the values of --seal. A public key has no "=" before its kind.
func parseSeals(values []string) (map[bootstrap.Role][]seal.Recipient, error) {
	recipients := make(map[bootstrap.Role][]seal.Recipient)
	for _, text := range values {
		roles := bootstrap.Roles()
		if name, key, ok := strings.Cut(text, "="); ok && !strings.Contains(name, " ") {
			role := bootstrap.Role(name)
			if !slices.Contains(roles, role) {
				return nil, fmt.Errorf("role: got %.40q, want one of %v", name, roles)
			}
			roles, text = []bootstrap.Role{role}, key
		}
		r, err := seal.ParseRecipient(text)
		if err != nil {
			return nil, err
		}
		for _, role := range roles {
			recipients[role] = append(recipients[role], r)
		}
	}
	return recipients, nil
}

// bootstrapExit is the code of what can be wrong with a cluster's secrets;
// exitOK when err is about something else.
func bootstrapExit(err error) int {
	var (
		differs     *bootstrap.Differs
		expired     *bootstrap.Expired
		refusal     *bootstrap.Refusal
		unavailable *bootstrap.Unavailable
		damaged     *seal.DamagedError
		content     *seal.ContentError
	)
	switch {
	case errors.As(err, &differs):
		return exitDiffers
	case errors.As(err, &expired):
		return exitExpired
	case errors.As(err, &refusal):
		return clusterInfoExit(refusal.Reason)
	case errors.As(err, &unavailable):
		return apiServerExit(unavailable.Status)
	case errors.Is(err, seal.ErrNotForUs):
		return exitDenied
	case errors.As(err, &damaged):
		return exitMismatch
	case errors.As(err, &content):
		return exitUnsafe
	}
	return exitOK
}

func clusterInfoExit(r bootstrap.Reason) int {
	switch r {
	case bootstrap.Unsigned:
		return exitUnsigned
	case bootstrap.BadSignature, bootstrap.WrongServer:
		return exitWrongSigner
	case bootstrap.WrongCA:
		return exitMismatch
	case bootstrap.Changed:
		return exitChanged
	}
	return exitPolicy
}

func apiServerExit(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitDenied
	case http.StatusNotFound:
		return exitNotFound
	}
	return exitUnreachable
}
