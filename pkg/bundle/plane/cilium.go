package plane

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names of cilium's objects. Its programs look for the ConfigMap by name.
const (
	ciliumAgent    = "cilium"
	ciliumOperator = "cilium-operator"
	ciliumConfig   = "cilium-config"
)

// Ports on loopback where the agent and the operator say whether they are well.
const (
	ciliumHealthPort   = 9879
	ciliumOperatorPort = 9234
)

// cilium does kube-proxy's work as well. Its operator makes the kinds of objects
// that it has; the ranges of pods are those that the controller manager gives nodes.
func cilium(c *Cluster) []any {
	agent, operator := account(metav1.NamespaceSystem, ciliumAgent), account(metav1.NamespaceSystem, ciliumOperator)
	return []any{
		agent, operator,
		clusterRole(ciliumAgent, ciliumAgentRules()...), bindAccount(ciliumAgent, ciliumAgent, agent),
		clusterRole(ciliumOperator, ciliumOperatorRules()...), bindAccount(ciliumOperator, ciliumOperator, operator),
		configMap(metav1.NamespaceSystem, ciliumConfig, ciliumSettings(c)),
		daemonSet(metav1.NamespaceSystem, ciliumAgent, ciliumAgentPod(c)),
		ciliumOperatorDeployment(c),
	}
}

// ciliumSettings are those of which cilium's own default is another, or depends
// on the version.
func ciliumSettings(c *Cluster) map[string]string {
	var v4, v6 bool
	for _, cidr := range c.PodCIDRs {
		v4, v6 = v4 || !strings.Contains(cidr, ":"), v6 || strings.Contains(cidr, ":")
	}
	loopback := "127.0.0.1"
	if !v4 {
		loopback = "[::1]"
	}
	return map[string]string{
		"agent-health-port":         strconv.Itoa(ciliumHealthPort),
		"cgroup-root":               "/sys/fs/cgroup",
		"cluster-id":                "0",
		"cluster-name":              "default",
		"cni-exclusive":             "true",
		"cni-log-file":              "/var/run/cilium/cilium-cni.log",
		"enable-ipv4":               strconv.FormatBool(v4),
		"enable-ipv4-masquerade":    strconv.FormatBool(v4),
		"enable-ipv6":               strconv.FormatBool(v6),
		"enable-ipv6-masquerade":    strconv.FormatBool(v6),
		"external-envoy-proxy":      "false",
		"identity-allocation-mode":  "crd",
		"ipam":                      "kubernetes",
		"k8s-require-ipv4-pod-cidr": strconv.FormatBool(v4),
		"k8s-require-ipv6-pod-cidr": strconv.FormatBool(v6),
		"kube-proxy-replacement":    "true",
		"kube-proxy-replacement-healthz-bind-address": ":10256",
		"operator-api-serve-addr":                     loopback + ":" + strconv.Itoa(ciliumOperatorPort),
		"routing-mode":                                "tunnel",
		"unmanaged-pod-watcher-interval":              "0", // the operator deletes no pods
		"tunnel-protocol":                             "vxlan",
		"write-cni-conf-when-ready":                   "/host/etc/cni/net.d/05-cilium.conflist",
	}
}

// ciliumVolumes are the paths of the host that the agent works on.
func ciliumVolumes() []corev1.Volume {
	return []corev1.Volume{
		hostPath("bpf", "/sys/fs/bpf", corev1.HostPathDirectoryOrCreate),
		hostPath("cgroup", "/sys/fs/cgroup", corev1.HostPathDirectory),
		hostPath("cni", "/etc/cni/net.d", corev1.HostPathDirectoryOrCreate),
		hostPath("modules", "/lib/modules", corev1.HostPathDirectory),
		hostPath("netns", "/run/netns", corev1.HostPathDirectoryOrCreate),
		hostPath("plugins", "/opt/cni/bin", corev1.HostPathDirectoryOrCreate),
		hostPath("run", "/run/cilium", corev1.HostPathDirectoryOrCreate),
		hostPath("xtables-lock", "/run/xtables.lock", corev1.HostPathFileOrCreate),
		configVolume("config", ciliumConfig),
	}
}

