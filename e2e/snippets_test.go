//go:build e2e

package e2e

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

const snippets = "../examples/typhoon"

// ignition is the part of an Ignition configuration that is looked at.
type ignition struct {
	Storage struct {
		Files []struct {
			Path     string
			Contents struct{ Source, Compression string }
		}
	}
	Systemd struct {
		Units []struct {
			Name, Contents string
			Enabled        bool
		}
	}
}

// Butane and Ignition take the snippets without a warning, as a machine would
// merge them with another, and systemd takes their units.
func TestSnippetsForTyphoonAreWhatMachinesRead(t *testing.T) {
	program := snippetsProgram(t)
	output(t, exec.Command(program, filepath.Join(snippets, "workers.tf")))
	for _, family := range []string{"fcos", "flatcar"} {
		config := ignitionOf(t, program, filepath.Join(snippets, "worker-"+family+".bu"))
		root := t.TempDir()
		for _, u := range config.Systemd.Units {
			if !u.Enabled {
				t.Errorf("%s: %s is not enabled", family, u.Name)
			}
			makeFile(t, filepath.Join(root, "etc/systemd/system", u.Name), u.Contents, 0o644)
		}
		if said := verifyUnits(t, root, systemRoot(t, root)...); said != "" {
			t.Errorf("%s: systemd-analyze verify: got\n%s", family, said)
		}
	}
	for bad, text := range map[string]string{
		"bad.bu":      "variant: fcos\nversion: 1.5.0\nsystemd: {units: [{name: a.service, enable: true}]}\n",
		"bad.tf":      "module \"a\" {\n",
		"relative.bu": "variant: fcos\nversion: 1.5.0\nstorage: {files: [{path: etc/a}]}\n",
	} {
		path := filepath.Join(t.TempDir(), bad)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, exec.Command(program, path))
	}
}

// The script of the snippets installs the real bundle over the files that Typhoon
// writes, and puts them back where that fails.
func TestAMachineOfTyphoonsTakesTheBundle(t *testing.T) {
	const typhoons = "[Service]\nEnvironment=KUBELET_IMAGE=quay.io/poseidon/kubelet:v1.36.1\n"
	paths := []string{"systemd/system/kubelet.service", "systemd/system/wait-for-dns.service", "kubernetes/kubelet.yaml"}
	tags := shared.Released.Artifacts[len(shared.Released.Artifacts)-1].Tags
	for tag, installed := range map[string]bool{tags[0]: true, "none": false} {
		root := t.TempDir()
		for _, p := range paths {
			makeFile(t, filepath.Join(root, "etc", p), typhoons, 0o644)
		}
		cmd := shared.Command(t.Context(), "version")
		script := filepath.Join(t.TempDir(), "adopt.sh")
		makeFile(t, script, fileOf(t, ignitionOf(t, snippetsProgram(t), filepath.Join(snippets, "worker-fcos.bu")), "/etc/imgctl/adopt.sh"), 0o600)
		adopt := exec.CommandContext(t.Context(), "sh", script, root)
		adopt.Dir = cmd.Dir
		adopt.Env = append(cmd.Env, "PATH="+filepath.Dir(cmd.Path)+":"+os.Getenv("PATH"), "IMGCTL_POLICY=policies/kubelet.yaml", "IMGCTL_FAMILY=fcos", "BUNDLE="+shared.Bundle(0)+":"+tag)
		if out, err := adopt.CombinedOutput(); (err == nil) != installed {
			t.Fatalf("%s: %v\n%s", tag, err, out)
		}
		for _, p := range paths {
			info, err := os.Lstat(filepath.Join(root, "etc", p))
			if err != nil {
				t.Fatal(err)
			}
			if linked := info.Mode().Type() == os.ModeSymlink; linked != installed {
				t.Errorf("%s: %s is %v", tag, p, info.Mode())
			}
			before, err := os.ReadFile(filepath.Join(root, "var/lib/imgctl-before", p))
			if (err == nil) != installed || installed && string(before) != typhoons {
				t.Errorf("%s: kept of %s: %q, %v", tag, p, before, err)
			}
		}
	}
}

func snippetsProgram(t *testing.T) string {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	return program(t, peers.Snippets(root))
}

// ignitionOf translates a snippet.
func ignitionOf(t *testing.T, program, file string) ignition {
	t.Helper()
	var config ignition
	if err := json.Unmarshal([]byte(output(t, exec.Command(program, file))), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

// fileOf returns a file that is within the configuration.
func fileOf(t *testing.T, config ignition, path string) string {
	t.Helper()
	for _, f := range config.Storage.Files {
		if f.Path != path {
			continue
		}
		text, ok := strings.CutPrefix(f.Contents.Source, "data:;base64,")
		var r io.Reader = base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))
		if !ok {
			plain, err := url.PathUnescape(strings.TrimPrefix(text, "data:,"))
			if err != nil {
				t.Fatal(err)
			}
			r = strings.NewReader(plain)
		}
		if f.Contents.Compression == "gzip" {
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			r = z
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatalf("no file %s", path)
	return ""
}
