package plane

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// flannelPlugins is the CNI configuration that flannel puts on each node.
const flannelPlugins = `{
  "name": "cbr0",
  "cniVersion": "1.0.0",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`

// flannelNetwork is flannel's own configuration.
type flannelNetwork struct {
	Network     string `json:"Network,omitempty"`
	EnableIPv4  bool
	IPv6Network string `json:"IPv6Network,omitempty"`
	EnableIPv6  bool
	Backend     struct{ Type string }
}

func flannel(c *Cluster) ([]any, error) {
	const name = "flannel"
	network := flannelNetwork{Backend: struct{ Type string }{"vxlan"}}
	for _, cidr := range c.PodCIDRs {
		if strings.Contains(cidr, ":") {
			network.IPv6Network, network.EnableIPv6 = cidr, true
		} else {
			network.Network, network.EnableIPv4 = cidr, true
		}
	}
	text, err := json.MarshalIndent(network, "", "  ")
	if err != nil {
		return nil, err
	}
	who := account(metav1.NamespaceSystem, name)
	return []any{
		who,
		clusterRole(name, allow("", "pods", "get"), allow("", "nodes", "get", "list", "watch"), allow("", "nodes/status", "patch")),
		bindAccount(name, name, who),
		configMap(metav1.NamespaceSystem, name, map[string]string{"cni-conf.json": flannelPlugins, "net-conf.json": string(text) + "\n"}),
		daemonSet(metav1.NamespaceSystem, name, flannelPod(c, name)),
	}, nil
}

func flannelPod(c *Cluster, name string) corev1.PodSpec {
	config := corev1.VolumeMount{Name: "config", MountPath: "/etc/kube-flannel", ReadOnly: true}
	return corev1.PodSpec{
		ServiceAccountName: name,
		InitContainers: []corev1.Container{
			writer("install-plugin", c.Images[imageFlannelCNI], []string{"cp", "-f", "/flannel", "/opt/cni/bin/flannel"}, corev1.VolumeMount{Name: "plugins", MountPath: "/opt/cni/bin"}),
			writer("install-config", c.Images[imageFlannel], []string{"cp", "-f", "/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"}, corev1.VolumeMount{Name: "cni", MountPath: "/etc/cni/net.d"}, config),
		},
		Containers: []corev1.Container{{
			Name: name, Image: c.Images[imageFlannel], ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"/opt/bin/flanneld", "--ip-masq", "--kube-subnet-mgr"},
			Env: append(c.endpoint(),
				nodeEnv("POD_NAME", "metadata.name"), nodeEnv("POD_NAMESPACE", "metadata.namespace"),
				corev1.EnvVar{Name: "EVENT_QUEUE_DEPTH", Value: "5000"}),
			Resources: requests("100m", "50Mi"),
			SecurityContext: &corev1.SecurityContext{
				Privileged:   new(false),
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}},
			},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "run", MountPath: "/run/flannel"}, config, {Name: "xtables-lock", MountPath: "/run/xtables.lock"},
			},
		}},
		Volumes: []corev1.Volume{
			hostPath("plugins", "/opt/cni/bin", corev1.HostPathDirectoryOrCreate),
			hostPath("cni", "/etc/cni/net.d", corev1.HostPathDirectoryOrCreate),
			hostPath("run", "/run/flannel", corev1.HostPathDirectoryOrCreate),
			hostPath("xtables-lock", "/run/xtables.lock", corev1.HostPathFileOrCreate),
			configVolume("config", name),
		},
	}
}

// writer is an init container that copies files of its image to the host. Its
// SELinux level has no categories: with a random pair of them, as pods are given,
// the next pod could neither replace nor remove what this one wrote.
func writer(name, image string, command []string, mounts ...corev1.VolumeMount) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         command,
		SecurityContext: &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}},
		VolumeMounts:    mounts,
	}
}
