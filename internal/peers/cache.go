package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/filelock"
)

// Cache holds compiled programs, one directory for each recipe.
type Cache struct {
	Dir      string    // made when it is missing
	Progress io.Writer // a line when a build starts and one when it is done; nil for none
	Env      []string  // for the go command, after the environment of this process
}

// DefaultDir is "peers" in $IMGCTL_CACHE, else in the directory imgctl of the
// user's cache directory.
func DefaultDir() (string, error) {
	if dir := os.Getenv("IMGCTL_CACHE"); dir != "" {
		return filepath.Join(dir, "peers"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "imgctl", "peers"), nil
}

// Get returns the directory that holds the programs of r, compiling them when
// the cache does not have them yet. Several processes may ask for the same recipe
// at once: one compiles, the others wait. When compiling fails, the error holds
// what the go command printed, and the cache is as it was.
func (c *Cache) Get(ctx context.Context, r Recipe) (string, error) {
	key, err := c.key(ctx, r)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", r.Name, err)
	}
	dir := filepath.Join(c.Dir, key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := filelock.Lock(ctx, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", r.Name, err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil { // somebody else was faster
		return dir, nil
	}
	if err := c.build(ctx, r, dir); err != nil {
		return "", fmt.Errorf("build %s: %w", r.Name, err)
	}
	return dir, nil
}

// Program is [Cache.Get] for a recipe of one package: the path of the program.
func (c *Cache) Program(ctx context.Context, r Recipe) (string, error) {
	dir, err := c.Get(ctx, r)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, path.Base(r.Packages[0])), nil
}

// key hashes all that decides what the go command makes: the recipe, the
// compiler and, of a module directory, its own code and the files that pin its
// dependencies.
func (c *Cache) key(ctx context.Context, r Recipe) (string, error) {
	version, err := c.command(ctx, r, "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	inputs := []any{r.Packages, r.Version, r.Flags, string(version)}
	if r.Dir != "" {
		code, err := filepath.Glob(filepath.Join(r.Dir, "*.go"))
		if err != nil {
			return "", err
		}
		for _, path := range append([]string{filepath.Join(r.Dir, "go.mod"), filepath.Join(r.Dir, "go.sum")}, code...) {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			inputs = append(inputs, sha256.Sum256(data))
		}
	}
	data, err := json.Marshal(inputs)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// build compiles into a directory beside dir and renames it: dir is complete or
// absent. The caller holds the lock of dir.
func (c *Cache) build(ctx context.Context, r Recipe, dir string) error {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil { // of a run that was killed
		return err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(part) // nothing is left of it after the rename
	c.report("building %s", r.Name)
	start := time.Now()
	cmd := c.compile(ctx, r, part)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:2], " "), err, bytes.TrimSpace(out.Bytes()))
	}
	c.report("built %s in %s", r.Name, time.Since(start).Round(time.Second))
	return os.Rename(part, dir)
}

// compile is the command that writes the programs of r into dir. `go install`
// takes a package with its version but no output, `go build` the other way round.
func (c *Cache) compile(ctx context.Context, r Recipe, dir string) *exec.Cmd {
	if r.Dir != "" {
		args := append([]string{"build", "-o", dir + string(filepath.Separator)}, r.Flags...)
		return c.command(ctx, r, append(args, r.Packages...)...)
	}
	args := append([]string{"install"}, r.Flags...)
	for _, p := range r.Packages {
		args = append(args, p+"@"+r.Version)
	}
	cmd := c.command(ctx, r, args...)
	cmd.Dir = dir // outside every module, whose replacements do not count
	cmd.Env = append(cmd.Env, "GOBIN="+dir)
	return cmd
}

// command prepares the go command for r. A cancelled context interrupts it as
// Ctrl-C would, so that it can remove its own temporary files.
func (c *Cache) command(ctx context.Context, r Recipe, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if r.Dir != "" {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux") // what goes into an image
		if r.Arch != "" {
			cmd.Env = append(cmd.Env, "GOARCH="+r.Arch)
		}
	}
	cmd.Env = append(cmd.Env, c.Env...)
	return cmd
}

func (c *Cache) report(format string, args ...any) {
	if c.Progress != nil {
		fmt.Fprintf(c.Progress, format+"\n", args...)
	}
}
