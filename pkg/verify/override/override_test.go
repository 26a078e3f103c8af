package override

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	digest = "sha256:7f1d27a70000000000000000000000000000000000000000000000000000000a"
	pubKey = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
)

func kubelet() Image {
	return Image{
		Name: "kubelet", Repository: "quay.io/poseidon/kubelet", Digest: digest,
		Sources:  []string{"docker.io/psdn/kubelet", "mirror.example/quay.io/poseidon/kubelet", "quay.io/poseidon/kubelet"},
		SignedAs: "docker.io/psdn/kubelet", Keys: [][]byte{[]byte(pubKey)},
	}
}

func etcd() Image {
	return Image{Name: "etcd", Repository: "quay.io/coreos/etcd", Digest: digest, Sources: []string{"127.0.0.1:5000/coreos/etcd"}, Plain: []string{"127.0.0.1:5000"}}
}

// files renders the images and returns the bodies by path.
func files(t *testing.T, images ...Image) map[string]string {
	t.Helper()
	list, err := Render(images)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, f := range list {
		out[f.Path] = string(f.Body)
	}
	return out
}

func TestEachRuntimeIsToldInItsWay(t *testing.T) {
	got := files(t, kubelet(), etcd())
	for path, want := range map[string]string{
		"etc/kubernetes/images.override.env":                               "KUBELET_IMAGE=docker.io/psdn/kubelet@" + digest + "\nETCD_IMAGE=127.0.0.1:5000/coreos/etcd@" + digest + "\n",
		"etc/systemd/system/kubelet.service.d/50-imgctl-override.conf":     "[Service]\nEnvironmentFile=/etc/kubernetes/images.override.env\n",
		"etc/systemd/system/etcd-member.service.d/50-imgctl-override.conf": "[Service]\nEnvironmentFile=/etc/kubernetes/images.override.env\n",
		"etc/containers/registries.conf.d/50-imgctl-override.conf": `[[registry]]
prefix = "quay.io/poseidon/kubelet"
location = "quay.io/poseidon/kubelet"

[[registry.mirror]]
location = "docker.io/psdn/kubelet"
pull-from-mirror = "digest-only"

[[registry.mirror]]
location = "mirror.example/quay.io/poseidon/kubelet"
pull-from-mirror = "digest-only"

[[registry]]
prefix = "quay.io/coreos/etcd"
location = "quay.io/coreos/etcd"

[[registry.mirror]]
location = "127.0.0.1:5000/coreos/etcd"
pull-from-mirror = "digest-only"
insecure = true

[[registry]]
prefix = "127.0.0.1:5000/coreos/etcd"
location = "127.0.0.1:5000/coreos/etcd"
insecure = true
`,
		"etc/containers/registries.d/50-imgctl-override.yaml": "docker:\n" +
			"  docker.io/psdn/kubelet: {use-sigstore-attachments: true}\n  mirror.example/quay.io/poseidon/kubelet: {use-sigstore-attachments: true}\n" +
			"  quay.io/poseidon/kubelet: {use-sigstore-attachments: true}\n  127.0.0.1:5000/coreos/etcd: {use-sigstore-attachments: true}\n" +
			"  quay.io/coreos/etcd: {use-sigstore-attachments: true}\n",
		// containerd knows no other name: psdn/kubelet is of no use to it.
		"etc/containerd/certs.d/quay.io/hosts.toml": `server = "https://quay.io"

[host."https://mirror.example/v2/quay.io"]
  capabilities = ["pull"]
  override_path = true

[host."http://127.0.0.1:5000"]
  capabilities = ["pull"]
`,
		"patches/etcd+strategic.yaml": "spec:\n  containers:\n  - name: etcd\n    image: 127.0.0.1:5000/coreos/etcd@" + digest + "\n",
	} {
		if got[path] != want {
			t.Errorf("%s:\n%s\nwant\n%s", path, got[path], want)
		}
	}
	if again := files(t, kubelet(), etcd()); len(again) != len(got) || again["butane.yaml"] != got["butane.yaml"] || again["README.md"] != got["README.md"] {
		t.Error("the same images give other bytes")
	}
	if text := got["README.md"]; !strings.Contains(text, "policy.json cannot say who must have signed etcd") || strings.Contains(text, "containerd cannot") {
		t.Errorf("README:\n%s", text)
	}
}

