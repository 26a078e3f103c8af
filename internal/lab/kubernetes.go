package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/peers"
)

// serveKubernetes publishes the real kubelet and kubectl as dl.k8s.io would, and
// points imgctl's environment there.
func (l *Lab) serveKubernetes(ctx context.Context, o Options) error {
	binaries := map[string]map[string]string{}
	for _, arch := range []string{"amd64", "arm64"} {
		dir, err := l.Peers.Get(ctx, peers.Kube(o.Root, arch))
		if err != nil {
			return err
		}
		binaries[arch] = map[string]string{"kubelet": filepath.Join(dir, "kubelet"), "kubectl": filepath.Join(dir, "kubectl")}
	}
	sigstore, err := imgtest.NewSigstore(nil)
	if err != nil {
		return err
	}
	dir := filepath.Join(o.Dir, "kubernetes")
	kube := imgtest.Kube{Version: peers.KubeVersion, Binaries: binaries, Signer: sigstore}
	if err := kube.Write(dir); err != nil {
		return fmt.Errorf("publish Kubernetes %s on loopback: %w", peers.KubeVersion, err)
	}
	server, err := imgtest.ServeKube(dir, "", sigstore.Rekor())
	if err != nil {
		return err
	}
	l.close = append(l.close, server.Close)
	root, err := sigstore.TrustedRoot()
	if err != nil {
		return err
	}
	trusted := filepath.Join(o.Dir, "sigstore.json")
	if err := atomicfile.WriteBytes(trusted, 0o644, root); err != nil {
		return err
	}
	l.env = append(l.env, "IMGCTL_UPSTREAM="+server.URL, "IMGCTL_REKOR="+server.URL, "IMGCTL_TRUSTED_ROOT="+trusted,
		"IMGCTL_KEY_PASSWORD="+password())
	report(o, "Kubernetes %s is published at %s, signed by a throw-away Sigstore", peers.KubeVersion, server.URL)
	return os.MkdirAll(l.Dir, 0o755)
}