func ciliumAgentPod(c *Cluster) corev1.PodSpec {
	install := writer("install-plugin", c.Images[imageCilium], []string{"/install-plugin.sh"}, corev1.VolumeMount{Name: "plugins", MountPath: "/host/opt/cni/bin"})
	install.SecurityContext.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	fromHost, both := corev1.MountPropagationHostToContainer, corev1.MountPropagationBidirectional
	agent := corev1.Container{
		Name: "cilium-agent", Image: c.Images[imageCilium], ImagePullPolicy: corev1.PullIfNotPresent,
		Command:        []string{"cilium-agent", "--config-dir=/tmp/cilium/config-map"},
		Env:            ciliumEnv(c),
		Resources:      requests("100m", "256Mi"),
		StartupProbe:   ciliumProbe(c, ciliumHealthPort, 300, 2),
		LivenessProbe:  ciliumProbe(c, ciliumHealthPort, 10, 30),
		ReadinessProbe: ciliumProbe(c, ciliumHealthPort, 3, 30),
		// It loads programs into the kernel, and writes the CNI's configuration.
		SecurityContext: &corev1.SecurityContext{Privileged: new(true), SELinuxOptions: &corev1.SELinuxOptions{Level: "s0", Type: "spc_t"}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "bpf", MountPath: "/sys/fs/bpf", MountPropagation: &both},
			{Name: "cgroup", MountPath: "/sys/fs/cgroup", MountPropagation: &fromHost},
			{Name: "cni", MountPath: "/host/etc/cni/net.d"},
			{Name: "modules", MountPath: "/lib/modules", ReadOnly: true},
			{Name: "run", MountPath: "/var/run/cilium"},
			{Name: "netns", MountPath: "/var/run/cilium/netns", MountPropagation: &fromHost},
			{Name: "xtables-lock", MountPath: "/run/xtables.lock"},
			{Name: "config", MountPath: "/tmp/cilium/config-map", ReadOnly: true},
		},
	}
	return corev1.PodSpec{
		ServiceAccountName:            ciliumAgent,
		TerminationGracePeriodSeconds: new(int64(1)), // what forwards packets is in the kernel, and stays
		InitContainers:                []corev1.Container{install},
		Containers:                    []corev1.Container{agent},
		Volumes:                       ciliumVolumes(),
	}
}

func ciliumEnv(c *Cluster) []corev1.EnvVar {
	return append(c.endpoint(), nodeEnv("K8S_NODE_NAME", "spec.nodeName"), nodeEnv("CILIUM_K8S_NAMESPACE", "metadata.namespace"))
}

// ciliumProbe asks on loopback of the family that pods have.
func ciliumProbe(c *Cluster, port, failures, period int32) *corev1.Probe {
	host := "127.0.0.1"
	if len(c.PodCIDRs) == 1 && strings.Contains(c.PodCIDRs[0], ":") {
		host = "::1"
	}
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Host: host, Path: "/healthz", Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTP,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "brief", Value: "true"}},
		}},
		FailureThreshold: failures, PeriodSeconds: period, TimeoutSeconds: 5,
	}
}

// ciliumOperatorDeployment runs on a node that has no network yet, since without
// it none would ever have one.
func ciliumOperatorDeployment(c *Cluster) appsv1.Deployment {
	labels := map[string]string{"k8s-app": ciliumOperator}
	one := intstr.FromInt32(1)
	container := corev1.Container{
		Name: ciliumOperator, Image: c.Images[imageCiliumOperator], ImagePullPolicy: corev1.PullIfNotPresent,
		Command:        []string{"cilium-operator-generic", "--config-dir=/tmp/cilium/config-map"},
		Env:            ciliumEnv(c),
		Resources:      requests("50m", "64Mi"),
		LivenessProbe:  ciliumProbe(c, ciliumOperatorPort, 6, 10),
		ReadinessProbe: ciliumProbe(c, ciliumOperatorPort, 5, 5),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/tmp/cilium/config-map", ReadOnly: true}},
	}
	return appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: ciliumOperator, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &one}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				HostNetwork:        true,
				ServiceAccountName: ciliumOperator,
				PriorityClassName:  "system-cluster-critical",
				NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
				Tolerations:        []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				SecurityContext:    &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers:         []corev1.Container{container},
				Volumes:            []corev1.Volume{configVolume("config", ciliumConfig)},
			}},
		},
	}
}

