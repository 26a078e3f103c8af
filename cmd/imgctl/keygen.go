package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/sign"
)

// passwordVariable holds the password of a key file. A password is never an
// argument: arguments are visible to every process of the machine.
const passwordVariable = "IMGCTL_KEY_PASSWORD"

// passwordFlags say where the password of a key file comes from.
type passwordFlags struct {
	file string
}

func (p *passwordFlags) register(f *pflag.FlagSet) {
	f.StringVar(&p.file, "password-file", "", "`file` that holds the key's password (default: the environment variable "+passwordVariable+")")
}

// password reads it from a file or from the environment.
func (a *app) password(file, variable string) (sign.Secret, error) {
	if file != "" {
		return readSecret(file)
	}
	if v := a.getenv(variable); v != "" {
		return sign.Secret(v), nil
	}
	return nil, hint(usage(errors.New("no password for the key")), "set %s, or give --password-file", variable)
}

// readSecret reads a small file that only its owner may read (K05), less one newline at its end.
func readSecret(path string) (sign.Secret, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, hint(usage(fmt.Errorf("%s: mode is %04o, want 0600 or less", path, fi.Mode().Perm())), "chmod 600 %s", path)
	}
	if fi.Size() > 4096 {
		return nil, usage(fmt.Errorf("%s: %d bytes, want at most 4096", path, fi.Size()))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if n := len(data); n > 0 && data[n-1] == '\n' {
		data = data[:n-1]
	}
	return sign.Secret(data), nil
}

type keygenCmd struct {
	*app
	prefix   string
	passFrom passwordFlags
}

func newKeygen(a *app) *cobra.Command {
	c := &keygenCmd{app: a}
	cmd := &cobra.Command{
		Use:   "keygen [PREFIX]",
		Short: "Make a signing key: PREFIX.key (encrypted, mode 0600) and PREFIX.pub",
		Long: `Make an ECDSA P-256 key pair in the format of cosign: either tool can use it.
The private half is encrypted with a password that is read from a file or from
the environment variable ` + passwordVariable + `, never from an argument.`,
		Example: `  IMGCTL_KEY_PASSWORD=… imgctl keygen release
  imgctl keygen --password-file pass release`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c.prefix = "imgctl"
			if len(args) == 1 {
				c.prefix = args[0]
			}
			return c.run()
		},
	}
	c.passFrom.register(cmd.Flags())
	return cmd
}

func (c *keygenCmd) run() error {
	private, public := c.prefix+".key", c.prefix+".pub"
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); err == nil {
			return hint(usage(fmt.Errorf("keygen: %s exists", path)), "a key is not overwritten: move it away or give another PREFIX")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	password, err := c.password(c.passFrom.file, passwordVariable)
	if err != nil {
		return fmt.Errorf("keygen: %w", err)
	}
	privatePEM, publicPEM, err := sign.GenerateKey(password)
	if err != nil {
		return fmt.Errorf("keygen: %w", err)
	}
	if err := atomicfile.WriteBytes(private, 0o600, privatePEM); err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(public, 0o644, publicPEM); err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(c.stdout, struct {
			strict.Header
			Private string `json:"private"`
			Public  string `json:"public"`
		}{header("KeyPair"), private, public})
	}
	fmt.Fprintln(c.stdout, public)
	return nil
}
