// Package vm runs programs on a kernel of their own, in an emulated machine
// without any device but a serial line and, where one is given, a disk.
//
// Emulating single processes (qemu-user) is not enough for a kubelet's image: it
// has no netfilter, so that iptables and conntrack fail there and work on a node.
// The whole root file system can become the initial RAM disk, see [Initramfs]: no
// disk image, no mount and no privilege is needed. Labels of SELinux need a disk,
// since an initial RAM disk has no extended attributes.
//
// Every instruction is emulated, also those of this machine's own processor:
// what /dev/kvm stands for is often no KVM that a common kernel boots on.
package vm

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// consoleLimit is how many bytes of console output are kept.
const consoleLimit = 16 << 20

// Machine is an emulated machine.
type Machine struct {
	Arch   string   // "amd64" or "arm64"
	Kernel string   // path of a kernel image: a bzImage, or an uncompressed one for arm64
	Memory int      // MiB; the initial RAM disk needs twice its size
	Disk   string   // path of a disk image, which does not change; "" for none
	Append []string // more parameters for the kernel
}

// boards are what an [Machine.Arch] has for a program, for hardware and for a console.
var boards = map[string]struct {
	program, console string
	hardware         []string
}{
	"amd64": {"qemu-system-x86_64", "ttyS0", []string{"-machine", "q35", "-cpu", "max"}},
	"arm64": {"qemu-system-aarch64", "ttyAMA0", []string{"-machine", "virt", "-cpu", "cortex-a72"}},
}

// Result is how one command of the script given to [Script] ended.
type Result struct {
	Command string
	Output  string // stdout and stderr as the console had them, without carriage returns and the last line's end
	Code    int    // exit code
}

// Run boots the machine with the initial RAM disk in the file initramfs, whose
// /init must be what [Script] returns for commands, and returns one result for
// each of them. The machine is killed when ctx ends. When it stopped before the
// last command was done, the error holds the end of the console's output.
func (m *Machine) Run(ctx context.Context, initramfs string, commands []string) ([]Result, error) {
	board, ok := boards[m.Arch]
	if !ok {
		return nil, fmt.Errorf("run machine: got architecture %q, want amd64 or arm64", m.Arch)
	}
	cmd := exec.CommandContext(ctx, board.program, slices.Concat(board.hardware, m.options(board.console, initramfs))...)
	var console limited
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	results := Results(console.String(), commands)
	if err == nil && len(results) < len(commands) {
		err = fmt.Errorf("it stopped during command %d of %d", len(results)+1, len(commands))
	}
	if err != nil {
		return results, fmt.Errorf("run %s machine: %w\n%s", m.Arch, err, console.tail())
	}
	return results, nil
}

// options are those that do not depend on the hardware.
func (m *Machine) options(console, initramfs string) []string {
	parameters := append([]string{"console=" + console, "quiet", "loglevel=1", "panic=-1", "rdinit=/init"}, m.Append...)
	options := []string{"-smp", "2", "-m", strconv.Itoa(m.Memory), "-accel", "tcg,thread=multi",
		"-nodefaults", "-display", "none", "-nic", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", m.Kernel, "-initrd", initramfs, "-append", strings.Join(parameters, " ")}
	if m.Disk != "" {
		options = append(options, "-drive", "if=virtio,format=raw,cache=unsafe,snapshot=on,file="+strings.ReplaceAll(m.Disk, ",", ",,"))
	}
	return options
}

// Script is an /init that runs the commands with the root file system's own
// /bin/sh, one after the other whatever their exit codes, and switches the machine off.
func Script(commands []string) []byte {
	var b bytes.Buffer
	b.WriteString(`#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mkdir -p /proc /sys /dev /run /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
exec </dev/null >/dev/console 2>&1
[ ! -x /usr/sbin/ip ] || ip link set lo up
[ ! -x /usr/sbin/depmod ] || depmod -a
`)
	b.Write(Commands(commands))
	b.WriteString("sync\necho o >/proc/sysrq-trigger\nwhile :; do sleep 1; done\n")
	return b.Bytes()
}

// Commands is a shell script that runs the commands one after the other,
// whatever their exit codes, and prints what [Results] understands. It is the part
// of [Script] that can run in a container as well.
func Commands(commands []string) []byte {
	var b bytes.Buffer
	for i, c := range commands {
		fmt.Fprintf(&b, "echo; echo '%s'\n/bin/sh -c '%s'\ncode=$?; echo; echo \"%s$code\"\n", begin(i), strings.ReplaceAll(c, "'", `'\''`), end(i))
	}
	return b.Bytes()
}

// begin and end frame the output of a command on lines of their own.
func begin(i int) string { return fmt.Sprintf("@@ imgctl command %d begins", i) }
func end(i int) string   { return fmt.Sprintf("@@ imgctl command %d ends: ", i) }

// Results finds the commands' results in what the console printed, up to the first
// that did not end.
func Results(console string, commands []string) (results []Result) {
	rest := strings.ReplaceAll(console, "\r", "")
	for i, c := range commands {
		_, after, ok := strings.Cut(rest, "\n"+begin(i)+"\n")
		if !ok {
			return results
		}
		output, after, ok := strings.Cut(after, "\n"+end(i))
		if !ok {
			return results
		}
		number, after, ok := strings.Cut(after, "\n")
		code, err := strconv.Atoi(number)
		if !ok || err != nil {
			return results
		}
		results = append(results, Result{Command: c, Output: strings.TrimSuffix(output, "\n"), Code: code})
		rest = "\n" + after
	}
	return results
}

// limited keeps the first consoleLimit bytes and takes the rest without a word.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), consoleLimit-l.Len())])
	return len(p), nil
}

func (l *limited) tail() string {
	s := strings.TrimSpace(strings.ReplaceAll(l.String(), "\r", ""))
	return s[max(0, len(s)-4096):]
}