const ciliumGroup = "cilium.io"

// ciliumAgentRules let the agent follow the cluster and say what is on its own
// node. It reads no Secret.
func ciliumAgentRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allowAll("", "get list watch", "endpoints namespaces nodes pods services"),
		allowAll("", "patch", "nodes/status"),
		allowAll("discovery.k8s.io", "get list watch", "endpointslices"),
		allowAll("networking.k8s.io", "get list watch", "networkpolicies"),
		allowAll("apiextensions.k8s.io", "get list watch", "customresourcedefinitions"),
		allowAll(ciliumGroup, "list watch", `ciliumbgpadvertisements ciliumbgpnodeconfigs ciliumbgppeerconfigs ciliumcidrgroups
			ciliumclusterwideenvoyconfigs ciliumclusterwidenetworkpolicies ciliumegressgatewaypolicies ciliumendpoints ciliumendpointslices
			ciliumenvoyconfigs ciliumidentities ciliuml2announcementpolicies ciliumloadbalancerippools ciliumlocalredirectpolicies
			ciliumnetworkpolicies ciliumnodeconfigs ciliumnodes ciliumpodippools`),
		allowAll(ciliumGroup, "create", "ciliumendpoints ciliumidentities ciliumnodes"),
		allowAll(ciliumGroup, "update", "ciliumidentities"),
		allowAll(ciliumGroup, "delete get", "ciliumendpoints"),
		allowAll(ciliumGroup, "get update", "ciliumnodes ciliumnodes/status"),
		allowAll(ciliumGroup, "patch", `ciliumclusterwidenetworkpolicies/status ciliumendpoints ciliumendpoints/status
			ciliuml2announcementpolicies/status ciliumnetworkpolicies/status`),
	}
}

// ciliumOperatorRules let the operator make cilium's kinds, clean up after
// agents that are gone, and elect one of several operators.
func ciliumOperatorRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allowAll("", "get list watch", "namespaces pods services"),
		allowAll("", "list watch", "nodes"),
		allowAll("", "patch", "nodes nodes/status"), // that a node has a network, and its taint away
		allowAll("", "patch update", "services/status"),
		allowAll("discovery.k8s.io", "get list watch", "endpointslices"),
		allowAll("apiextensions.k8s.io", "create get list update watch", "customresourcedefinitions"),
		allowAll("coordination.k8s.io", "create get update", "leases"),
		allowAll(ciliumGroup, "create deletecollection get list patch update watch", "ciliumclusterwidenetworkpolicies ciliumnetworkpolicies"),
		allowAll(ciliumGroup, "patch update", "ciliumclusterwidenetworkpolicies/status ciliumnetworkpolicies/status"),
		allowAll(ciliumGroup, "delete list watch", "ciliumendpoints"),
		allowAll(ciliumGroup, "create delete list update watch", "ciliumidentities"),
		allowAll(ciliumGroup, "create delete get list update watch", "ciliumnodes"),
		allowAll(ciliumGroup, "update", "ciliumnodes/status"),
		allowAll(ciliumGroup, "create delete deletecollection get list patch update watch", "ciliumendpointslices"),
		allowAll(ciliumGroup, "create get list watch", "ciliumcidrgroups ciliumloadbalancerippools ciliumpodippools"),
		allowAll(ciliumGroup, "patch", "ciliumloadbalancerippools/status"),
	}
}

// allowAll takes verbs and resources with white space between.
func allowAll(group, verbs, resources string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: strings.Fields(resources), Verbs: strings.Fields(verbs)}
}
