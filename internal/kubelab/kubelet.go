package kubelab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/pkg/bundle/unit"
)

// kubeletUnit is where a bundle has the kubelet's unit.
const kubeletUnit = "/etc/systemd/system/kubelet.service"

// imageVariable parts the engine's flags from the kubelet's.
const imageVariable = "${KUBELET_IMAGE}"

// kubeletDropIn is what differs on a machine without systemd, whose control
// groups and disks are shared with others. It is read after the bundle's own
// configuration, which stays as it is.
const kubeletDropIn = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /%s
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: true
imageGCHighThresholdPercent: 100
evictionHard: {imagefs.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%"}
`

// Install copies a rendered bundle onto the machine, as files of root.
func (m *Machine) Install(ctx context.Context, tree string) error {
	return m.run(ctx, "cp", "--recursive", "--no-preserve=ownership", tree+"/.", "/")
}

// Write makes a file of the machine.
func (m *Machine) Write(ctx context.Context, path, text string) error {
	cmd := m.Command(ctx, "sh", "-ec", `mkdir -p "$(dirname "$1")"; cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	return run(cmd)
}

// StartKubelet does what kubelet.service of the installed bundle says, but for
// the container around the kubelet: it runs the same preparations and gives the
// kubelet the same flags.
func (m *Machine) StartKubelet(ctx context.Context) error {
	u, err := m.unit(ctx, kubeletUnit)
	if err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	for _, s := range u.All("Service", "ExecStartPre") {
		words, err := commandOf(s.Value)
		if err != nil {
			return fmt.Errorf("start kubelet: %w", err)
		}
		if slices.Contains([]string{"mkdir", "sh"}, filepath.Base(words[0])) {
			if err := m.run(ctx, words[0], words[1:]...); err != nil {
				return fmt.Errorf("start kubelet: %w", err)
			}
		}
	}
	words, err := commandOf(u.All("Service", "ExecStart")[0].Value)
	if err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	return m.RunKubelet(ctx, words[slices.Index(words, imageVariable)+1:]...)
}

// RunKubelet starts the kubelet with these flags.
func (m *Machine) RunKubelet(ctx context.Context, flags ...string) error {
	const dropIns = "/etc/kubernetes/kubelet.d"
	if err := m.Write(ctx, dropIns+"/90-lab.conf", fmt.Sprintf(kubeletDropIn, m.controlGroup())); err != nil {
		return err
	}
	cmd := m.Command(context.Background(), "kubelet", append(slices.Clone(flags), "--config-dir="+dropIns, "--v=2")...)
	var err error
	m.kubelet, err = peers.Start(ctx, cmd, m.Log("kubelet"), func(context.Context) error { return nil })
	return err
}

// unit reads a unit of the machine.
func (m *Machine) unit(ctx context.Context, path string) (*unit.File, error) {
	body, err := m.Command(ctx, "cat", path).Output()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return unit.Parse(body)
}

// commandOf returns the words of a command line of a unit.
func commandOf(value string) ([]string, error) {
	words, err := unit.Split(strings.TrimLeft(value, "-"))
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("command %q: got no word", value)
	}
	for i, w := range words {
		words[i], _ = unit.Literal(w, true) // the one variable is that of the image
	}
	return words, nil
}

// Running tells why the kubelet does not run, with the end of its log; nil when it does.
func (m *Machine) Running() error {
	select {
	case <-m.kubelet.Done():
		log, err := os.ReadFile(m.Log("kubelet"))
		return fmt.Errorf("kubelet of %s has ended: %s%w", m.Name, log[max(0, len(log)-2<<10):], err)
	default:
		return nil
	}
}
