package kubelab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/peers"
)

// Machine is one machine of a lab.
type Machine struct {
	Name    string // of the host and of the node
	Address string

	lab     *Lab
	dir     string
	first   *peers.Process // process 1 of the machine
	groups  []string       // directories of its control groups
	kubelet *peers.Process
}

// Machine starts the next machine of the lab. The first one is the switch of
// the network as well.
func (l *Lab) Machine(ctx context.Context) (*Machine, error) {
	i := len(l.machines)
	if i == len(l.names) {
		return nil, fmt.Errorf("start machine: got %d already, want no more than were named", i)
	}
	m := &Machine{Name: l.names[i], Address: address(i), lab: l, dir: filepath.Join(l.dir, l.names[i])}
	l.machines = append(l.machines, m) // also when it fails half way: Close has something to do
	for _, step := range []func(context.Context) error{m.boot, m.connect, m.controlGroups, m.startContainerd} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("start machine %s: %w", m.Name, err)
		}
	}
	return m, nil
}

// boot starts the first process, which makes the machine's file system and then
// waits. /etc shows this machine's and takes changes of its own.
func (m *Machine) boot(ctx context.Context) error {
	files := map[string][]byte{
		"etc/hosts":       m.lab.hosts(),
		"etc/hostname":    []byte(m.Name + "\n"),
		"etc/machine-id":  fmt.Appendf(nil, "%032x\n", len(m.lab.machines)),
		"etc/resolv.conf": []byte("nameserver 127.0.0.1\n"), // where nobody answers
	}
	for name, body := range files {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(path, 0o644, body); err != nil {
			return err
		}
	}
	cmd := exec.Command("/bin/sh", "-c", bootScript, "sh", m.dir, m.Name, filepath.Join(m.lab.bin, pauseProgram))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	var err error
	m.first, err = peers.Start(ctx, cmd, m.Log("boot"), func(context.Context) error {
		_, err := os.Stat(filepath.Join(m.dir, "booted"))
		return err
	})
	return err
}

// bootScript runs as process 1. The kubelet wants three settings of the kernel
// that are of the whole machine: here it finds files that have what it wants.
const bootScript = `set -eu
dir=$1
mount --make-rprivate /
mount -t proc proc /proc
hostname "$2"
ip link set lo up
mkdir -p "$dir/work" "$dir/lib" "$dir/log" "$dir/sys"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work" overlay /etc
mount --bind "$dir/lib" /var/lib
mount --bind "$dir/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /opt
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
	file=$dir/sys/${setting##*/}
	echo "${setting#*=}" >"$file"
	mount --bind "$file" "/proc/sys/${setting%=*}"
done
touch "$dir/booted"
exec "$3"
`

// connect gives the machine its address. All are on one bridge, at the first.
func (m *Machine) connect(ctx context.Context) error {
	first := m.lab.machines[0]
	if m == first {
		return m.run(ctx, "sh", "-ec", `ip link add br0 type bridge
			ip addr add "$1/24" dev br0
			ip link set br0 up`, "sh", m.Address)
	}
	port := "to-" + m.Name
	cmd := exec.CommandContext(ctx, "ip", "link", "add", "name", port, "netns", strconv.Itoa(first.first.PID()),
		"type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(m.first.PID()))
	if err := run(cmd); err != nil {
		return err
	}
	if err := first.run(ctx, "ip", "link", "set", port, "master", "br0", "up"); err != nil {
		return err
	}
	return m.run(ctx, "sh", "-ec", `ip addr add "$1/24" dev eth0
		ip link set eth0 up`, "sh", m.Address)
}

// controlGroups makes a group for the machine's kubelet in every hierarchy.
func (m *Machine) controlGroups(context.Context) error {
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	for _, procs := range hierarchies {
		if info, err := os.Lstat(filepath.Dir(procs)); err != nil || !info.IsDir() {
			continue // another name of one
		}
		dir := filepath.Join(filepath.Dir(procs), m.controlGroup())
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		m.groups = append(m.groups, dir)
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // which a new group has none of
			all, err := os.ReadFile(filepath.Join(filepath.Dir(procs), name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), all, 0o644)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Machine) controlGroup() string { return fmt.Sprintf("kubelab-%d-%s", os.Getpid(), m.Name) }

// Command prepares a program that runs on the machine, as root, with the
// programs of Kubernetes in its path.
func (m *Machine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	enter := []string{"--target=" + strconv.Itoa(m.first.PID()), "--mount", "--pid", "--net", "--uts", "--ipc", "--", program}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=" + m.lab.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	return cmd
}

func (m *Machine) run(ctx context.Context, program string, args ...string) error {
	return run(m.Command(ctx, program, args...))
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Log is the file of what a program of the machine said.
func (m *Machine) Log(program string) string { return filepath.Join(m.dir, program+".log") }

// close ends all processes of the machine: the kernel does when the first ends.
func (m *Machine) close() error {
	if m.first == nil {
		return nil
	}
	errs := []error{m.first.Stop()}
	for _, dir := range m.groups {
		errs = append(errs, Wait(context.Background(), func() error { return nil }, func(context.Context) error { return removeGroups(dir) }))
	}
	return errors.Join(errs...)
}

// removeGroups removes a control group and those in it. It fails as long as a
// process that was killed is in one.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
