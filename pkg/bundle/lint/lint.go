// Package lint finds what is wrong with the files of a bundle before a node
// does: flags that a component does not have, versions that do not work
// together, units that systemd reads otherwise than they were meant, and
// SELinux labels that lock containers out of each other's files.
package lint

import (
	"bytes"
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/flags"
)

// Finding is one thing that is wrong with a file.
type Finding struct {
	File     string         `json:"file"`
	Line     int            `json:"line"` // 1-based
	Severity flags.Severity `json:"severity"`
	Message  string         `json:"message"`
	Hint     string         `json:"hint,omitempty"` // what to do, where it is known
}

// Lint reports what is wrong with files, by file and line. The keys are absolute
// paths as on the node; version is that of Kubernetes, "v1.36.2". What is no
// unit, Quadlet or manifest is not looked at.
func Lint(files map[string][]byte, version string) []Finding {
	l := &linter{version: version}
	l.read(files)
	for _, c := range l.containers {
		l.flags(c)
	}
	l.skew()
	l.labels()
	l.overridden(files)
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(l.found)
}

// Failed tells whether an error is among the findings.
func Failed(found []Finding) bool {
	return slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == flags.Error })
}

// linter goes through the files of one tree.
type linter struct {
	version    string
	file       string // the one at hand
	body       []byte
	containers []container
	found      []Finding

	assignments      []assignment
	environmentFiles map[string][]string // by unit
}

// read goes through the files in the order of their names.
func (l *linter) read(files map[string][]byte) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.file, l.body = name, files[name]
		switch {
		case unitKind(name) != "":
			l.unit()
		case slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)):
			l.manifests()
		}
	}
}

func (l *linter) report(f Finding) { l.found = append(l.found, f) }

func (l *linter) fail(line int, message, hint string) {
	l.report(Finding{l.file, line, flags.Error, message, hint})
}

// container is what a unit or a manifest starts.
type container struct {
	file    string
	line    int
	name    string
	image   string // as it is written
	program string // base name; empty when the image decides and does not tell
	args    []string
	lines   []int // of the arguments; nil when they are all in line
	mounts  []Mount
	// privileged containers are not confined by SELinux.
	privileged bool
	rights     []string // in which it is confined less than it could be
}

// Mount is a path of the host in a container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
	// Label is what the engine does to the source: "shared" (:z) and "private"
	// (:Z) give it a new label; empty leaves it alone.
	Label string
	// Propagation is "rshared", "rslave" and so on; empty is private.
	Propagation string
}

// flags checks the command line of a component of Kubernetes.
func (l *linter) flags(c container) {
	if !slices.Contains([]string{"kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}, c.program) {
		return
	}
	for _, f := range flags.Check(c.program, l.version, c.args) {
		line := c.line
		if f.Arg >= 0 && f.Arg < len(c.lines) {
			line = c.lines[f.Arg]
		}
		l.report(Finding{c.file, line, f.Severity, f.Message, f.Hint})
	}
}

// skew compares the versions that tags of images tell with that of the API
// server: its own tag, or else the version of the bundle (CATALOGUE K14).
func (l *linter) skew() {
	apiserver := l.version
	for _, c := range l.containers {
		if name, tag := component(c.image); name == "kube-apiserver" && tag != "" {
			apiserver = tag
		}
	}
	for _, c := range l.containers {
		name, tag := component(c.image)
		if tag == "" && name == "kubelet" {
			tag = l.version // a bundle's kubelet is pinned by digest
		}
		if tag == "" || !slices.Contains([]string{"kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"}, name) {
			continue
		}
		if err := flags.Skew(name, tag, apiserver); err != nil {
			l.report(Finding{c.file, c.line, flags.Error, err.Error(), "https://kubernetes.io/releases/version-skew-policy/"})
		}
	}
}

// component returns the name and the tag of an image: "kubelet" also for the
// variable ${KUBELET_IMAGE}.
func component(image string) (name, tag string) {
	if v := strings.Trim(image, "${}"); v != image {
		v, _ = strings.CutSuffix(v, "_IMAGE")
		return strings.ReplaceAll(strings.ToLower(v), "_", "-"), ""
	}
	image, _, _ = strings.Cut(image, "@")
	name, tag, _ = strings.Cut(path.Base(image), ":")
	return name, tag
}

// lineOf returns the line of text in body, from a line on; that line if it is not there.
func lineOf(body []byte, from int, text string) int {
	start := 0
	for range from - 1 {
		i := bytes.IndexByte(body[start:], '\n')
		if i < 0 {
			return from
		}
		start += i + 1
	}
	i := bytes.Index(body[start:], []byte(text))
	if i < 0 || text == "" {
		return from
	}
	return from + bytes.Count(body[start:start+i], []byte("\n"))
}
