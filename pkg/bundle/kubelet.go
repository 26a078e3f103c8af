package bundle

import (
	"maps"
	"slices"
	"strings"
)

// Where the files of a bundle are on the node.
const (
	unitDir           = "/etc/systemd/system/"
	kubeletConfigPath = "/etc/kubernetes/kubelet.yaml"
	// The manifests are below /etc and not /opt, which is a symbolic link on an
	// ostree system: a relative link in it would lead elsewhere.
	manifestsPath = "/etc/kubernetes/bootstrap/"
)

// storePath is where node keeps what it installed. The files of a bundle are
// symbolic links into it.
const storePath = "/var/lib/imgctl"

// kubeletUnit returns the service of the kubelet: a container that shares the
// host's namespaces, devices and mounts.
func kubeletUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	r := kubeletContainer(c)
	var u unit
	u.section("Unit")
	u.set("Description", "Kubelet, the node agent of Kubernetes")
	u.set("Documentation", "https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/")
	u.set("Wants", f.after(dnsUnitName, pullUnitName, "rpc-statd.service"))
	u.set("After", f.after(dnsUnitName, pullUnitName))

	u.quadlet(c, r)
	u.section("Service")
	u.imageEnvironment()
	u.exec("ExecStartPre", "", "/usr/bin/mkdir", "--parents",
		"/etc/cni/net.d", "/etc/kubernetes/manifests", "/opt/cni/bin", "/var/lib/kubelet/volumeplugins", storePath)
	u.exec("ExecStartPre", "", "/usr/bin/sh", "-c", extractCA)
	u.run(c, r)
	return u.bytes()
}

// extractCA writes the cluster's CA, which the bootstrap kubeconfig holds, where
// the kubelet's clientCAFile is; whole or not at all.
const extractCA = `sed -n "s/^ *certificate-authority-data: *//p" /etc/kubernetes/kubeconfig | base64 -d > /etc/kubernetes/ca.crt.new` +
	` && test -s /etc/kubernetes/ca.crt.new && mv /etc/kubernetes/ca.crt.new /etc/kubernetes/ca.crt`

// kubeletContainer returns what the unit runs.
func kubeletContainer(c *Config) container {
	return container{
		name: kubeletImage, image: imageVariable, options: []word{"--privileged", "--pid=host"}, mounts: kubeletMounts(c), args: kubeletFlags(c), detach: true,
	}
}

// kubeletMounts returns what of the host the kubelet sees. A privileged
// container may read what keeps its label. There is no /var/lib/cni: the
// container runtime calls the plugins that write there.
func kubeletMounts(c *Config) []mount {
	mounts := []mount{
		{from: "/etc/cni/net.d", options: "ro", label: "z"},
		{from: "/etc/kubernetes", options: "ro", label: "z"},
		{from: "/etc/machine-id", options: "ro"},
		{from: "/etc/resolv.conf", options: "ro"},
		{from: "/lib/modules", options: "ro"},
		{from: "/opt/cni/bin", label: "z"},
		{from: "/run"},
		{from: "/sys/fs/cgroup"},
		{from: "/usr/lib/os-release", to: "/etc/os-release", options: "ro"},
		{from: "/var/lib/containerd"},
		{from: storePath, options: "ro"}, // the files above are links into it
		{from: "/var/lib/kubelet", options: "rshared", label: "z"},
		{from: "/var/log"},
	}
	if families[c.OS.Family].selinux {
		// The kubelet sees that SELinux is on, and mounts volumes with labels.
		mounts = append(mounts, mount{from: "/etc/selinux"}, mount{from: "/sys/fs/selinux"}, mount{from: "/var/run/lock", label: "z"})
	}
	if p := c.Kubelet.CredentialProviders; p != nil {
		mounts = append(mounts, mount{from: p.Directory, options: "ro"})
	}
	slices.SortFunc(mounts, func(a, b mount) int { return strings.Compare(a.from, b.from) })
	return mounts
}

// kubeletFlags returns what only a flag can say; all else is in the
// KubeletConfiguration, since the flags for it are deprecated.
func kubeletFlags(c *Config) []word {
	flags := []word{
		"--bootstrap-kubeconfig=/etc/kubernetes/kubeconfig",
		"--config=" + kubeletConfigPath,
		"--kubeconfig=/var/lib/kubelet/kubeconfig",
	}
	if p := c.Kubelet.CredentialProviders; p != nil {
		flags = append(flags, word("--image-credential-provider-bin-dir="+p.Directory), "--image-credential-provider-config="+credentialPath)
	}
	var pairs []string
	for key, value := range c.nodeLabels() {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return append(flags, word("--node-labels="+strings.Join(pairs, ",")))
}

// nodeLabels returns the label that tells the roles apart, and the bundle's own.
func (c *Config) nodeLabels() map[string]string {
	labels := map[string]string{"node.kubernetes.io/node": ""}
	if c.Role == Controller {
		labels = map[string]string{"node.kubernetes.io/controller": "true"}
	}
	maps.Copy(labels, c.Kubelet.NodeLabels)
	return labels
}

// taints returns the taint that keeps ordinary pods off a controller, and the bundle's own.
func (c *Config) taints() []Taint {
	const key = "node-role.kubernetes.io/controller"
	own := slices.ContainsFunc(c.Kubelet.Taints, func(t Taint) bool { return t.Key == key })
	if c.Role != Controller || own {
		return c.Kubelet.Taints
	}
	return append([]Taint{{Key: key, Effect: "NoSchedule"}}, c.Kubelet.Taints...)
}
