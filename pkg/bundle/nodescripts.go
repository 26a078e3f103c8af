package bundle

import "slices"

// The scripts of units. They hold no variable of the render, and a unit gives
// them to the shell: a file of a bundle need not be executable.
const (
	applyPath      = "/etc/kubernetes/bootstrap.sh"
	deleteNodePath = "/etc/kubernetes/delete-node.sh"
)

// bootstrapUnit returns the unit that applies the manifests. It is started by
// hand, on one controller of a new cluster, and again after a failure or a change.
func bootstrapUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	var u unit
	u.section("Unit")
	u.set("Description", "Apply the manifests of a new cluster")
	u.set("Wants", f.after(pullUnitName))
	u.set("After", f.after(pullUnitName, "kubelet.service"))
	u.section("Service")
	u.set("Type", "oneshot")
	u.imageEnvironment()
	u.exec("ExecStartPre", "-", f.remove("bootstrap")...)
	run := f.command("run", "--rm", "--name=bootstrap", "--pull=never", "--network=host")
	if f.selinux {
		run = append(run, "--security-opt=label=disable") // it reads what other labels protect, and writes nothing
	}
	run = append(run, "--volume=/etc/kubernetes:/etc/kubernetes:ro", word("--volume="+storePath+":"+storePath+":ro"), "--entrypoint=/bin/sh")
	u.exec("ExecStart", "", slices.Concat(run, []word{imageVariable, applyPath})...)
	u.exec("ExecStopPost", "-", f.remove("bootstrap")...)
	u.set("TimeoutStartSec", "30min")
	return u.bytes()
}

// applyScript returns what runs in the kubelet's image. kubectl says of every
// object what became of it; what failed is tried again, five times in all, since
// an object may need another that comes later. Applying again changes nothing
// where nothing differs.
func applyScript(*Config) ([]byte, error) {
	return []byte(`#!/bin/sh
# Applies the manifests of the bundle and those with secrets, and names those that failed.
set -u
export KUBECONFIG=/etc/kubernetes/bootstrap-secrets/super-admin.conf
tries=60
until kubectl get --raw=/readyz --request-timeout=10s >/dev/null 2>&1; do
  tries=$((tries - 1))
  if [ "$tries" -eq 0 ]; then
    echo "bootstrap: the API server is not ready after 60 tries" >&2
    exit 1
  fi
  sleep 5
done
left=$(find -L /etc/kubernetes/bootstrap /etc/kubernetes/bootstrap-secrets -type f -name "*.yaml" | sort)
for try in 1 2 3 4 5; do
  todo=$left
  left=
  for file in $todo; do
    kubectl apply --request-timeout=30s --filename="$file" || left="$left $file"
  done
  if [ -z "$left" ]; then
    exit 0
  fi
  sleep 5
done
for file in $left; do
  echo "bootstrap: not applied: $file" >&2
done
exit 1
`), nil
}

// deleteNodeUnit returns the unit that takes the node out of the cluster when
// its machine goes, on machines that are marked for it.
//
// At shutdown an engine starts no container: systemd refuses new scopes by then.
// So kubectl is taken out of the image while the machine starts, and only the
// program runs in the end. The unit starts after the kubelet and so stops before
// it, with network and container runtime still there: a pod that is evicted ends
// as it should.
func deleteNodeUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	var u unit
	u.section("Unit")
	u.set("Description", "Delete this node from the cluster when its machine goes")
	u.set("ConditionPathExists", deleteNodeMark)
	u.set("Wants", f.after(pullUnitName))
	u.set("After", f.after(dnsUnitName, pullUnitName, "kubelet.service"))
	u.section("Service")
	u.set("Type", "oneshot")
	u.set("RemainAfterExit", "yes")
	u.set("RuntimeDirectory", "delete-node")
	u.imageEnvironment()
	u.exec("ExecStartPre", "-", f.remove("delete-node")...)
	u.exec("ExecStart", "", f.command("create", "--name=delete-node", "--pull=never", imageVariable)...)
	u.exec("ExecStart", "", f.command("cp", "delete-node:/usr/local/bin/kubectl", "/run/delete-node/kubectl")...)
	u.exec("ExecStart", "", f.remove("delete-node")...)
	u.exec("ExecStop", "", "/usr/bin/sh", deleteNodePath)
	u.set("TimeoutStopSec", "3min")
	u.section("Install")
	u.set("WantedBy", "multi-user.target")
	return u.bytes()
}

// deleteNodeScript returns what runs on the host, with the node's own
// credentials. A pod that its disruption budget keeps does not hold the machine up for ever.
func deleteNodeScript(*Config) ([]byte, error) {
	return []byte(`#!/bin/sh
# Evicts the pods of this node, within a time, and deletes it.
set -u
export KUBECONFIG=/var/lib/kubelet/kubeconfig
kubectl=/run/delete-node/kubectl
node=$(tr A-Z a-z </proc/sys/kernel/hostname)
"$kubectl" drain "$node" --ignore-daemonsets --delete-emptydir-data --force --timeout=90s ||
  echo "delete-node: not every pod was evicted; $node goes all the same" >&2
exec "$kubectl" delete node "$node" --ignore-not-found --wait=false --request-timeout=30s
`), nil
}
