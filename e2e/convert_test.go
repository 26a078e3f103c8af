//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/peers"
)

// skopeo, as Debian 13 has it, goes by the policy.json of a converted policy: it
// takes the release, and refuses it under the same conversion of another key's
// policy, and from a repository that no rule names.
func TestSkopeoGoesByAConvertedPolicy(t *testing.T) {
	d := &debian13{dir: unpackDebian(t, "trixie", func(ix *deb.Index) ([]deb.Package, error) { return ix.Closure([]string{"podman", "skopeo"}) })}
	d.env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root"}
	d.write(t, "etc/hosts", readFile(t, "/etc/hosts"))
	other := filepath.Join(t.TempDir(), "other")
	output(t, shared.Command(t.Context(), "keygen", other))
	for dir, key := range map[string]string{"ours": shared.at("release.pub"), "theirs": other + ".pub"} {
		policy := write(t, "policy.yaml", fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s]\n  signers: {any: [{key: {file: %s}}]}\n", shared.Image(0), key))
		output(t, shared.Command(t.Context(), "policy", "convert", policy, "--to", "podman", "--dir", filepath.Join(d.dir, dir), "--give-up", "parts,below"))
	}
	look := readFile(t, filepath.Join(d.dir, "ours/registries.d/imgctl.yaml"))
	d.write(t, "etc/containers/registries.d/imgctl.yaml", look)
	ref := shared.Image(0) + ":" + peers.KubeVersion
	skopeo := func(policy string) *exec.Cmd {
		remove(t, filepath.Join(d.dir, "copy"))
		return d.command(t, "skopeo", "--policy", policy, "copy", "-q", "--remove-signatures", "--src-tls-verify=false", "docker://"+ref, "dir:/copy")
	}
	output(t, skopeo("/ours/policy.json"))
	refused(t, skopeo("/theirs/policy.json"))
	policy := readFile(t, filepath.Join(d.dir, "ours/policy.json"))
	d.write(t, "elsewhere.json", bytes.ReplaceAll(policy, []byte(shared.Image(0)), []byte("quay.io/else/where")))
	refused(t, skopeo("/elsewhere.json"))
}
