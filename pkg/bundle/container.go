package bundle

import "slices"

// quadletDir is where podman's generator looks for containers that it makes
// services of: podman-systemd.unit(5), since podman 4.4.
const quadletDir = "/etc/containers/systemd/"

// container is what a service is there to run: with a command of the engine, or
// described to Quadlet. It has the host's network.
type container struct {
	name    string // also of the image
	image   word   // the variable that names it
	options []word // of the engine
	mounts  []mount
	args    []word // of the program in it
	// detach has docker run it by itself, and the unit follow its log: it is the
	// daemon's child, and a client that is killed leaves it behind.
	detach bool
}

// servicePath is where the unit of a container is, or what Quadlet makes it of.
func (c *Config) servicePath(service string) string {
	if c.Options.Quadlet {
		return quadletDir + service + ".container"
	}
	return unitDir + service + ".service"
}

// quadlet writes the section that Quadlet makes a command of, if it is to. The
// variable of the image is expanded by systemd, as in a command.
func (u *unit) quadlet(c *Config, r container) {
	if !c.Options.Quadlet {
		return
	}
	u.section("Container")
	u.set("ContainerName", r.name)
	u.set("Image", string(r.image))
	u.set("Network", "host")
	for _, m := range r.mounts {
		u.set("Volume", families[c.OS.Family].volume(m))
	}
	u.exec("PodmanArgs", "", append([]word{"--pull=never"}, r.options...)...)
	if len(r.args) > 0 {
		u.exec("Exec", "", r.args...)
	}
}

// run writes the rest of the section of the service, and when it starts. Quadlet
// knows itself how to start and stop what it was told of.
func (u *unit) run(c *Config, r container) {
	f := families[c.OS.Family]
	if !c.Options.Quadlet {
		u.commands(f, r)
		u.set("Delegate", "yes")
	}
	u.set("Restart", "always")
	u.set("RestartSec", "10")
	u.section("Install")
	u.set("WantedBy", "multi-user.target")
}

// commands writes how the container is started and stopped.
func (u *unit) commands(f family, r container) {
	name := word(r.name)
	run := f.command("run", "--name="+name, "--pull=never", "--network=host")
	if !f.docker() {
		run = append(run, "--log-driver=k8s-file") // the journal has it from podman itself
	}
	run = append(run, r.options...)
	for _, m := range r.mounts {
		run = append(run, word("--volume="+f.volume(m)))
	}
	u.exec("ExecStartPre", "-", f.remove(name)...)
	if r.detach && f.docker() {
		run = slices.Insert(run, 2, "--detach")
		u.exec("ExecStartPre", "", slices.Concat(run, []word{r.image}, r.args)...)
		u.exec("ExecStart", "", f.command("logs", "--follow", name)...)
	} else {
		u.exec("ExecStart", "", slices.Concat(run, []word{r.image}, r.args)...)
	}
	u.exec("ExecStop", "-", f.command("stop", name)...)
	u.exec("ExecStopPost", "-", f.remove(name)...)
}