func TestButaneHasTheFilesOfTheNode(t *testing.T) {
	got := files(t, kubelet())
	var doc struct {
		Variant string
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Inline string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(got["butane.yaml"]), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Variant != "fcos" || len(doc.Storage.Files) != 4 {
		t.Fatalf("got %+v", doc)
	}
	for _, f := range doc.Storage.Files {
		if want := got[strings.TrimPrefix(f.Path, "/")]; f.Contents.Inline != want || want == "" {
			t.Errorf("%s: got %q, want %q", f.Path, f.Contents.Inline, want)
		}
	}
}

// policy.json admits what the keys have signed, under the name that they signed, and nothing else.
func TestPolicyOfPodmanIsNeverWiderThanTheRule(t *testing.T) {
	two := [][]byte{[]byte(pubKey), []byte(pubKey)}
	for name, tt := range map[string]struct {
		edit func(*Image)
		want int    // requirements of the repository; 0: no file
		part string // of the file
	}{
		"one key":          {func(*Image) {}, 1, `"keyData": "`},
		"any of two":       {func(im *Image) { im.Keys = two }, 1, `"keyDatas": [`},
		"both of two":      {func(im *Image) { im.Keys, im.AllKeys = two, true }, 2, `"keyData": "`},
		"no key":           {func(im *Image) { im.Keys = nil }, 0, ""},
		"nothing it reads": {func(im *Image) { im.SignedAs = "" }, 0, ""},
	} {
		im := kubelet()
		tt.edit(&im)
		body := files(t, im)["etc/containers/policy.json"]
		if (body == "") != (tt.want == 0) || !strings.Contains(body, tt.part) {
			t.Errorf("%s: %s", name, body)
		}
		if body == "" {
			continue
		}
		var doc struct {
			Default    []struct{ Type string }
			Transports map[string]map[string][]struct {
				Type     string
				Identity struct{ Type, DockerRepository string } `json:"signedIdentity"`
			}
		}
		if err := json.Unmarshal([]byte(body), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Default) != 1 || doc.Default[0].Type != "reject" || len(doc.Transports["docker"]) != 3 {
			t.Errorf("%s: %s", name, body)
		}
		for repository, list := range doc.Transports["docker"] {
			if len(list) != tt.want || list[0].Type != "sigstoreSigned" || list[0].Identity.Type != "exactRepository" || list[0].Identity.DockerRepository != "docker.io/psdn/kubelet" {
				t.Errorf("%s: %s: %+v", name, repository, list)
			}
		}
	}
	// One of two images cannot be said: it has no part, and so is refused.
	if body := files(t, kubelet(), etcd())["etc/containers/policy.json"]; strings.Contains(body, "etcd") {
		t.Error(body)
	}
}

func TestOverrideOfWhatCannotBeWrittenSafelyIsRefused(t *testing.T) {
	if _, err := Render([]Image{kubelet()}); err != nil {
		t.Fatalf("the sibling of all these: %v", err)
	}
	for name, edit := range map[string]func(*Image){
		"no source":            func(im *Image) { im.Sources = nil },
		"a directory":          func(im *Image) { im.Sources = []string{"oci:/srv/dist"} },
		"a shell's repository": func(im *Image) { im.Sources = []string{"quay.io/a';reboot;'/b"} },
		"a tag":                func(im *Image) { im.Sources = []string{"quay.io/a/b:v1"} },
		"a line end":           func(im *Image) { im.Repository = "quay.io/a/b\n[[registry]]" },
		"no digest":            func(im *Image) { im.Digest = "" },
		"a short digest":       func(im *Image) { im.Digest = "sha256:00" },
		"a path as name":       func(im *Image) { im.Name = "../kubelet" },
		"no name":              func(im *Image) { im.Name = "" },
		"a private key":        func(im *Image) { im.Keys = [][]byte{[]byte(strings.ReplaceAll(pubKey, "PUBLIC", "PRIVATE"))} },
		"text as key":          func(im *Image) { im.Keys = [][]byte{[]byte("x")} },
	} {
		im := kubelet()
		edit(&im)
		if list, err := Render([]Image{im}); err == nil || list != nil {
			t.Errorf("%s: written", name)
		}
	}
	if _, err := Render([]Image{kubelet(), kubelet()}); err == nil {
		t.Error("one image twice: written")
	}
	if _, err := Render(nil); err == nil {
		t.Error("nothing: written")
	}
}

// tree returns the files below a directory with mode and content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			found[strings.TrimPrefix(path, root+"/")] = "-> " + to
			return err
		}
		body, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, root+"/")] = info.Mode().String() + " " + string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func put(t *testing.T, path, body string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
}

