package plane

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kubeProxyConfiguration is the part of Kubernetes' type that is used here.
type kubeProxyConfiguration struct {
	APIVersion         string `json:"apiVersion"`
	Kind               string `json:"kind"`
	BindAddress        string `json:"bindAddress"`
	ClusterCIDR        string `json:"clusterCIDR"`
	HealthzBindAddress string `json:"healthzBindAddress"`
	MetricsBindAddress string `json:"metricsBindAddress"`
	Mode               string `json:"mode"`
}

// kubeProxy has no kubeconfig: where the API server is stands in its
// environment, and who it is in its service account.
func kubeProxy(c *Cluster) ([]any, error) {
	const name = "kube-proxy"
	who := account(metav1.NamespaceSystem, name)
	config, err := yaml.Marshal(kubeProxyConfiguration{
		APIVersion: "kubeproxy.config.k8s.io/v1alpha1", Kind: "KubeProxyConfiguration",
		BindAddress: "0.0.0.0", ClusterCIDR: strings.Join(c.PodCIDRs, ","),
		HealthzBindAddress: "0.0.0.0:10256", MetricsBindAddress: "127.0.0.1:10249",
		Mode: "iptables",
	})
	if err != nil {
		return nil, err
	}
	container := corev1.Container{
		Name: name, Image: c.Images[imageKubeProxy], ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"kube-proxy", "--config=/etc/kube-proxy/config.yaml", "--hostname-override=$(NODE_NAME)"},
		Env:     append(c.endpoint(), nodeEnv("NODE_NAME", "spec.nodeName")),
		// It writes rules and sysctls of the host.
		SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		Resources:       requests("50m", "64Mi"),
		LivenessProbe:   ask("/healthz", 10256),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: "/etc/kube-proxy", ReadOnly: true},
			{Name: "xtables-lock", MountPath: "/run/xtables.lock"},
			{Name: "modules", MountPath: "/lib/modules", ReadOnly: true},
		},
	}
	return []any{
		who,
		bindAccount("kube-proxy", "system:node-proxier", who),
		configMap(metav1.NamespaceSystem, name, map[string]string{"config.yaml": string(config)}),
		daemonSet(metav1.NamespaceSystem, name, corev1.PodSpec{
			ServiceAccountName: name,
			Containers:         []corev1.Container{container},
			Volumes: []corev1.Volume{
				configVolume("config", name),
				hostPath("xtables-lock", "/run/xtables.lock", corev1.HostPathFileOrCreate),
				hostPath("modules", "/lib/modules", corev1.HostPathDirectory),
			},
		}),
	}, nil
}
