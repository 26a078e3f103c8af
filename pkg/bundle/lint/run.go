package lint

import (
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/unit"
)

// switches are the options of podman run and docker run that take no value.
var switches = strings.Fields(`--privileged --rm --rmi --detach --interactive --tty --read-only --init --no-healthcheck --replace --quiet
	--oom-kill-disable --sig-proxy --publish-all --no-hosts --no-hostname --env-host --read-only-tmpfs --passwd --tls-verify --help --http-proxy`)

// parseRun reads podman run and docker run lines; a command that is neither is not ok.
func parseRun(words []string) (container, bool) {
	if name := path.Base(words[0]); name != "podman" && name != "docker" {
		return container{}, false
	}
	i := slices.IndexFunc(words, func(w string) bool { return w == "run" || w == "create" })
	if i < 0 || i > 3 {
		return container{}, false
	}
	var c container
	for i++; i < len(words) && strings.HasPrefix(words[i], "-"); i++ {
		i += c.option(words[i:])
	}
	if i < len(words) {
		c.image = words[i]
		for _, w := range words[i+1:] {
			text, _ := unit.Literal(w, true)
			c.args = append(c.args, text)
		}
	}
	return c, true
}

// option reads the option that words start with, and says how many words after
// it are its value.
func (c *container) option(words []string) int {
	name, value, given := strings.Cut(words[0], "=")
	used := 0
	switch {
	case given || slices.Contains(switches, name):
	case !strings.HasPrefix(name, "--") && len(name) > 2 && strings.Contains("vewupmlha", name[1:2]):
		name, value = name[:2], name[2:] // -v/a:/b
	case !strings.HasPrefix(name, "--") && strings.Trim(name, "-ditPq") == "":
		// -d, -it and so on
	case len(words) > 1:
		value, used = words[1], 1
	}
	switch name {
	case "-v", "--volume":
		c.volume(value)
	case "--mount":
		c.mount(value)
	case "--name":
		c.name = value
	case "--privileged":
		if c.privileged = value != "false"; c.privileged {
			c.rights = append(c.rights, "privileged")
		}
	case "--entrypoint":
		c.program = path.Base(value)
	case "--network", "--net", "--pid", "--ipc", "--user", "--cap-add", "--userns", "--device":
		c.rights = append(c.rights, strings.TrimPrefix(name, "--")+" "+value)
	case "--security-opt":
		c.privileged = c.privileged || value == "label=disable"
	}
	return used
}

// volume reads SOURCE:TARGET[:OPTIONS]. A volume with a name is none of the host's paths.
func (c *container) volume(value string) {
	part := strings.Split(value, ":")
	if len(part) < 2 || !strings.HasPrefix(part[0], "/") {
		return
	}
	m := Mount{Source: hostPath(part[0]), Target: part[1]}
	if len(part) > 2 {
		for o := range strings.SplitSeq(part[2], ",") {
			m.set(o)
		}
	}
	c.mounts = append(c.mounts, m)
}

// mount reads the value of --mount; only bind mounts matter.
func (c *container) mount(value string) {
	var m Mount
	bind := false
	for pair := range strings.SplitSeq(value, ",") {
		key, v, _ := strings.Cut(pair, "=")
		switch key {
		case "type":
			bind = v == "bind"
		case "src", "source":
			m.Source = hostPath(v)
		case "dst", "destination", "target":
			m.Target = v
		case "bind-propagation":
			m.set(v)
		case "relabel":
			m.Label = v
		case "z", "Z", "ro", "readonly":
			if v != "false" {
				m.set(key)
			}
		}
	}
	if bind {
		c.mounts = append(c.mounts, m)
	}
}

func (m *Mount) set(option string) {
	switch option {
	case "ro", "readonly":
		m.ReadOnly = true
	case "z":
		m.Label = "shared"
	case "Z":
		m.Label = "private"
	case "shared", "rshared", "slave", "rslave", "private", "rprivate":
		m.Propagation = option
	}
}

// hostPath is a path as it is on every system that bundles are for.
func hostPath(p string) string {
	p = path.Clean(p)
	if p == "/var/run" || strings.HasPrefix(p, "/var/run/") {
		return p[len("/var"):]
	}
	return p
}

// resolved finds out which program the container runs, from its image or from
// the first argument where that is none of a flag.
func (c container) resolved() container {
	if c.program != "" {
		return c
	}
	if len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		c.program, c.args = path.Base(c.args[0]), c.args[1:]
		if len(c.lines) > 0 {
			c.lines = c.lines[1:]
		}
		return c
	}
	c.program, _ = component(c.image)
	return c
}
