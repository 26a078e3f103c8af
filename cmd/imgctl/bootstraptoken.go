package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bootstrap"
)

// bootstrapTokenVariable holds a bootstrap token. A token is never an argument.
const bootstrapTokenVariable = "IMGCTL_BOOTSTRAP_TOKEN"

// maxInput is the most bytes that are read of a token or a cluster-info.
const maxInput = 1 << 20

// tokenFlags say where a bootstrap token comes from.
type tokenFlags struct{ file string }

func (t *tokenFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.file, "token-file", "", "`file` with the bootstrap token or the manifest of its Secret, or - for stdin (default: the environment variable "+bootstrapTokenVariable+")")
}

// token reads it. One that is known to have expired is refused.
func (a *app) token(from tokenFlags) (bootstrap.Token, error) {
	text, err := a.tokenText(from)
	if err != nil {
		return bootstrap.Token{}, err
	}
	g, err := bootstrap.ReadGrant(text)
	if err != nil {
		return bootstrap.Token{}, usage(err)
	}
	return g.Token, g.Valid(a.now())
}

func (a *app) tokenText(from tokenFlags) ([]byte, error) {
	switch {
	case bootstrap.HoldsToken(from.file):
		return nil, hint(usage(errors.New("--token-file: got a bootstrap token, want the name of a file")),
			"this token is known to every process of the machine now: make another")
	case from.file == "-":
		return io.ReadAll(io.LimitReader(a.stdin, maxInput))
	case from.file != "":
		return readSecret(from.file)
	}
	if v := a.getenv(bootstrapTokenVariable); v != "" {
		return []byte(v), nil
	}
	return nil, hint(usage(errors.New("no bootstrap token")), "set %s, or give --token-file", bootstrapTokenVariable)
}

func newBootstrapToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make bootstrap tokens, and sign and check cluster-info under them",
		Args:  withoutTokens(exactArgs(0, "a subcommand")),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []*cobra.Command{newTokenCreate(a), newTokenRotate(a), newTokenSign(a), newTokenVerify(a)} {
		a.registerOutput(c.Flags())
		cmd.AddCommand(c)
	}
	return cmd
}

// tokenMakeCmd makes a token in a directory of "bootstrap init".
type tokenMakeCmd struct {
	*app
	dir     string
	options bootstrap.TokenOptions
	make    func(context.Context, string, bootstrap.TokenOptions, time.Time) (*bootstrap.TokenResult, error)
}

func newTokenCreate(a *app) *cobra.Command {
	c := &tokenMakeCmd{app: a, make: bootstrap.CreateToken}
	return c.command(&cobra.Command{
		Use:   "create DIR",
		Short: "Add a bootstrap token: its Secret, a bootstrap kubeconfig and its signature in cluster-info",
		Long: `Add a bootstrap token to a directory that "imgctl bootstrap init" has filled. The
manifest of its Secret and a bootstrap kubeconfig of its own are in DIR/tokens; apply
the manifest to the cluster to have it accepted.`,
		Example: `  imgctl bootstrap token create secrets --ttl 2h
  imgctl bootstrap token create secrets --group system:bootstrappers:typhoon --description "workers of July" -o json`,
	})
}

func newTokenRotate(a *app) *cobra.Command {
	c := &tokenMakeCmd{app: a, make: bootstrap.RotateToken}
	return c.command(&cobra.Command{
		Use:   "rotate DIR",
		Short: "Make the bootstrap token that machines join with from now on",
		Long: `Make a new bootstrap token and write the bootstrap kubeconfig of DIR with it. Tokens
before it stay valid until they expire, and cluster-info is signed under all of them;
those that have expired are removed from DIR.`,
		Example: `  imgctl bootstrap token rotate secrets
  imgctl bootstrap token rotate secrets --ttl 168h -o json`,
	})
}

func (c *tokenMakeCmd) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = withoutTokens(exactArgs(1, "a directory"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.dir = args[0]
		return wrap("bootstrap token "+cmd.Name(), c.run(cmd.Context()))
	}
	f := cmd.Flags()
	f.DurationVar(&c.options.TTL, "ttl", 24*time.Hour, "how long the token is valid")
	f.StringArrayVar(&c.options.Groups, "group", []string{bootstrap.DefaultGroup}, "`group` that a machine with the token is in, besides system:bootstrappers (repeatable)")
	f.StringVar(&c.options.Description, "description", "", "what the token is for")
	return cmd
}

func (c *tokenMakeCmd) run(ctx context.Context) error {
	if err := c.options.Check(); err != nil {
		return usage(err)
	}
	made, err := c.make(ctx, c.dir, c.options, c.now())
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			*bootstrap.TokenResult
		}{header("BootstrapToken"), made})
	}
	c.printSteps(made.Steps)
	return nil
}

