package bundle

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Where the files of a bundle are on the node.
const (
	unitDir           = "/etc/systemd/system/"
	unitPath          = unitDir + "kubelet.service"
	kubeletConfigPath = "/etc/kubernetes/kubelet.yaml"
	// The manifests are below /etc and not /opt, which is a symbolic link on an
	// ostree system: a relative link in it would lead elsewhere.
	manifestsPath = "/etc/kubernetes/bootstrap/"
)

// storePath is where node keeps what it installed. The files of a bundle are
// symbolic links into it.
const storePath = "/var/lib/imgctl"

// kubeletUnit returns kubelet.service: the kubelet in a container that shares
// the host's namespaces, devices and mounts.
func kubeletUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	var u unit
	u.section("Unit")
	u.set("Description", "Kubelet, the node agent of Kubernetes")
	u.set("Documentation", "https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/")
	u.set("Wants", f.after(dnsUnitName, pullUnitName, "rpc-statd.service"))
	u.set("After", f.after(dnsUnitName, pullUnitName))

	u.section("Service")
	u.imageEnvironment()
	u.exec("ExecStartPre", "", "/usr/bin/mkdir", "--parents",
		"/etc/cni/net.d", "/etc/kubernetes/manifests", "/opt/cni/bin", "/var/lib/kubelet/volumeplugins", storePath)
	u.exec("ExecStartPre", "", "/usr/bin/sh", "-c", extractCA)
	u.exec("ExecStartPre", "-", f.remove("kubelet")...)
	run := slices.Concat(kubeletRun(c), []word{imageVariable}, kubeletFlags(c))
	if f.docker() {
		// The container is the daemon's child and not the unit's: what the unit
		// follows is its log, which ends when it does.
		u.exec("ExecStartPre", "", run...)
		u.exec("ExecStart", "", f.command("logs", "--follow", "kubelet")...)
	} else {
		u.exec("ExecStart", "", run...)
	}
	u.exec("ExecStop", "-", f.command("stop", "kubelet")...)
	u.exec("ExecStopPost", "-", f.remove("kubelet")...)
	u.set("Delegate", "yes")
	u.set("Restart", "always")
	u.set("RestartSec", "10")

	u.section("Install")
	u.set("WantedBy", "multi-user.target")
	return u.bytes()
}

// extractCA writes the cluster's CA, which the bootstrap kubeconfig holds, where
// the kubelet's clientCAFile is; whole or not at all.
const extractCA = `sed -n "s/^ *certificate-authority-data: *//p" /etc/kubernetes/kubeconfig | base64 -d > /etc/kubernetes/ca.crt.new` +
	` && test -s /etc/kubernetes/ca.crt.new && mv /etc/kubernetes/ca.crt.new /etc/kubernetes/ca.crt`

// kubeletRun returns the command up to the image.
func kubeletRun(c *Config) []word {
	f := families[c.OS.Family]
	args := f.command("run", "--name=kubelet", "--pull=never")
	if f.docker() {
		args = append(args, "--detach")
	} else {
		args = append(args, "--log-driver=k8s-file")
	}
	args = append(args, "--privileged", "--pid=host", "--network=host")
	for _, m := range kubeletMounts(c) {
		args = append(args, f.volume(m))
	}
	return args
}

// kubeletMounts returns what of the host the kubelet sees. A privileged
// container may read what keeps its label. There is no /var/lib/cni: the
// container runtime calls the plugins that write there.
func kubeletMounts(c *Config) []mount {
	mounts := []mount{
		{from: "/etc/cni/net.d", options: "ro", shared: true},
		{from: "/etc/kubernetes", options: "ro", shared: true},
		{from: "/etc/machine-id", options: "ro"},
		{from: "/etc/resolv.conf", options: "ro"},
		{from: "/lib/modules", options: "ro"},
		{from: "/opt/cni/bin", shared: true},
		{from: "/run"},
		{from: "/sys/fs/cgroup"},
		{from: "/usr/lib/os-release", to: "/etc/os-release", options: "ro"},
		{from: "/var/lib/containerd"},
		{from: storePath, options: "ro"}, // the files above are links into it
		{from: "/var/lib/kubelet", options: "rshared", shared: true},
		{from: "/var/log"},
	}
	if families[c.OS.Family].selinux {
		// The kubelet sees that SELinux is on, and mounts volumes with labels.
		mounts = append(mounts, mount{from: "/etc/selinux"}, mount{from: "/sys/fs/selinux"}, mount{from: "/var/run/lock", shared: true})
	}
	if p := c.Kubelet.CredentialProviders; p != nil {
		mounts = append(mounts, mount{from: p.Directory, options: "ro"})
	}
	for i := range mounts {
		mounts[i].to = cmp.Or(mounts[i].to, mounts[i].from)
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
