package plane

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

func apiServer(c *Cluster) corev1.Pod {
	s := func(name string) string { return in(owners.APIServerSecrets, name) }
	flags := []string{
		"--advertise-address=" + nodeAddress,
		"--allow-privileged=true",
		"--authentication-config=" + authenticationPath,
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + s("ca.crt"),
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--etcd-cafile=" + s("etcd-ca.crt"),
		"--etcd-certfile=" + s("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + s("apiserver-etcd-client.key"),
		"--etcd-servers=" + strings.Join(c.etcdServers(), ","),
		"--kubelet-client-certificate=" + s("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + s("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--profiling=false",
		"--proxy-client-cert-file=" + s("front-proxy-client.crt"),
		"--proxy-client-key-file=" + s("front-proxy-client.key"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-client-ca-file=" + s("front-proxy-ca.crt"),
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=" + c.port(),
		"--service-account-issuer=" + c.issuer(),
		"--service-account-key-file=" + s("sa.pub"),
		"--service-account-signing-key-file=" + in(owners.ServiceAccountDir, "sa.key"),
		"--service-cluster-ip-range=" + strings.Join(c.ServiceCIDRs, ","),
		"--tls-cert-file=" + s("apiserver.crt"),
		"--tls-private-key-file=" + s("apiserver.key"),
	}
	mounts := []mount{
		{name: "secrets", path: owners.APIServerSecrets},
		{name: "service-account", path: owners.ServiceAccountDir},
		{name: "authentication", path: authenticationPath, file: true},
	}
	if c.Audit {
		flags = append(flags,
			"--audit-log-maxage=30", "--audit-log-maxbackup=10", "--audit-log-maxsize=100",
			"--audit-log-path="+in(owners.AuditLog, "audit.log"),
			"--audit-policy-file="+auditPolicyPath)
		mounts = append(mounts, mount{name: "audit-policy", path: auditPolicyPath, file: true}, mount{name: "audit-log", path: owners.AuditLog, writable: true})
	}
	return c.pod(component{
		name: owners.APIServer, flags: flags, mounts: mounts, cpu: "250m", memory: "512Mi", bind: true,
		env:    []corev1.EnvVar{nodeEnv("NODE_ADDRESS", "status.hostIP")},
		probes: probes{c.Port, corev1.URISchemeHTTPS, "/livez", "/readyz", "/livez"},
	})
}

func controllerManager(c *Cluster) corev1.Pod {
	s := func(name string) string { return in(owners.ManagerSecrets, name) }
	config := s("controller-manager.conf")
	return c.pod(component{
		name: owners.ControllerManager,
		flags: []string{
			"--allocate-node-cidrs=true",
			"--authentication-kubeconfig=" + config,
			"--authorization-kubeconfig=" + config,
			"--bind-address=127.0.0.1",
			"--client-ca-file=" + s("ca.crt"),
			"--cluster-cidr=" + strings.Join(c.PodCIDRs, ","),
			"--cluster-signing-cert-file=" + s("ca.crt"),
			// Three days: a certificate that got lost is soon worth nothing.
			"--cluster-signing-duration=72h",
			"--cluster-signing-key-file=" + s("ca.key"),
			// Off by default, and without them nobody signs cluster-info or removes expired tokens.
			"--controllers=*,bootstrapsigner,tokencleaner",
			"--kubeconfig=" + config,
			"--leader-elect=true",
			"--profiling=false",
			"--requestheader-client-ca-file=" + s("front-proxy-ca.crt"),
			"--root-ca-file=" + s("ca.crt"),
			"--service-account-private-key-file=" + in(owners.ServiceAccountDir, "sa.key"),
			"--service-cluster-ip-range=" + strings.Join(c.ServiceCIDRs, ","),
			"--use-service-account-credentials=true",
		},
		mounts: []mount{{name: "secrets", path: owners.ManagerSecrets}, {name: "service-account", path: owners.ServiceAccountDir}},
		cpu:    "200m", memory: "128Mi",
		probes: probes{10257, corev1.URISchemeHTTPS, "/healthz", "", "/healthz"},
	})
}

func scheduler(c *Cluster) corev1.Pod {
	config := in(owners.SchedulerSecrets, "scheduler.conf")
	return c.pod(component{
		name: owners.Scheduler,
		flags: []string{
			"--authentication-kubeconfig=" + config,
			"--authorization-kubeconfig=" + config,
			"--bind-address=127.0.0.1",
			"--kubeconfig=" + config,
			"--leader-elect=true",
			"--profiling=false",
		},
		mounts: []mount{{name: "secrets", path: owners.SchedulerSecrets}},
		cpu:    "100m", memory: "64Mi",
		probes: probes{10259, corev1.URISchemeHTTPS, "/livez", "/readyz", "/livez"},
	})
}

// etcd is a member on the controller itself. Its name is that of the node.
func etcd(c *Cluster) corev1.Pod {
	s := func(name string) string { return in(owners.EtcdSecrets, name) }
	return c.pod(component{
		name: owners.Etcd,
		flags: []string{
			"--advertise-client-urls=" + c.nodeURL(2379),
			"--cert-file=" + s("server.crt"),
			"--client-cert-auth=true",
			"--data-dir=" + owners.EtcdData,
			"--feature-gates=InitialCorruptCheck=true",
			"--initial-advertise-peer-urls=" + c.nodeURL(2380),
			"--initial-cluster=" + strings.Join(c.members(), ","),
			"--key-file=" + s("server.key"),
			"--listen-client-urls=https://127.0.0.1:2379," + c.nodeURL(2379),
			"--listen-metrics-urls=http://127.0.0.1:2381",
			"--listen-peer-urls=" + c.nodeURL(2380),
			"--name=$(NODE_NAME)",
			"--peer-cert-file=" + s("peer.crt"),
			"--peer-client-cert-auth=true",
			"--peer-key-file=" + s("peer.key"),
			"--peer-trusted-ca-file=" + s("ca.crt"),
			"--trusted-ca-file=" + s("ca.crt"),
			"--watch-progress-notify-interval=5s",
		},
		mounts: []mount{{name: "secrets", path: owners.EtcdSecrets}, {name: "data", path: owners.EtcdData, writable: true}},
		cpu:    "100m", memory: "100Mi",
		env:    []corev1.EnvVar{nodeEnv("NODE_ADDRESS", "status.hostIP"), nodeEnv("NODE_NAME", "spec.nodeName")},
		probes: probes{2381, corev1.URISchemeHTTP, "/livez", "/readyz", "/readyz"},
	})
}
