#!/bin/sh
# Evicts the pods of this node, within a time, and deletes it.
set -u
export KUBECONFIG=/var/lib/kubelet/kubeconfig
kubectl=/run/delete-node/kubectl
node=$(tr A-Z a-z </proc/sys/kernel/hostname)
"$kubectl" drain "$node" --ignore-daemonsets --delete-emptydir-data --force --timeout=90s ||
  echo "delete-node: not every pod was evicted; $node goes all the same" >&2
exec "$kubectl" delete node "$node" --ignore-not-found --wait=false --request-timeout=30s
