package plane

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// corefile answers for the cluster's domain and asks the node's servers for the rest.
const corefile = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    log . {
        class error
    }
    kubernetes %s in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`

func coreDNS(c *Cluster) []any {
	who := account(metav1.NamespaceSystem, "coredns")
	return []any{
		who,
		clusterRole("system:coredns",
			allow("", "endpoints", "list", "watch"),
			allow("", "services", "list", "watch"),
			allow("", "pods", "list", "watch"),
			allow("", "namespaces", "list", "watch"),
			allow("discovery.k8s.io", "endpointslices", "list", "watch")),
		bindAccount("system:coredns", "system:coredns", who),
		configMap(metav1.NamespaceSystem, "coredns", map[string]string{"Corefile": fmt.Sprintf(corefile, c.Domain)}),
		dnsDeployment(c),
		dnsService(c),
	}
}

func dnsLabels() map[string]string { return map[string]string{"k8s-app": "kube-dns"} }

func dnsDeployment(c *Cluster) appsv1.Deployment {
	one := intstr.FromInt32(1)
	return appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "coredns", Labels: dnsLabels()},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: dnsLabels()},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &one}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: dnsLabels()}, Spec: dnsPod(c)},
		},
	}
}

func dnsPod(c *Cluster) corev1.PodSpec {
	container := corev1.Container{
		Name: "coredns", Image: c.Images[imageCoreDNS], ImagePullPolicy: corev1.PullIfNotPresent,
		Args:      []string{"-conf", "/etc/coredns/Corefile"},
		Resources: requests("100m", "70Mi"),
		Ports: []corev1.ContainerPort{
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
			{Name: "dns-tcp", ContainerPort: 53, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: 9153, Protocol: corev1.ProtocolTCP},
		},
		LivenessProbe:  ask("/health", 8080),
		ReadinessProbe: ask("/ready", 8181),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			// The binary of the official image has this file capability.
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns", ReadOnly: true}},
	}
	return corev1.PodSpec{
		ServiceAccountName: "coredns",
		PriorityClassName:  "system-cluster-critical",
		DNSPolicy:          corev1.DNSDefault, // it is the cluster's DNS itself
		NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
		// A cluster begins with controllers, which have the one taint here and the other with kubeadm.
		Tolerations: []corev1.Toleration{
			{Key: "node-role.kubernetes.io/controller", Effect: corev1.TaintEffectNoSchedule},
			{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule},
		},
		SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: dnsLabels()},
		}},
		Containers: []corev1.Container{container},
		Volumes:    []corev1.Volume{configVolume("config", "coredns")},
	}
}

func ask(path string, port int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}}, TimeoutSeconds: 5}
}

func dnsService(c *Cluster) corev1.Service {
	return corev1.Service{
		TypeMeta:   coreType("Service"),
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns", Labels: dnsLabels()},
		Spec: corev1.ServiceSpec{
			ClusterIP: c.DNSServiceIP,
			Selector:  dnsLabels(),
			Ports: []corev1.ServicePort{
				dnsPort("dns", 53, corev1.ProtocolUDP),
				dnsPort("dns-tcp", 53, corev1.ProtocolTCP),
				dnsPort("metrics", 9153, corev1.ProtocolTCP),
			},
		},
	}
}

// dnsPort says where the port leads, though it is the same number: a zero is
// written otherwise, and would differ from what the API server makes of it
// whenever it is applied again.
func dnsPort(name string, port int32, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, TargetPort: intstr.FromInt32(port), Protocol: protocol}
}
