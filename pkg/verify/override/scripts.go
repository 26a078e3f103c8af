package override

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed apply.sh
var applyScript string

//go:embed undo.sh
var undoScript string

// scripts are apply.sh, which knows what to replace in static pods, and undo.sh.
func scripts(images []Image) []File {
	var b strings.Builder
	for _, im := range images {
		if im.Repository != im.Sources[0] {
			fmt.Fprintf(&b, "replace '%s@%s' '%s'\n", im.Repository, im.Digest, im.reference())
		}
	}
	apply := strings.Replace(applyScript, "# REPLACEMENTS\n", b.String(), 1)
	return []File{{"apply.sh", 0o755, []byte(apply)}, {"undo.sh", 0o755, []byte(undoScript)}}
}

// readme says what the files are, for whoever finds the directory later.
func readme(images []Image) []byte {
	var b strings.Builder
	b.WriteString("# Another registry, by digest\n\nWritten by `imgctl verify --override`. All that is named here was verified under the policy:\n\n")
	for _, im := range images {
		fmt.Fprintf(&b, "- %s: instead of %s, %s\n", im.Name, im.Repository, im.reference())
	}
	b.WriteString(`
` + "`sh apply.sh`" + ` puts the files below etc/ in place and keeps what was there; ` + "`sh undo.sh`" + ` puts that back. Both take another root as an argument.
Then restart the units that are to use it, such as kubelet.service. Nodes that run need none of this.

- ` + variablesPath + `: for the units of a bundle of imgctl; the drop-ins are for other units that take the same variables
- etc/containers/registries.conf.d, registries.d: podman, skopeo and CRI-O ask the verified source first, for digests only
- etc/containers/policy.json: they refuse what the policy's keys have not signed, and everything else; where the machine has such a file it stays, and the
  entries of this one are to be added by hand
- etc/containerd/certs.d: containerd asks the verified source first, for digests only; it does so for all of that registry
- patches/: static pods, for kubeadm --patches; apply.sh replaces the same digest in etc/kubernetes/manifests
- butane.yaml: the same for a machine that is made anew
`)
	for _, im := range images {
		if im.requirements() == nil {
			fmt.Fprintf(&b, "\npolicy.json cannot say who must have signed %s (signers without a key, a threshold between one and all, or no signature that podman reads), and admits it\nnowhere.\n", im.Name)
		}
		if !usable(im) {
			fmt.Fprintf(&b, "\ncontainerd cannot be sent to another name: no verified source has the path of %s. Pull %s, or name a source with that path in the policy.\n", im.Repository, im.reference())
		}
	}
	return []byte(b.String())
}

// usable reports whether containerd can use one of the sources.
func usable(im Image) bool {
	_, path := split(im.Repository)
	for _, source := range im.Sources {
		if source == im.Repository || hostTable(im, source, path) != "" {
			return true
		}
	}
	return false
}
