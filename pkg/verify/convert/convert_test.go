package convert_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/imgctl/imgctl/pkg/verify"
	"github.com/imgctl/imgctl/pkg/verify/convert"
)

var update = flag.Bool("update", false, "write the golden files of this package")

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func load(t *testing.T) *verify.Policy {
	t.Helper()
	p, err := verify.LoadPolicy("testdata/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What each program is told, and all that it is not told, is kept in files, for a
// change to be seen.
func TestConversionsAreTheGoldenFiles(t *testing.T) {
	for _, to := range convert.Targets() {
		t.Run(to, func(t *testing.T) {
			r, err := convert.Convert(load(t), to, now)
			if err != nil {
				t.Fatal(err)
			}
			var losses strings.Builder
			for _, l := range r.Losses {
				fmt.Fprintf(&losses, "%s (%s): %s: %s\n", l.Effect, l.Name, l.Rule, l.Text)
			}
			files := append(slices.Clone(r.Files), convert.File{Path: "losses.txt", Body: losses.String()})
			for _, f := range files {
				golden(t, filepath.Join("testdata", to, f.Path), f.Body)
			}
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// Every document is one that its format's parser reads.
func TestConversionsAreWellFormed(t *testing.T) {
	for _, to := range convert.Targets() {
		r, err := convert.Convert(load(t), to, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Files {
			var v any
			switch filepath.Ext(f.Path) {
			case ".json":
				err = json.Unmarshal([]byte(f.Body), &v)
			case ".yaml":
				for _, doc := range strings.Split(f.Body, "\n---\n") {
					if err = yaml.Unmarshal([]byte(doc), &v); err != nil {
						break
					}
				}
			case ".sh":
				err = exec.Command("sh", "-n", "-c", f.Body).Run()
			}
			if err != nil {
				t.Errorf("%s: %s: %v", to, f.Path, err)
			}
		}
	}
}

// A signer whose time is over is in no conversion, and neither is one whose time
// has not come; the others are, where keys can be said at all.
func TestS16OnlyKeysThatCountAreConverted(t *testing.T) {
	key := func(name string) string {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(data), "\n")[2] // the line that no other key has
	}
	for _, to := range []string{"policy-controller", "kyverno", "flux"} {
		r, err := convert.Convert(load(t), to, now)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"a.pub": true, "b.pub": true, "d.pub": false} {
			if got := strings.Contains(r.Files[0].Body, key(name)); got != want {
				t.Errorf("%s has %s: got %t, want %t", to, name, got, want)
			}
		}
	}
}

// The losses that make a target weaker are known by name, and a rule that asks for
// nothing that a target lacks gives up less.
func TestWeakerIsNamed(t *testing.T) {
	for to, want := range map[string]string{
		"podman":            "attestations below format freshness parts version window",
		"policy-controller": "freshness parts provenance version window",
		"kyverno":           "below default format freshness parts provenance version window",
		"talos":             "attestations below freshness parts threshold version window",
		"flux":              "attestations default format freshness parts threshold version window",
		"gh":                "freshness parts provenance threshold version window",
	} {
		r, err := convert.Convert(load(t), to, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Weaker(), " "); got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
	}
	pub, err := os.ReadFile("testdata/a.pub")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := verify.KeyPolicy("a.pub", pub, "quay.io/poseidon/kubelet")
	if err != nil {
		t.Fatal(err)
	}
	r, err := convert.Convert(plain, "policy-controller", now)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Weaker(); len(got) != 1 || got[0] != "parts" {
		t.Errorf("got %v, want parts", got)
	}
	if _, err := convert.Convert(plain, "docker", now); err == nil {
		t.Error("a target that nobody knows was accepted")
	}
}

// The script for gh asks it about each type, and refuses what no rule names, what
// has no digest, and what gh refuses.
func TestGhScriptRefuses(t *testing.T) {
	r, err := convert.Convert(load(t), "gh", now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, body := range map[string]string{
		"verify.sh": r.Files[0].Body,
		"gh":        "#!/bin/sh\necho \"$@\" >>" + dir + "/asked\n! grep -q REFUSE " + dir + "/mode\n",
		"mode":      "ACCEPT",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(ref string) (string, error) {
		cmd := exec.Command("sh", filepath.Join(dir, "verify.sh"), ref)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	digest := "@sha256:" + strings.Repeat("a", 64)
	if said, err := run("quay.io/poseidon/other" + digest); err != nil {
		t.Errorf("got %v: %s", err, said)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	want := "attestation verify oci://quay.io/poseidon/other" + digest + " --bundle-from-oci --predicate-type https://sigstore.dev/cosign/sign/v1 --owner imgctl --cert-oidc-issuer https://token.actions.githubusercontent.com --cert-identity https://github.com/imgctl/imgctl/.github/workflows/release.yml@refs/heads/main\n"
	if err != nil || string(asked) != want {
		t.Errorf("got %q, %v, want %q", asked, err, want)
	}
	for _, ref := range []string{"quay.io/poseidon/deep/er" + digest, "quay.io/poseidon/kubelet" + digest, "quay.io/else/where" + digest, "quay.io/poseidon/other:v1"} {
		if said, err := run(ref); err == nil || !strings.Contains(said, "refused: "+ref) {
			t.Errorf("%s: got %v: %s", ref, err, said)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("REFUSE"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, err := run("quay.io/poseidon/other" + digest); err == nil || !strings.Contains(said, "no signer of the rule vouches for it") {
		t.Errorf("got %v: %s", err, said)
	}
}
