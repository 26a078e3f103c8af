#!/bin/sh
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
