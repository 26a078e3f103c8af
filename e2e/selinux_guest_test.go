//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/filelock"
	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/internal/vm"
)

// guest is a machine of Debian 12 with podman and SELinux.
type guest struct {
	disk   string    // its file system, with labels; it does not change
	kernel string    // path
	boot   []vm.File // what finds the disk
}

// guestPackages are what the guest has beside Debian's essential packages.
var guestPackages = []string{"busybox-static", "conmon", "crun", "mount", "podman", "policycoreutils", "selinux-policy-default", "selinux-utils"}

// guestModules are in the order in which they are loaded.
var guestModules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev",
	"drivers/virtio/virtio_pci", "drivers/block/virtio_blk", "fs/overlayfs/overlay",
}

// guestBoot is the /init of the initial RAM disk: it hands over to one on the disk.
const guestBoot = `#!/busybox sh
/busybox mkdir -p /dev /root
/busybox mount -t devtmpfs devtmpfs /dev
for m in %s; do /busybox insmod /$m.ko; done
/busybox mount -t ext4 /dev/vda /root
/busybox cp /script /root/init
/busybox umount /dev
exec /busybox switch_root /root /bin/sh /init
`

// guestEngine keeps podman from what is there only with systemd.
const guestEngine = `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
`

// guestSteps make what packages installed into the guest: the policy for
// containers, the root of a tiny container, and a label on every file.
var guestSteps = []string{
	`upload testdata/container.cil /tmp/container.cil`,
	`mkdir -p "$1/opt/tiny/bin" && cp "$1/bin/busybox" "$1/opt/tiny/bin/" && for a in cat sh sleep tr; do ln -s busybox "$1/opt/tiny/bin/$a"; done`,
	`printf '` + strings.ReplaceAll(guestEngine, "\n", `\n`) + `' >"$1/etc/containers/containers.conf"`,
	`chroot "$1" semodule -n -i /tmp/container.cil`,
	`chroot "$1" setfiles -m -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /`,
}

// openGuest returns the guest, of the packages that Debian 12 has now. Its disk is
// made once of the same packages and steps: it takes more than a minute.
func openGuest(t *testing.T) *guest {
	t.Helper()
	var packages []deb.Package
	dir := unpackDebian(t, "bookworm", func(ix *deb.Index) ([]deb.Package, error) {
		var err error
		if packages, err = ix.Closure(guestPackages); err != nil {
			return nil, err
		}
		kernel, err := newestKernel(ix, "amd64")
		if err != nil {
			return nil, err
		}
		busybox, err := ix.Only([]string{"busybox-static"})
		return append(busybox, kernel), err
	})
	g := &guest{disk: guestDisk(t, packages), kernel: match(t, dir, "boot/vmlinuz-*")}
	var names []string
	for _, m := range guestModules {
		name := filepath.Base(m)
		names = append(names, name)
		g.boot = append(g.boot, vm.File{Path: name + ".ko", Mode: 0o644, Data: readFile(t, match(t, dir, "lib/modules/*/kernel/"+m+".ko"))})
	}
	g.boot = append(g.boot, vm.File{Path: "busybox", Mode: 0o755, Data: readFile(t, filepath.Join(dir, "bin/busybox"))},
		vm.File{Path: "init", Mode: 0o755, Data: fmt.Appendf(nil, guestBoot, strings.Join(names, " "))})
	return g
}

// match returns the path of the one file in a directory whose name has a pattern.
func match(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: got %q, %v; want one file", pattern, found, err)
	}
	return found[0]
}

// guestDisk returns the image of a file system with the packages, by the hash of
// all that it is made of, from the user's cache.
func guestDisk(t *testing.T, packages []deb.Package) string {
	t.Helper()
	hash := sha256.New()
	for _, p := range packages {
		fmt.Fprintln(hash, p.SHA256)
	}
	fmt.Fprintf(hash, "%q\n%s", guestSteps, readFile(t, "testdata/container.cil"))
	path := filepath.Join(download.Dir(), "guests", hex.EncodeToString(hash.Sum(nil)[:16])+".img")
	unlock, err := filelock.Lock(t.Context(), path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	start := time.Now()
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	output(t, exec.CommandContext(t.Context(), "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", installGuest(t, packages), part, "1G"))
	if err := os.Rename(part, path); err != nil {
		t.Fatal(err)
	}
	t.Logf("made the guest's disk of %d packages in %s", len(packages), time.Since(start).Round(time.Second))
	return path
}

// installGuest installs the packages into a directory, labels included.
func installGuest(t *testing.T, packages []deb.Package) string {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	var include []string
	for _, p := range packages {
		include = append(include, p.Name+"="+p.Version)
	}
	args := []string{"--mode=root", "--variant=custom", "--architectures=amd64", "--include=" + strings.Join(include, ","),
		"--keyring=" + filepath.Join(root, "images/kubelet/debian-archive-keyring.gpg"), `--aptopt=Apt::Install-Recommends "false"`}
	for _, glob := range []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"} {
		args = append(args, "--dpkgopt=path-exclude="+glob)
	}
	for _, step := range guestSteps {
		args = append(args, "--customize-hook="+step)
	}
	dir := filepath.Join(t.TempDir(), "root")
	output(t, exec.CommandContext(t.Context(), "mmdebstrap", append(args, "bookworm", dir, "deb "+debianArchive()+" bookworm main")...))
	return dir
}

// run boots the guest with SELinux, which refuses what the policy does not allow, and runs the commands.
func (g *guest) run(t *testing.T, commands []string) []vm.Result {
	t.Helper()
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	f, err := os.Create(initramfs)
	if err != nil {
		t.Fatal(err)
	}
	files := append(g.boot, vm.File{Path: "script", Mode: 0o755, Data: vm.Script(commands)})
	if err := errors.Join(vm.Initramfs(f, strings.NewReader(""), files...), f.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // as for arm64
	defer cancel()
	start := time.Now()
	machine := vm.Machine{Arch: "amd64", Kernel: g.kernel, Memory: 1024, Disk: g.disk, Append: []string{"mitigations=off", "security=selinux", "selinux=1", "enforcing=1"}}
	results, err := machine.Run(ctx, initramfs, commands)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("booted, ran %d commands and stopped in %s", len(results), time.Since(start).Round(time.Second))
	return results
}
