package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/flags"
	"github.com/imgctl/imgctl/pkg/bundle/lint"
)

// maxLinted is the most bytes that the files of a bundle may have together.
const maxLinted = 64 << 20

type bundleLintCmd struct {
	*app
	path, kubernetes string
}

// linted is what `imgctl bundle lint -o json` prints.
type linted struct {
	strict.Header
	Kubernetes string         `json:"kubernetes"`
	Files      int            `json:"files"`
	Findings   []lint.Finding `json:"findings"`
	Labels     []lint.Label   `json:"labels"`
}

func newBundleLint(a *app) *cobra.Command {
	c := &bundleLintCmd{app: a}
	cmd := &cobra.Command{
		Use:   "lint DIR|FILE",
		Short: "Find what a node would not forgive in the files of a bundle",
		Long: `Check the systemd units, Quadlets and manifests in a directory that "bundle render"
wrote, or in one file: flags that kubelet, kube-apiserver, kube-controller-manager and
kube-scheduler of this version do not have or take otherwise, versions that do not work
together, what systemd would ignore, and SELinux labels that lock containers out.

Warnings are printed and leave the exit code at 0; errors make it 14. With --output json
the document also has the label that each path of the host is given, and by whom.`,
		Example: `  imgctl bundle lint out --kubernetes v1.36.2
  imgctl bundle lint /etc/systemd/system/kubelet.service --kubernetes v1.36.2 -o json`,
		Args: exactArgs(1, "a directory or a file"),
		RunE: func(_ *cobra.Command, args []string) error {
			c.path = args[0]
			return wrap("bundle lint "+c.path, c.run())
		},
	}
	cmd.Flags().StringVar(&c.kubernetes, "kubernetes", "", "`version` of Kubernetes that the files are for: v1.36.2")
	a.registerOutput(cmd.Flags())
	return cmd
}

func (c *bundleLintCmd) run() error {
	if c.kubernetes == "" {
		return usage(fmt.Errorf("got no --kubernetes, want the version that the files are for"))
	}
	if err := flags.Known(c.kubernetes); err != nil {
		return usage(fmt.Errorf("--kubernetes: %w", err))
	}
	files, err := readTree(c.path)
	if err != nil {
		return err
	}
	found := lint.Lint(files, c.kubernetes)
	if err := c.print(files, found); err != nil {
		return err
	}
	if lint.Failed(found) {
		return reported(coded(exitPolicy, fmt.Errorf("got %s, want none", counted(failures(found), "error"))))
	}
	return nil
}

func failures(found []lint.Finding) int {
	n := 0
	for _, f := range found {
		if f.Severity == flags.Error {
			n++
		}
	}
	return n
}

func (c *bundleLintCmd) print(files map[string][]byte, found []lint.Finding) error {
	if c.output == "json" {
		return printJSON(c.stdout, linted{
			header("Linted"), c.kubernetes, len(files), append([]lint.Finding{}, found...), append([]lint.Label{}, lint.Plan(files)...),
		})
	}
	for _, f := range found {
		if c.output == "name" {
			fmt.Fprintf(c.stdout, "%s:%d\n", f.File, f.Line)
			continue
		}
		fmt.Fprintf(c.stdout, "%s:%d: %s: %s\n", f.File, f.Line, f.Severity, oneLine(f.Message))
		if f.Hint != "" {
			fmt.Fprintf(c.stdout, "    hint: %s\n", oneLine(f.Hint))
		}
	}
	return nil
}

// readTree reads the regular files below a directory, by their paths on the
// node, or one file by its own. Links are not followed: they may lead outside (K11).
func readTree(name string) (map[string][]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		body, err := strict.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return map[string][]byte{filepath.ToSlash(filepath.Clean(name)): body}, nil
	}
	files := make(map[string][]byte)
	total := 0
	err = fs.WalkDir(os.DirFS(name), ".", func(p string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		body, err := strict.ReadFile(filepath.Join(name, filepath.FromSlash(p)))
		if err != nil {
			return err
		}
		if total += len(body); total > maxLinted {
			return fmt.Errorf("read %s: got more than %s, want a bundle", name, bytesText(maxLinted))
		}
		files[path.Join("/", p)] = body
		return nil
	})
	return files, err
}
