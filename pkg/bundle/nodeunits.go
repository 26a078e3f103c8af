package bundle

// The units that the others start after.
const (
	pullUnitName = "pull-images.service"
	dnsUnitName  = "wait-for-dns.service"
)

// The machine's own files, which are in no bundle.
const (
	deleteNodeMark = "/etc/kubernetes/delete-node" // is there where the node goes with its machine
	updateEnvPath  = "/etc/imgctl/pull.env"        // BUNDLE=…, IMGCTL_POLICY=…
	etcdEnvPath    = "/etc/etcd/etcd.env"          // ETCD_NAME=…, ETCD_INITIAL_CLUSTER=…
)

// waitForDNSUnit returns the unit that waits until the machine has a name server.
// It gives up in the end: those who want it start all the same.
func waitForDNSUnit(*Config) ([]byte, error) {
	var u unit
	u.section("Unit")
	u.set("Description", "Wait for a name server")
	u.set("Wants", "network-online.target")
	u.set("After", "network-online.target")
	u.section("Service")
	u.set("Type", "oneshot")
	u.set("RemainAfterExit", "yes")
	u.exec("ExecStart", "", "/usr/bin/sh", "-c", `until grep -q "^nameserver" /etc/resolv.conf; do sleep 1; done`)
	u.set("TimeoutStartSec", "5min")
	return u.bytes()
}

// updateUnit returns the unit that installs the bundle which the machine
// follows, if it follows one. Units go on with what they run until they are restarted.
func updateUnit(c *Config) ([]byte, error) {
	var u unit
	u.section("Unit")
	u.set("Description", "Verify and install the bundle that this machine follows")
	u.set("ConditionPathExists", updateEnvPath)
	u.set("Wants", "network-online.target "+dnsUnitName)
	u.set("After", "network-online.target "+dnsUnitName)
	u.section("Service")
	u.set("Type", "oneshot")
	u.environment("IMGCTL_FAMILY", c.OS.Family) // unless the file says otherwise
	u.environment("IMGCTL_ROLE", c.Role)
	u.set("EnvironmentFile", updateEnvPath)
	u.exec("ExecStart", "", word(families[c.OS.Family].imgctl), "pull", bundleVariable)
	u.exec("ExecStartPost", "", "/usr/bin/systemctl", "daemon-reload")
	u.set("TimeoutStartSec", "15min")
	return u.bytes()
}

// updateTimer returns the timer of updateUnit. Machines that were started
// together do not ask together.
func updateTimer(*Config) ([]byte, error) {
	var u unit
	u.section("Unit")
	u.set("Description", "Look for a new bundle now and then")
	u.section("Timer")
	u.set("OnBootSec", "10min")
	u.set("OnUnitActiveSec", "1h")
	u.set("RandomizedDelaySec", "30min")
	u.section("Install")
	u.set("WantedBy", "timers.target")
	return u.bytes()
}

// etcdUnit returns the service of a member of etcd. Who the member is, is the machine's own
// to say. Nobody else mounts its data and its keys, so they may have a private label.
func etcdUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	var u unit
	u.section("Unit")
	u.set("Description", "A member of etcd")
	u.set("Wants", f.after(dnsUnitName, pullUnitName))
	u.set("After", f.after(dnsUnitName, pullUnitName))
	r := container{name: etcdImage, image: etcdVariable, options: []word{"--env-file=" + etcdEnvPath}, mounts: []mount{
		{from: "/etc/ssl/etcd", to: "/etc/ssl/certs", options: "ro", label: "Z"},
		{from: "/var/lib/etcd", options: "rw", label: "Z"},
	}}
	u.quadlet(c, r)
	u.section("Service")
	u.imageEnvironment()
	u.exec("ExecStartPre", "", "/usr/bin/mkdir", "--parents", "--mode=0700", "/var/lib/etcd")
	u.run(c, r)
	return u.bytes()
}

// dockerDropIn keeps docker's hands off the network, which is Kubernetes' to
// make: no bridge, no rules of iptables, no masquerading.
func dockerDropIn(*Config) ([]byte, error) {
	var u unit
	u.section("Service")
	u.environment("DOCKER_OPTS", "--bridge=none --iptables=false --ip6tables=false --ip-masq=false")
	return u.bytes()
}
