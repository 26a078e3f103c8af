#!/bin/sh
# Asks gh whether REPOSITORY@sha256:… may be used, as an imgctl policy wants it.
set -eu
ref=${1:?usage: gh-verify.sh REPOSITORY@sha256:DIGEST}
refuse() {
	echo "refused: $ref: $1" >&2
	exit 1
}
check() {
	type=$1
	shift
	gh attestation verify "oci://$ref" --bundle-from-oci --predicate-type "$type" "$@" >/dev/null
}
case $ref in
*@sha256:*) name=${ref%@*} ;;
*) refuse 'want a digest' ;;
esac
