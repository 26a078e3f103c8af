package bundle

import "sigs.k8s.io/yaml"

// kubeletConfiguration is the part of kubelet.config.k8s.io/v1beta1 that a
// bundle sets.
//
// It is not the type of k8s.io/kubelet, which costs a program 5 MB and 4 ms at
// every start for the Prometheus and OpenTelemetry that it brings along, writes
// zero values for fields that nobody set, and gains fields that the kubelet of
// an older version refuses. A test holds this type against that one.
type kubeletConfiguration struct {
	APIVersion                      string         `json:"apiVersion"`
	Kind                            string         `json:"kind"`
	Authentication                  authentication `json:"authentication"`
	Authorization                   authorization  `json:"authorization"`
	CgroupDriver                    string         `json:"cgroupDriver"`
	ClusterDNS                      []string       `json:"clusterDNS"`
	ClusterDomain                   string         `json:"clusterDomain"`
	ContainerRuntimeEndpoint        string         `json:"containerRuntimeEndpoint"`
	HealthzPort                     int32          `json:"healthzPort"`
	ReadOnlyPort                    int32          `json:"readOnlyPort"`
	RegisterWithTaints              []Taint        `json:"registerWithTaints,omitempty"`
	ResolverConfig                  string         `json:"resolvConf"`
	RotateCertificates              bool           `json:"rotateCertificates"`
	SerializeImagePulls             bool           `json:"serializeImagePulls"`
	ShutdownGracePeriod             string         `json:"shutdownGracePeriod"`
	ShutdownGracePeriodCriticalPods string         `json:"shutdownGracePeriodCriticalPods"`
	StaticPodPath                   string         `json:"staticPodPath"`
	VolumePluginDir                 string         `json:"volumePluginDir"`
}

type authentication struct {
	Anonymous enabled `json:"anonymous"`
	Webhook   enabled `json:"webhook"`
	X509      x509    `json:"x509"`
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type x509 struct {
	ClientCAFile string `json:"clientCAFile"`
}

type authorization struct {
	Mode string `json:"mode"`
}

// kubeletConfig returns kubelet.yaml. Nobody is let in without a client
// certificate or a token that the API server vouches for, and no port answers
// in the clear.
func kubeletConfig(c *Config) ([]byte, error) {
	return yaml.Marshal(kubeletConfiguration{
		APIVersion: "kubelet.config.k8s.io/v1beta1",
		Kind:       "KubeletConfiguration",
		Authentication: authentication{
			Anonymous: enabled{false},
			Webhook:   enabled{true},
			X509:      x509{ClientCAFile: "/etc/kubernetes/ca.crt"},
		},
		Authorization:                   authorization{Mode: "Webhook"},
		CgroupDriver:                    "systemd",
		ClusterDNS:                      c.Cluster.DNSServiceIPs,
		ClusterDomain:                   c.Cluster.Domain,
		ContainerRuntimeEndpoint:        "unix:///run/containerd/containerd.sock",
		RegisterWithTaints:              c.taints(),
		ResolverConfig:                  families[c.OS.Family].resolver,
		RotateCertificates:              true,
		SerializeImagePulls:             false,
		ShutdownGracePeriod:             "45s",
		ShutdownGracePeriodCriticalPods: "30s",
		StaticPodPath:                   "/etc/kubernetes/manifests",
		VolumePluginDir:                 "/var/lib/kubelet/volumeplugins",
	})
}
