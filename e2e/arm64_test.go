//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/vm"
)

// runOnArm64 runs the commands in the arm64 image of a variant, on Debian's kernel.
func runOnArm64(t *testing.T, variant string, commands []string) []vm.Result {
	t.Helper()
	kernel, modules := kernel(t)
	files := append(modules, vm.File{Path: "init", Mode: 0o755, Data: vm.Script(commands)})
	initramfs := writeInitramfs(t, shared.digest(t, variant, "linux/arm64"), files)
	// TCG on a busy machine: four times what it takes on an idle one, and more.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	start := time.Now()
	results, err := (&vm.Machine{Arch: "arm64", Kernel: kernel, Memory: 3072}).Run(ctx, initramfs, commands)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("booted, ran %d commands and stopped in %s", len(results), time.Since(start).Round(time.Second))
	return results
}

// writeInitramfs makes an initial RAM disk of an image and files.
func writeInitramfs(t *testing.T, digest string, files []vm.File) string {
	t.Helper()
	ref, err := name.NewDigest(shared.Image(1)+"@"+digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	rootfs := mutate.Extract(img)
	defer rootfs.Close()
	if err := vm.Initramfs(f, rootfs, files...); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// kernelPackage is what Debian's packages linux-image-cloud-amd64 and -arm64 depend on.
var kernelPackage = regexp.MustCompile(`^linux-image-[0-9].*-cloud-`)

// moduleNeeded picks the modules that the commands can ask for: all of them
// would cost the emulated depmod a quarter of a minute.
var moduleNeeded = regexp.MustCompile(`/modules\.(builtin|builtin\.modinfo|order)$|/kernel/(net|lib|crypto|arch|drivers/net)/`)

// kernel fetches Debian's arm64 kernel, checked from the archive's signature
// down, and returns the path of its image and the modules.
func kernel(t *testing.T) (image string, modules []vm.File) {
	t.Helper()
	file := fetchKernel(t)
	image = filepath.Join(t.TempDir(), "vmlinuz")
	err := deb.Unpack(file, func(m deb.Member) error {
		if m.Control || m.Body == nil || m.Header.Size == 0 {
			return nil
		}
		switch path := m.Header.Name; {
		case strings.HasPrefix(path, "boot/vmlinuz-"):
			var b bytes.Buffer
			if _, err := io.Copy(&b, m.Body); err != nil {
				return err
			}
			return os.WriteFile(image, b.Bytes(), 0o644)
		case moduleNeeded.MatchString("/" + path):
			data, err := io.ReadAll(m.Body)
			modules = append(modules, vm.File{Path: path, Mode: 0o644, Data: data})
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(image); err != nil || len(modules) < 100 {
		t.Fatalf("kernel package: got %v and %d modules, want an image and more than 100", err, len(modules))
	}
	return image, modules
}

func fetchKernel(t *testing.T) string {
	t.Helper()
	return fetchDebian(t, "trixie", "arm64", func(ix *deb.Index) ([]deb.Package, error) {
		p, err := newestKernel(ix, "arm64")
		t.Logf("kernel %s %s", p.Name, p.Version)
		return []deb.Package{p}, err
	})[0]
}

func newestKernel(ix *deb.Index, arch string) (deb.Package, error) {
	name := "linux-image-cloud-" + arch
	all, err := ix.Closure([]string{name})
	if err != nil {
		return deb.Package{}, err
	}
	for _, p := range all {
		if kernelPackage.MatchString(p.Name) {
			return p, nil
		}
	}
	return deb.Package{}, fmt.Errorf("%s depends on no kernel among %d packages", name, len(all))
}
