package bundle

import (
	"maps"
	"slices"
	"strings"
)

// Where the files of a bundle are on the node.
const (
	unitPath          = "/etc/systemd/system/kubelet.service"
	imageDropInPath   = "/etc/systemd/system/kubelet.service.d/10-image.conf"
	kubeletConfigPath = "/etc/kubernetes/kubelet.yaml"
	// The manifests are below /etc and not /opt, which is a symbolic link on an
	// ostree system: a relative link in it would lead elsewhere.
	manifestsPath = "/etc/kubernetes/bootstrap/"
)

// storePath is where node keeps what it installed. The files of a bundle are
// symbolic links into it.
const storePath = "/var/lib/imgctl"

// kubeletUnit returns kubelet.service: the kubelet in a podman container that
// shares the host's namespaces, devices and mounts.
func kubeletUnit(c *Config) ([]byte, error) {
	var u unit
	u.section("Unit")
	u.set("Description", "Kubelet, the node agent of Kubernetes")
	u.set("Documentation", "https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/")
	u.set("Wants", "network-online.target containerd.service rpc-statd.service")
	u.set("After", "network-online.target containerd.service")

	u.section("Service")
	u.exec("ExecStartPre", "", "/usr/bin/mkdir", "--parents",
		"/etc/cni/net.d", "/etc/kubernetes/manifests", "/opt/cni/bin", "/var/lib/kubelet/volumeplugins", storePath)
	u.exec("ExecStartPre", "", "/usr/bin/sh", "-c", extractCA)
	u.exec("ExecStartPre", "-", "/usr/bin/podman", "rm", "--force", "--ignore", "kubelet")
	// Pulling is a step of its own: only then is the unit not "active" while the
	// image is still missing. An image that is there is never asked for again.
	u.exec("ExecStartPre", "", "/usr/bin/sh", "-c", `podman image exists "$KUBELET_IMAGE" || exec podman pull --quiet "$KUBELET_IMAGE"`)
	u.exec("ExecStart", "", slices.Concat(podmanRun(), []word{imageVariable}, kubeletFlags(c))...)
	u.exec("ExecStop", "-", "/usr/bin/podman", "stop", "kubelet")
	u.set("Delegate", "yes")
	u.set("Restart", "always")
	u.set("RestartSec", "10")
	u.set("TimeoutStartSec", "10min") // the pull counts, and the default of 90 s is short for it

	u.section("Install")
	u.set("WantedBy", "multi-user.target")
	return u.bytes()
}

// extractCA writes the cluster's CA, which the bootstrap kubeconfig holds, where
// the kubelet's clientCAFile is; whole or not at all.
const extractCA = `sed -n "s/^ *certificate-authority-data: *//p" /etc/kubernetes/kubeconfig | base64 -d > /etc/kubernetes/ca.crt.new` +
	` && test -s /etc/kubernetes/ca.crt.new && mv /etc/kubernetes/ca.crt.new /etc/kubernetes/ca.crt`

// podmanRun returns the command up to the image.
//
// SELinux: ":z" gives a directory the label that every container may use, for
// what pods mount too. There is no ":Z", which would lock those pods out. What
// belongs to the host keeps its label; a privileged container may read it.
func podmanRun() []word {
	args := []word{"/usr/bin/podman", "run", "--name=kubelet", "--pull=never", "--log-driver=k8s-file", "--privileged", "--pid=host", "--network=host"}
	for _, volume := range []string{
		"/etc/cni/net.d:/etc/cni/net.d:ro,z",
		"/etc/kubernetes:/etc/kubernetes:ro,z",
		"/etc/machine-id:/etc/machine-id:ro",
		"/etc/selinux:/etc/selinux", // lets the kubelet see that SELinux is on, to mount volumes with labels
		"/lib/modules:/lib/modules:ro",
		"/opt/cni/bin:/opt/cni/bin:z",
		"/run:/run",
		"/sys/fs/cgroup:/sys/fs/cgroup",
		"/sys/fs/selinux:/sys/fs/selinux",
		"/usr/lib/os-release:/etc/os-release:ro",
		"/var/lib/containerd:/var/lib/containerd",
		storePath + ":" + storePath + ":ro", // the files above are links into it
		"/var/lib/kubelet:/var/lib/kubelet:rshared,z",
		"/var/log:/var/log",
		"/var/run/lock:/var/run/lock:z",
	} {
		args = append(args, word("--volume="+volume))
	}
	return args
}

// kubeletFlags returns what only a flag can say; all else is in the
// KubeletConfiguration, since the flags for it are deprecated.
func kubeletFlags(c *Config) []word {
	flags := []word{
		"--bootstrap-kubeconfig=/etc/kubernetes/kubeconfig",
		"--config=" + kubeletConfigPath,
		"--kubeconfig=/var/lib/kubelet/kubeconfig",
	}
	if labels := c.Kubelet.NodeLabels; len(labels) > 0 {
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			pairs = append(pairs, key+"="+labels[key])
		}
		flags = append(flags, word("--node-labels="+strings.Join(pairs, ",")))
	}
	return flags
}

// imageDropIn returns 10-image.conf, which says which image kubelet.service
// runs. A drop-in with a later name overrides it.
func imageDropIn(ref string) ([]byte, error) {
	var u unit
	u.section("Service")
	u.environment("KUBELET_IMAGE", ref)
	return u.bytes()
}
