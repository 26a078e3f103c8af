//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// unitSpec is a bundle with everything that has a unit.
const unitSpec = `apiVersion: imgctl.dev/v1
kind: Bundle
name: units
kubernetes: ` + peers.KubeVersion + `
os: {family: %s}
role: %s
cluster: {dnsServiceIPs: [10.3.0.10], domain: cluster.local}
options: {etcdMember: true}
images:
  kubelet: [registry.example.com/kubelet@%[3]s, other.example.com/kubelet@%[3]s]
  etcd: registry.example.com/etcd@%[3]s
`

// systemd itself reads every unit of every kind of machine, and finds nothing to say.
func TestSystemdAcceptsEveryUnit(t *testing.T) {
	for _, family := range []string{"fcos", "flatcar", "debian"} {
		for _, role := range []string{"controller", "worker"} {
			t.Run(family+" "+role, func(t *testing.T) {
				spec := write(t, "bundle.yaml", fmt.Sprintf(unitSpec, family, role, "sha256:"+strings.Repeat("a", 64)))
				root := filepath.Join(t.TempDir(), "root")
				output(t, shared.Command(t.Context(), "bundle", "render", filepath.Dir(spec), "-o", root))
				units := systemRoot(t, root)
				if len(units) < 6 {
					t.Errorf("got the units %v, want more", units)
				}
				if said := verifyUnits(t, root, units...); said != "" {
					t.Errorf("systemd-analyze verify: got\n%s", said)
				}
			})
		}
	}
}

func TestSystemdDoesNotAcceptAnyUnit(t *testing.T) {
	root := t.TempDir()
	systemRoot(t, root)
	for name, text := range map[string]string{
		"key.service":     "[Service]\nExecStart=/usr/bin/sh\nRestartSex=10\n",
		"program.service": "[Service]\nExecStart=/usr/bin/no-such-program\n",
		"value.timer":     "[Timer]\nOnBootSec=soon\n",
	} {
		makeFile(t, filepath.Join(root, "etc/systemd/system", name), text, 0o644)
		if said := verifyUnits(t, root, name); said == "" {
			t.Errorf("%s: got nothing, want a complaint about\n%s", name, text)
		}
	}
}

// systemRoot makes the root of a machine out of a directory with files of a
// bundle: systemd's own units, those of the engines, and an empty program at every
// path of one. It returns the bundle's units.
func systemRoot(t *testing.T, root string) (units []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range found {
		if filepath.Ext(unit) != ".d" {
			units = append(units, filepath.Base(unit))
		}
	}
	lib := filepath.Join(root, "usr/lib/systemd")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("cp", "--recursive", "/usr/lib/systemd/system", lib))
	for _, name := range []string{"containerd", "docker", "rpc-statd"} {
		makeFile(t, filepath.Join(lib, "system", name+".service"), "[Service]\nExecStart=/usr/bin/"+name+"\n", 0o644)
		makeFile(t, filepath.Join(root, "usr/bin", name), "", 0o755)
	}
	for _, program := range []string{"usr/bin/podman", "usr/bin/sh", "usr/bin/mkdir", "usr/bin/systemctl", "usr/local/bin/imgctl", "opt/bin/imgctl"} {
		makeFile(t, filepath.Join(root, program), "", 0o755)
	}
	return units
}

// makeFile makes a file and the directories above it.
func makeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

// verifyUnits returns what systemd says of units: it ends well where it only warns.
func verifyUnits(t *testing.T, root string, units ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no", "--root=" + root}, units...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}
