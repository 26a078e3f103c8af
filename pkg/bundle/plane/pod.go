package plane

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// component is what differs between the static pods.
type component struct {
	name        string
	flags       []string
	cpu, memory string // that it asks for
	mounts      []mount
	probes      probes
	env         []corev1.EnvVar
	// bind tells that the binary has the file capability NET_BIND_SERVICE, as
	// that of the official image of the API server does: the kernel refuses to run
	// it without, and with no_new_privs.
	bind bool
}

// mount shares a path of the host with a component, at the same place.
type mount struct {
	name     string // of the volume
	path     string
	file     bool // else a directory
	writable bool
}

// probes ask a component on loopback whether it is well.
type probes struct {
	port                        int32
	scheme                      corev1.URIScheme
	liveness, readiness, starts string // paths; readiness may be empty
}

// nodeAddress is the variable of the node's own address, which pods are told by
// the kubelet: the same manifest serves every controller.
const nodeAddress = "$(NODE_ADDRESS)"

func nodeEnv(name, field string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field}}}
}

// pod returns the static pod of a component.
func (c *Cluster) pod(p component) corev1.Pod {
	spec := corev1.PodSpec{
		HostNetwork:       true,
		PriorityClassName: "system-node-critical",
		Priority:          new(int32(2000001000)), // of that class, which no API server fills in for a static pod
		SecurityContext:   c.podSecurity(p.name),
		Containers: []corev1.Container{{
			Name:            p.name,
			Image:           c.Images[p.name],
			Command:         append([]string{p.name}, p.flags...),
			Env:             p.env,
			ImagePullPolicy: corev1.PullIfNotPresent,
			Resources:       requests(p.cpu, p.memory),
			SecurityContext: c.containerSecurity(p),
			LivenessProbe:   p.probes.probe(p.probes.liveness, 8, 10),
			ReadinessProbe:  p.probes.probe(p.probes.readiness, 3, 1),
			StartupProbe:    p.probes.probe(p.probes.starts, 24, 10),
		}},
	}
	for _, m := range p.mounts {
		m.into(&spec)
	}
	return corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: p.name, Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{"component": p.name, "tier": "control-plane"},
		},
		Spec: spec,
	}
}

// podSecurity says as whom the pod runs. There is no fsGroup: files of the host
// belong to whom the table says, and the kubelet must not change that.
func (c *Cluster) podSecurity(name string) *corev1.PodSecurityContext {
	s := &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	user, ok := c.Owners.UserOf(name)
	if !ok || slices.Contains(c.Root, name) {
		return s
	}
	s.RunAsNonRoot = new(true)
	s.RunAsUser = new(int64(user.ID))
	s.RunAsGroup = new(int64(user.ID))
	for _, g := range user.Groups {
		if id, ok := c.Owners.GID(g); ok {
			s.SupplementalGroups = append(s.SupplementalGroups, int64(id))
		}
	}
	return s
}

// containerSecurity takes away what the component does not need. One that runs
// as root keeps the capabilities of the container engine, since it reads files
// of other users.
func (c *Cluster) containerSecurity(p component) *corev1.SecurityContext {
	s := &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}
	if slices.Contains(c.Root, p.name) {
		return s
	}
	s.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	if p.bind {
		s.Capabilities.Add = []corev1.Capability{"NET_BIND_SERVICE"}
		return s
	}
	s.AllowPrivilegeEscalation = new(false)
	return s
}

// into adds the mount. The host must have the path: one that a container engine
// made would belong to root.
func (m mount) into(spec *corev1.PodSpec) {
	kind := corev1.HostPathDirectory
	if m.file {
		kind = corev1.HostPathFile
	}
	spec.Volumes = append(spec.Volumes, corev1.Volume{
		Name: m.name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: m.path, Type: &kind}},
	})
	mounts := &spec.Containers[0].VolumeMounts
	*mounts = append(*mounts, corev1.VolumeMount{Name: m.name, MountPath: m.path, ReadOnly: !m.writable})
}

func (p probes) probe(at string, failures, period int32) *corev1.Probe {
	if at == "" {
		return nil
	}
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Path: at, Port: intstr.FromInt32(p.port), Scheme: p.scheme}},
		FailureThreshold: failures,
		PeriodSeconds:    period,
		TimeoutSeconds:   15,
	}
}

func requests(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return corev1.ResourceRequirements{Requests: list}
}

// url is that of a host's port. The host may be an IPv6 address.
func url(host string, port int) string {
	return "https://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// nodeURL is that of a port of the node itself. All members are of one family.
func (c *Cluster) nodeURL(port int) string {
	for _, address := range c.Members {
		if strings.Contains(address, ":") {
			return fmt.Sprintf("https://[%s]:%d", nodeAddress, port)
		}
	}
	return url(nodeAddress, port)
}

// in returns a file of a component's secrets.
func in(dir, name string) string { return dir + "/" + name }
