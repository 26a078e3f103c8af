// Package vm runs the programs of an image for another processor on a kernel for
// that processor, in an emulated machine without any device but a serial line.
//
// Emulating single processes (qemu-user) is not enough for a kubelet's image: it
// has no netfilter, so that iptables and conntrack fail there and work on a node.
// The whole root file system becomes the initial RAM disk, see [Initramfs]: no
// disk image, no mount and no privilege is needed.
package vm

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// consoleLimit is how many bytes of console output are kept.
const consoleLimit = 16 << 20

// Machine is an emulated arm64 machine.
type Machine struct {
	Kernel string // path of an uncompressed arm64 kernel image
	Memory int    // MiB; the initial RAM disk needs twice its size
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
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64",
		"-machine", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", strconv.Itoa(m.Memory), "-accel", "tcg,thread=multi",
		"-nodefaults", "-display", "none", "-nic", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", m.Kernel, "-initrd", initramfs, "-append", "console=ttyAMA0 quiet loglevel=1 panic=-1 rdinit=/init")
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
		return results, fmt.Errorf("run arm64 machine: %w\n%s", err, console.tail())
	}
	return results, nil
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
exec </dev/null >/dev/ttyAMA0 2>&1
[ ! -x /usr/sbin/ip ] || ip link set lo up
depmod -a
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
