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
case $name in
'quay.io/poseidon/kubelet')
	refuse 'no signer of the rule can be named to gh' ;;
esac
case $name in
'docker.io/psdn/kubelet')
	refuse 'no signer of the rule can be named to gh' ;;
esac
case $name in
'quay.io/both/kubelet')
	refuse 'no signer of the rule can be named to gh' ;;
esac
case $name in
'quay.io/poseidon'/*/*) ;; # deeper
'quay.io/poseidon'/*)
	check 'https://sigstore.dev/cosign/sign/v1' --owner 'imgctl' --cert-oidc-issuer 'https://token.actions.githubusercontent.com' --cert-identity 'https://github.com/imgctl/imgctl/.github/workflows/release.yml@refs/heads/main' ||
	check 'https://sigstore.dev/cosign/sign/v1' --owner 'imgctl' --cert-oidc-issuer 'https://token.actions.githubusercontent.com' --cert-identity-regex '^(?:https://github\.com/imgctl/.+)$' || refuse 'no signer of the rule vouches for it with https://sigstore.dev/cosign/sign/v1'
	exit 0 ;;
esac
refuse 'no rule of the policy names it'