// clusterInfoCmd is about a cluster-info and a token.
type clusterInfoCmd struct {
	*app
	file string
	from tokenFlags
	pins []string
}

func (c *clusterInfoCmd) command(cmd *cobra.Command, run func() error) *cobra.Command {
	cmd.Args = withoutTokens(exactArgs(1, "the manifest of a cluster-info, or - for stdin"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.file = args[0]
		return wrap("bootstrap token "+cmd.Name(), run())
	}
	c.from.register(cmd.Flags())
	return cmd
}

func newTokenSign(a *app) *cobra.Command {
	c := &clusterInfoCmd{app: a}
	return c.command(&cobra.Command{
		Use:   "sign CLUSTER-INFO.yaml",
		Short: "Print cluster-info with its signature under a bootstrap token",
		Long: `Print the ConfigMap kube-public/cluster-info with its detached signature (JWS) under
a bootstrap token, as the bootstrap signer of Kubernetes adds it.`,
		Example: `  imgctl bootstrap token sign secrets/manifests/cluster-info.yaml --token-file token
  kubectl get configmap -n kube-public cluster-info -o yaml | imgctl bootstrap token sign - --token-file secrets/tokens/abcdef.yaml`,
	}, c.sign)
}

func (c *clusterInfoCmd) sign() error {
	info, token, err := c.read()
	if err != nil {
		return err
	}
	info.Sign(token)
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			ID  string `json:"id"`
			JWS string `json:"jws"`
		}{header("ClusterInfoSignature"), token.ID(), info.Signatures[token.ID()]})
	}
	manifest, err := info.Manifest()
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(manifest)
	return err
}

func newTokenVerify(a *app) *cobra.Command {
	c := &clusterInfoCmd{app: a}
	cmd := c.command(&cobra.Command{
		Use:   "verify CLUSTER-INFO.yaml",
		Short: "Check the signature of cluster-info under a bootstrap token, and what it says",
		Long: `Check the signature of the ConfigMap kube-public/cluster-info under a bootstrap
token, that it says where the API server is and nothing else, and the pins of its
certificate authorities. Nothing is asked over the network.`,
		Example: `  imgctl bootstrap token verify secrets/manifests/cluster-info.yaml --token-file token
  kubectl get configmap -n kube-public cluster-info -o yaml | imgctl bootstrap token verify - --token-file token --discovery-token-ca-cert-hash sha256:…`,
	}, c.verify)
	registerPins(cmd.Flags(), &c.pins)
	return cmd
}

func (c *clusterInfoCmd) verify() error {
	pins, err := parsePins(c.pins)
	if err != nil {
		return err
	}
	info, token, err := c.read()
	if err != nil {
		return err
	}
	if err := info.Verify(token); err != nil {
		return err
	}
	server, found, err := info.Check(pins)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			ID     string          `json:"id"`
			Server string          `json:"server"`
			CAPins []bootstrap.Pin `json:"caPins"`
		}{header("ClusterInfo"), token.ID(), server, found})
	}
	fmt.Fprintf(c.stdout, "signed under token %s\nserver  %s\n", token.ID(), server)
	for _, p := range found {
		fmt.Fprintf(c.stdout, "ca      %s\n", p)
	}
	return nil
}

// read reads the cluster-info and the token, at most one of them from stdin.
func (c *clusterInfoCmd) read() (*bootstrap.ClusterInfo, bootstrap.Token, error) {
	if c.file == "-" && c.from.file == "-" {
		return nil, bootstrap.Token{}, usage(errors.New("got - for the cluster-info and for --token-file, want one of them from a file"))
	}
	token, err := c.token(c.from)
	if err != nil {
		return nil, token, err
	}
	in := c.stdin
	if c.file != "-" {
		f, err := os.Open(c.file)
		if err != nil {
			return nil, token, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, token, err
	}
	info, err := bootstrap.ParseClusterInfo(data)
	if err != nil {
		return nil, token, usage(err)
	}
	return info, token, nil
}

// registerPins adds the flag for pins of certificate authorities, with kubeadm's name.
func registerPins(f *pflag.FlagSet, pins *[]string) {
	f.StringArrayVar(pins, "discovery-token-ca-cert-hash", nil, "`sha256:HEX` of the public key of the cluster's certificate authority (repeatable: every authority must have one)")
}

func parsePins(texts []string) ([]bootstrap.Pin, error) {
	var pins []bootstrap.Pin
	for _, text := range texts {
		p, err := bootstrap.ParsePin(text)
		if err != nil {
			return nil, usage(fmt.Errorf("--discovery-token-ca-cert-hash: %w", err))
		}
		pins = append(pins, p)
	}
	return pins, nil
}
