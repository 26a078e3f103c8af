package flags

import "strings"

// moved says where a deprecated flag of the kubelet is now set.
func moved(component, name string) string {
	if component != "kubelet" {
		return ""
	}
	if field, ok := kubeletFields[name]; ok {
		return "set " + field + " in the KubeletConfiguration"
	}
	return ""
}

// kubeletFields are the deprecated flags that have a field of KubeletConfiguration.
var kubeletFields = fields(`
	address allowed-unsafe-sysctls=allowedUnsafeSysctls anonymous-auth=authentication.anonymous.enabled
	authentication-token-webhook=authentication.webhook.enabled authentication-token-webhook-cache-ttl=authentication.webhook.cacheTTL
	authorization-mode=authorization.mode authorization-webhook-cache-authorized-ttl=authorization.webhook.cacheAuthorizedTTL
	authorization-webhook-cache-unauthorized-ttl=authorization.webhook.cacheUnauthorizedTTL
	cgroup-driver=cgroupDriver cgroup-root=cgroupRoot cgroups-per-qos=cgroupsPerQOS client-ca-file=authentication.x509.clientCAFile
	cluster-dns=clusterDNS cluster-domain=clusterDomain container-log-max-files=containerLogMaxFiles
	container-log-max-size=containerLogMaxSize container-runtime-endpoint=containerRuntimeEndpoint
	contention-profiling=enableContentionProfiling cpu-cfs-quota=cpuCFSQuota cpu-cfs-quota-period=cpuCFSQuotaPeriod
	cpu-manager-policy=cpuManagerPolicy cpu-manager-policy-options=cpuManagerPolicyOptions
	cpu-manager-reconcile-period=cpuManagerReconcilePeriod enable-controller-attach-detach=enableControllerAttachDetach
	enable-debugging-handlers=enableDebuggingHandlers enable-server=enableServer enforce-node-allocatable=enforceNodeAllocatable
	event-burst=eventBurst event-qps=eventRecordQPS eviction-hard=evictionHard
	eviction-max-pod-grace-period=evictionMaxPodGracePeriod eviction-minimum-reclaim=evictionMinimumReclaim
	eviction-pressure-transition-period=evictionPressureTransitionPeriod eviction-soft=evictionSoft
	eviction-soft-grace-period=evictionSoftGracePeriod fail-swap-on=failSwapOn feature-gates=featureGates
	file-check-frequency=fileCheckFrequency hairpin-mode=hairpinMode healthz-bind-address=healthzBindAddress healthz-port=healthzPort
	http-check-frequency=httpCheckFrequency image-gc-high-threshold=imageGCHighThresholdPercent
	image-gc-low-threshold=imageGCLowThresholdPercent image-service-endpoint=imageServiceEndpoint
	kernel-memcg-notification=kernelMemcgNotification kube-api-burst=kubeAPIBurst kube-api-content-type=contentType
	kube-api-qps=kubeAPIQPS kube-reserved=kubeReserved kube-reserved-cgroup=kubeReservedCgroup kubelet-cgroups=kubeletCgroups
	local-storage-capacity-isolation=localStorageCapacityIsolation logging-format=logging.format
	make-iptables-util-chains=makeIPTablesUtilChains manifest-url=staticPodURL manifest-url-header=staticPodURLHeader
	max-open-files=maxOpenFiles max-pods=maxPods memory-manager-policy=memoryManagerPolicy
	minimum-image-ttl-duration=imageMinimumGCAge node-status-max-images=nodeStatusMaxImages
	node-status-update-frequency=nodeStatusUpdateFrequency oom-score-adj=oomScoreAdj pod-cidr=podCIDR
	pod-manifest-path=staticPodPath pod-max-pids=podPidsLimit pods-per-core=podsPerCore port
	protect-kernel-defaults=protectKernelDefaults qos-reserved=qosReserved read-only-port=readOnlyPort register-node=registerNode
	register-with-taints=registerWithTaints registry-burst=registryBurst registry-qps=registryPullQPS
	reserved-cpus=reservedSystemCPUs reserved-memory=reservedMemory resolv-conf=resolvConf
	rotate-certificates=rotateCertificates rotate-server-certificates=serverTLSBootstrap
	runtime-request-timeout=runtimeRequestTimeout serialize-image-pulls=serializeImagePulls
	streaming-connection-idle-timeout=streamingConnectionIdleTimeout sync-frequency=syncFrequency
	system-cgroups=systemCgroups system-reserved=systemReserved system-reserved-cgroup=systemReservedCgroup
	tls-cert-file=tlsCertFile tls-cipher-suites=tlsCipherSuites tls-min-version=tlsMinVersion
	tls-private-key-file=tlsPrivateKeyFile topology-manager-policy=topologyManagerPolicy
	topology-manager-policy-options=topologyManagerPolicyOptions topology-manager-scope=topologyManagerScope
	volume-plugin-dir=volumePluginDir volume-stats-agg-period=volumeStatsAggPeriod`)

// fields reads "flag=field" words; a field that is spelt as its flag stands alone.
func fields(list string) map[string]string {
	m := make(map[string]string)
	for word := range strings.FieldsSeq(list) {
		name, field, ok := strings.Cut(word, "=")
		if !ok {
			field = name
		}
		m[name] = field
	}
	return m
}

// goneFromKubelet were flags of the kubelet before the oldest table.
var goneFromKubelet = strings.Fields(`
	allow-privileged azure-container-registry-config cadvisor-port cloud-config cni-bin-dir cni-cache-dir cni-conf-dir
	container-runtime docker docker-endpoint docker-env-metadata-whitelist docker-only docker-root docker-tls
	dynamic-config-dir experimental-bootstrap-kubeconfig image-pull-progress-deadline iptables-masquerade-bit
	keep-terminated-pod-volumes logtostderr log-dir log-file alsologtostderr add-dir-header
	master-service-namespace network-plugin network-plugin-mtu non-masquerade-cidr require-kubeconfig`)
