package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/flags"
)

// Label is what the containers of a tree do to the SELinux label of a path of
// the host: container_file_t at s0 for "shared", with two categories of one
// container for "private".
type Label struct {
	Path  string `json:"path"`
	Label string `json:"label"`
	By    string `json:"by"` // the container
	// Users are the other containers that mount the path, something in it, or it in something.
	Users []string `json:"users,omitempty"`
}

// Plan returns which paths are given a label by the units and manifests of a
// tree, by path.
func Plan(files map[string][]byte) []Label {
	l := &linter{}
	l.read(files)
	var plan []Label
	for _, c := range l.containers {
		for _, m := range c.mounts {
			if m.Label == "" {
				continue
			}
			label := Label{Path: m.Source, Label: m.Label, By: c.id()}
			for _, other := range l.containers {
				if other.id() != c.id() && slices.ContainsFunc(other.mounts, func(o Mount) bool { return overlap(o.Source, m.Source) }) {
					label.Users = append(label.Users, other.id())
				}
			}
			plan = append(plan, label)
		}
	}
	slices.SortStableFunc(plan, func(a, b Label) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.By, b.By)) })
	return plan
}

func (c container) id() string { return c.file + " " + cmp.Or(c.name, c.image, c.program) }

// hosts are the directories whose labels the host's own programs need. A new
// label on one of them is a new label on everything in it.
var hosts = strings.Fields(`/ /bin /boot /dev /etc /home /lib /lib64 /opt /proc /root /run /sbin /srv /sys /tmp /usr /var /var/lib /var/log
	/var/lib/containers /var/lib/containerd /var/lib/docker /var/opt /var/tmp`)

// whole are those of hosts in which no path may have another label either.
var whole = strings.Fields(`/boot /dev /proc /sys /usr /etc/selinux /etc/systemd /var/lib/containers /var/lib/containerd /var/lib/docker`)

// labels checks what containers do to the labels of the host's paths.
func (l *linter) labels() {
	for _, c := range l.containers {
		for _, m := range c.mounts {
			if m.Label == "" {
				continue
			}
			if slices.Contains(hosts, m.Source) || slices.ContainsFunc(whole, func(w string) bool { return within(m.Source, w) }) {
				l.report(Finding{c.file, c.line, flags.Error, fmt.Sprintf("%s gets a %s label, and the host's programs need its own", m.Source, m.Label), "mount it without :z and :Z"})
				continue
			}
			l.private(c, m)
		}
	}
}

// private reports a private label on what another container mounts too. One
// that SELinux does not confine is not locked out, unless it gives labels itself.
func (l *linter) private(c container, m Mount) {
	if m.Label != "private" {
		return
	}
	for _, other := range l.containers {
		if other.id() == c.id() {
			continue
		}
		for _, o := range other.mounts {
			if overlap(o.Source, m.Source) && (!other.privileged || o.Label != "") {
				l.report(Finding{c.file, c.line, flags.Error, fmt.Sprintf("%s gets a private label (:Z), and %s mounts %s", m.Source, other.id(), o.Source), "label it :z, for all containers"})
			}
		}
	}
}

// overlap tells whether one path is the other or within it.
func overlap(a, b string) bool { return within(a, b) || within(b, a) }

// within tells whether path is dir or in it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