// script runs a script on a root and returns its output and whether it succeeded.
func script(t *testing.T, dir, name, root string) (string, bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(dir, name), root)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// What apply.sh has done undo.sh takes back, to the byte.
func TestUndoGivesBackWhatWasThere(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	list, err := Render([]Image{kubelet(), etcd()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		put(t, filepath.Join(dir, f.Path), string(f.Body), fs.FileMode(f.Mode))
	}
	manifest := "image: quay.io/coreos/etcd@" + digest + "\nother: quay.io/poseidon/kubelet@" + digest + "\nolder: quay.io/coreos/etcd@sha256:1234\n"
	put(t, filepath.Join(root, "etc/kubernetes/manifests/etcd.yaml"), manifest, 0o600)
	put(t, filepath.Join(root, "etc/kubernetes/manifests/other.yaml"), "image: quay.io/x/y\n", 0o600)
	put(t, filepath.Join(root, "etc/containers/policy.json"), "{}", 0o644)
	put(t, filepath.Join(root, "etc/containers/registries.d/50-imgctl-override.yaml"), "before\n", 0o640)
	put(t, filepath.Join(root, "etc/kubernetes/images.d/docker.io.env"), "KUBELET_IMAGE=x\n", 0o644)
	if err := os.Symlink("images.d/docker.io.env", filepath.Join(root, "etc/kubernetes/images.override.env")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, root)

	out, ok := script(t, dir, "apply.sh", root)
	if !ok || !strings.Contains(out, "policy.json stays as it is") {
		t.Fatalf("apply: %s", out)
	}
	after := tree(t, root)
	for path, want := range map[string]string{
		"etc/kubernetes/images.override.env":        "KUBELET_IMAGE=docker.io/psdn/kubelet@" + digest,
		"etc/kubernetes/manifests/etcd.yaml":        "image: 127.0.0.1:5000/coreos/etcd@" + digest + "\nother: docker.io/psdn/kubelet@" + digest + "\nolder: quay.io/coreos/etcd@sha256:1234\n",
		"etc/containerd/certs.d/quay.io/hosts.toml": "server = ",
		"etc/containers/policy.json":                "{}",
		"etc/kubernetes/images.d/docker.io.env":     "KUBELET_IMAGE=x",
	} {
		if !strings.Contains(after[path], want) {
			t.Errorf("%s: got %q, want %q", path, after[path], want)
		}
	}
	if after["etc/kubernetes/manifests/other.yaml"] != before["etc/kubernetes/manifests/other.yaml"] {
		t.Error("another manifest was changed")
	}
	if out, ok := script(t, dir, "apply.sh", root); ok || !strings.Contains(out, "undo.sh first") {
		t.Errorf("applied twice: %s", out)
	}

	if out, ok := script(t, dir, "undo.sh", root); !ok {
		t.Fatalf("undo: %s", out)
	}
	got := tree(t, root)
	for path := range got {
		if got[path] != before[path] {
			t.Errorf("%s: got %q, want %q", path, got[path], before[path])
		}
	}
	if len(got) != len(before) {
		t.Errorf("got %d files, want %d", len(got), len(before))
	}
	if out, ok := script(t, dir, "undo.sh", root); ok || !strings.Contains(out, "nothing was applied") {
		t.Errorf("undone twice: %s", out)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("kubelet", "quay.io/poseidon/kubelet", "docker.io/psdn/kubelet")
	f.Add("a", "[::1]:5000/a", "quay.io/a/b")
	f.Fuzz(func(t *testing.T, name, repository, source string) {
		list, err := Render([]Image{{Name: name, Repository: repository, Digest: digest, Sources: []string{source}}})
		if err != nil {
			return
		}
		for _, file := range list {
			if !filepath.IsLocal(file.Path) || bytes.ContainsAny(file.Body, "\x00\r") {
				t.Errorf("%q: %q", file.Path, file.Body)
			}
		}
	})
}
