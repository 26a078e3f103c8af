package kubelab

import (
	"context"
	"path/filepath"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/peers"
)

// sandboxImage is what holds the namespaces of a pod.
const sandboxImage = "cluster.test/pause:lab"

// containerdConfig has what a machine needs that is itself in namespaces: its
// processes may not lower their oom_score_adj. Everything else is as Debian has it.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + sandboxImage + `"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
`

// podNetwork gives pods addresses on a bridge of their machine.
const podNetwork = `{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.2.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// startContainerd starts Debian's containerd and gives it the image of all components.
func (m *Machine) startContainerd(ctx context.Context) error {
	config := filepath.Join(m.dir, "containerd.toml")
	if err := atomicfile.WriteBytes(config, 0o644, []byte(containerdConfig)); err != nil {
		return err
	}
	if err := m.Write(ctx, "/etc/cni/net.d/10-lab.conflist", podNetwork); err != nil {
		return err
	}
	_, err := peers.Start(ctx, m.Command(context.Background(), "containerd", "--config", config), m.Log("containerd"), func(ctx context.Context) error {
		return m.run(ctx, "ctr", "version")
	})
	if err != nil || m.lab.image == "" {
		return err
	}
	return m.run(ctx, "ctr", "--namespace=k8s.io", "images", "import", "--all-platforms", m.lab.image)
}
