package lint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// object is what all objects of Kubernetes have.
type object struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            json.RawMessage   `json:"spec"`
}

// templates is where objects that make pods have the pod.
type templates struct {
	Template    corev1.PodTemplateSpec `json:"template"`
	JobTemplate struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	} `json:"jobTemplate"`
}

// manifests checks the documents of a YAML or JSON file and notes their containers.
func (l *linter) manifests() {
	line := 1
	for _, doc := range documents(l.body) {
		if err := l.document(doc, line); err != nil {
			l.fail(line, fmt.Sprintf("read the document: %s", strings.ReplaceAll(err.Error(), "\n", " ")), "")
		}
		line += bytes.Count(doc, []byte("\n"))
	}
}

// documents cuts a stream before each line that starts with "---".
func documents(body []byte) [][]byte {
	var docs [][]byte
	start := 0
	for at := 0; at < len(body); {
		end := at + bytes.IndexByte(body[at:], '\n') + 1
		if end == at {
			end = len(body)
		}
		if bytes.HasPrefix(body[at:end], []byte("---")) && at > start {
			docs, start = append(docs, body[start:at]), at
		}
		at = end
	}
	return append(docs, body[start:])
}

func (l *linter) document(doc []byte, line int) error {
	var o object
	if err := yaml.Unmarshal(doc, &o); err != nil {
		return err
	}
	var pod corev1.PodSpec
	switch o.Kind {
	case "Pod":
		if err := json.Unmarshal(o.Spec, &pod); err != nil {
			return err
		}
	case "DaemonSet", "Deployment", "StatefulSet", "ReplicaSet", "Job", "CronJob":
		var t templates
		if err := json.Unmarshal(o.Spec, &t); err != nil {
			return err
		}
		pod = t.Template.Spec
		if o.Kind == "CronJob" {
			pod = t.JobTemplate.Spec.Template.Spec
		}
	}
	l.pod(o.Metadata.Name, &pod, line)
	return nil
}

// pod notes the containers of a pod; line is where its document starts.
func (l *linter) pod(name string, pod *corev1.PodSpec, line int) {
	paths := make(map[string]string)
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			paths[v.Name] = hostPath(v.HostPath.Path)
		}
	}
	for _, c := range pod.InitContainers {
		known := l.podContainer(name, c, pod, paths, line)
		l.cniWriter(known, c, pod)
	}
	for _, c := range pod.Containers {
		l.podContainer(name, c, pod, paths, line)
	}
}

func (l *linter) podContainer(name string, c corev1.Container, pod *corev1.PodSpec, paths map[string]string, line int) container {
	line = lineOf(l.body, line, "name: "+c.Name)
	known := container{file: l.file, line: line, name: name + "/" + c.Name, image: c.Image, args: slices.Concat(c.Command, c.Args), rights: podRights(&c, pod)}
	if s := c.SecurityContext; s != nil && s.Privileged != nil {
		known.privileged = *s.Privileged
	}
	for _, m := range c.VolumeMounts {
		if source, ok := paths[m.Name]; ok {
			known.mounts = append(known.mounts, Mount{Source: path.Join(source, m.SubPath), Target: m.MountPath, ReadOnly: m.ReadOnly})
		}
	}
	for _, a := range known.args {
		known.lines = append(known.lines, lineOf(l.body, line, a))
	}
	known = known.resolved()
	l.containers = append(l.containers, known)
	return known
}

// cniWriter reports an init container that writes the host's CNI directories
// with a random pair of SELinux categories: the next pod could not replace what
// it wrote.
func (l *linter) cniWriter(known container, c corev1.Container, pod *corev1.PodSpec) {
	level := ""
	if s := pod.SecurityContext; s != nil && s.SELinuxOptions != nil {
		level = s.SELinuxOptions.Level
	}
	if s := c.SecurityContext; s != nil && s.SELinuxOptions != nil {
		level = s.SELinuxOptions.Level
	}
	for _, m := range known.mounts {
		if !m.ReadOnly && level != "s0" && (within(m.Source, "/etc/cni") || within(m.Source, "/opt/cni")) {
			l.fail(known.line, fmt.Sprintf("init container %s writes %s at the SELinux level %q, want s0", known.name, m.Source, level), "set securityContext.seLinuxOptions.level: s0")
		}
	}
}
