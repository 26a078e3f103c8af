package bundle

import (
	"cmp"
	"strings"
)

// family is what the machines of an operating system have in common.
type family struct {
	engine   string // program of the container engine that runs the units' containers
	engines  string // its service and the kubelet's container runtime
	selinux  bool   // files carry labels, which a container must be given
	resolver string // name servers without a stub on loopback, which a pod cannot reach
	imgctl   string // where imgctl is installed; not every /usr can be written to
}

// families are the operating systems by the name that Config.OS has for them.
var families = map[string]family{
	"fcos":    {engine: "podman", engines: "containerd.service", selinux: true, resolver: "/run/systemd/resolve/resolv.conf", imgctl: "/usr/local/bin/imgctl"},
	"flatcar": {engine: "docker", engines: "containerd.service docker.service", resolver: "/run/systemd/resolve/resolv.conf", imgctl: "/opt/bin/imgctl"},
	"debian":  {engine: "podman", engines: "containerd.service", resolver: "/etc/resolv.conf", imgctl: "/usr/local/bin/imgctl"},
}

// after is what a unit that runs a container starts after and therefore, at
// shutdown, stops before.
func (f family) after(more ...string) string {
	return strings.Join(append([]string{"network-online.target", f.engines}, more...), " ")
}

// docker tells whether the engine is a daemon that keeps the containers itself.
func (f family) docker() bool { return f.engine == "docker" }

// command returns the beginning of a command of the engine.
func (f family) command(args ...word) []word {
	return append([]word{word("/usr/bin/" + f.engine)}, args...)
}

// remove returns the command that removes a container, whether it is there or not.
func (f family) remove(name word) []word {
	if f.docker() {
		return f.command("rm", "--force", name)
	}
	return f.command("rm", "--force", "--ignore", name)
}

// pull returns the shell's words to have the image that a variable names.
func (f family) pull(variable string) string {
	image := `"$` + variable + `"`
	if f.docker() {
		return "docker image inspect " + image + " >/dev/null 2>&1 || exec docker pull --quiet " + image
	}
	return "podman image exists " + image + " || exec podman pull --quiet " + image
}

// mount is a directory or file of the host that a container sees.
type mount struct {
	from, to string
	options  string // "ro", "rshared"
	// label is the SELinux label that it gets: "z" is the one that every container
	// may use, "Z" that of a single container. What pods mount too must have the
	// first; the second locks them out. What belongs to the host keeps its own.
	label string
}

// volume spells a mount for the engine.
func (f family) volume(m mount) string {
	options := m.options
	if m.label != "" && f.selinux {
		options = strings.TrimPrefix(options+","+m.label, ",")
	}
	if options != "" {
		options = ":" + options
	}
	return m.from + ":" + cmp.Or(m.to, m.from) + options
}
