// Package e2e judges a real release by programs that imgctl did not write:
// cosign, podman, skopeo, crane, oras, regctl, three kinds of registries, the
// image's own tools on real kernels. Of a bundle it makes a cluster, which
// kubelet, control plane, kubeadm and systemd judge, and a machine on which
// SELinux judges its labels.
//
// Its tests have the build tag e2e. They need root on Debian, for podman's
// containers; `make e2e` installs what they run. All share one lab and the one
// release in it; everything they write is below one temporary directory, every
// connection is on loopback or in a namespace of its own, except to Debian's
// archive.
package e2e
