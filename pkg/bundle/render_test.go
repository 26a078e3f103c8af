package bundle

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

var digest = "sha256:" + strings.Repeat("ab", 32)

// pinned answers like a release that has just made the image.
func pinned(ref string) (string, error) {
	if repositoryOf(ref) != ref { // it has one
		return ref, nil
	}
	return ref + "@" + digest, nil
}

func rendered(t testing.TB, c *Config) Tree {
	t.Helper()
	tree, err := Render(c, pinned)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func body(t testing.TB, tree Tree, path string) string {
	t.Helper()
	for _, f := range tree.Files {
		if f.Path == path {
			return string(f.Body)
		}
	}
	t.Fatalf("%s is not in the tree", path)
	return ""
}

func TestRenderGivesTheFilesOfANode(t *testing.T) {
	tree := rendered(t, load(t))
	var got []string
	for _, f := range tree.Files {
		got = append(got, fmt.Sprintf("%s %04o %d:%d", f.Path, f.Mode, f.UID, f.GID))
	}
	want := []string{
		"/etc/kubernetes/bootstrap/bootstrap-approve-new.yaml 0644 0:0",
		"/etc/kubernetes/bootstrap/bootstrap-approve-renew.yaml 0644 0:0",
		"/etc/kubernetes/bootstrap/bootstrap-node.yaml 0644 0:0",
		"/etc/kubernetes/bootstrap/cluster-info-reader.yaml 0644 0:0",
		"/etc/kubernetes/bootstrap/kubelet-delete.yaml 0644 0:0",
		"/etc/kubernetes/delete-node.sh 0644 0:0",
		"/etc/kubernetes/images.env 0644 0:0",
		"/etc/kubernetes/kubelet.yaml 0644 0:0",
		"/etc/systemd/system/delete-node.service 0644 0:0",
		"/etc/systemd/system/imgctl-pull.service 0644 0:0",
		"/etc/systemd/system/imgctl-pull.timer 0644 0:0",
		"/etc/systemd/system/kubelet.service 0644 0:0",
		"/etc/systemd/system/pull-images.service 0644 0:0",
		"/etc/systemd/system/wait-for-dns.service 0644 0:0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := body(t, tree, imagesPath), "KUBELET_IMAGE=quay.io/poseidon/kubelet@"+digest+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if tree.Name != "typhoon" || tree.Version != "v1.36.2" || tree.Images["kubelet"] != "quay.io/poseidon/kubelet@"+digest {
		t.Errorf("got %q %q %v", tree.Name, tree.Version, tree.Images)
	}
}

// K09: what is rendered, by the list that has the digest of every file, and what is
// packed of it, also in another time zone.
func TestK09AThousandRendersHaveOneDigest(t *testing.T) {
	c := load(t)
	c.Kubelet.NodeLabels = map[string]string{"example.org/a": "1", "example.org/b": "2", "example.org/c": "3", "node.kubernetes.io/node": ""}
	want := listOf(t, c)
	for i := range 1000 {
		if got := listOf(t, c); got != want {
			t.Fatalf("render %d: got %s, want %s", i, got, want)
		}
	}
	full := everything(t)
	packed := packedIn(t, full, 0)
	for zone := range 20 {
		if got := packedIn(t, full, zone); got != packed {
			t.Fatalf("packed in zone %d: got %s, want %s", zone, got, packed)
		}
	}
	c.Cluster.Domain = "other.local"
	if listOf(t, c) == want {
		t.Error("another domain gave the same list")
	}
}

func listOf(t *testing.T, c *Config) string {
	t.Helper()
	list, err := rendered(t, c).content().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(list)
}

// packedIn is the digest of the artifact, made in a time zone of so many seconds.
func packedIn(t *testing.T, c *Config, zone int) string {
	t.Helper()
	a, err := Pack([]Tree{rendered(t, c)}, time.Unix(1780000000, 0).In(time.FixedZone("", zone)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := a.Index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// What pin answers is used only if it is a digest.
func TestK07RenderWantsADigestForEveryImage(t *testing.T) {
	cause := errors.New("no such image")
	for name, pin := range map[string]func(string) (string, error){
		"an error":              func(string) (string, error) { return "", cause },
		"nothing":               func(string) (string, error) { return "", nil },
		"the reference itself":  func(ref string) (string, error) { return ref, nil },
		"a tag":                 func(ref string) (string, error) { return ref + ":v1.36.2", nil },
		"a tag and a digest":    func(ref string) (string, error) { return ref + ":v1.36.2@" + digest, nil },
		"a placeholder":         func(ref string) (string, error) { return ref + "@{{digest}}", nil },
		"a short digest":        func(ref string) (string, error) { return ref + "@sha256:abab", nil },
		"another algorithm":     func(ref string) (string, error) { return ref + "@sha512:" + strings.Repeat("ab", 64), nil },
		"a line break (K01)":    func(ref string) (string, error) { return ref + "@" + digest + "\nExecStart=/bin/sh", nil },
		"a specifier (K01)":     func(string) (string, error) { return "quay.io/%h@" + digest, nil },
		"a variable (K01)":      func(string) (string, error) { return "quay.io/$HOME@" + digest, nil },
		"no registry":           func(string) (string, error) { return "kubelet@" + digest, nil },
		"a transport":           func(string) (string, error) { return "docker://quay.io/poseidon/kubelet@" + digest, nil },
		"a digest and a digest": func(ref string) (string, error) { return ref + "@" + digest + "@" + digest, nil },
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := Render(load(t), pin)
			if err == nil || strings.Contains(err.Error(), "\n") || len(tree.Files) > 0 {
				t.Errorf("got %v and %d files, want one line and no file", err, len(tree.Files))
			}
			if name == "an error" && !errors.Is(err, cause) {
				t.Errorf("got %v, want it to wrap %v", err, cause)
			}
		})
	}
}

func TestRenderKeepsADigestThatTheBundleNames(t *testing.T) {
	c := load(t)
	c.Images = map[string]Sources{"kubelet": {"quay.io/poseidon/kubelet@" + digest}}
	if _, err := Render(c, func(ref string) (string, error) { return ref, nil }); err != nil {
		t.Error(err)
	}
	other := "quay.io/poseidon/kubelet@sha256:" + strings.Repeat("cd", 32)
	if _, err := Render(c, func(string) (string, error) { return other, nil }); err == nil {
		t.Error("pinned another digest than the bundle names")
	}
}

func TestRenderAsksForEveryImageOnce(t *testing.T) {
	asked := map[string]int{}
	if _, err := Render(load(t), func(ref string) (string, error) { asked[ref]++; return pinned(ref) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"quay.io/poseidon/kubelet": 1}, asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRenderChecksWhatWasNotLoaded(t *testing.T) {
	c := load(t)
	c.Cluster.Domain = "a\nb"
	if tree, err := Render(c, pinned); err == nil {
		t.Errorf("got %d files", len(tree.Files))
	}
}

func TestImageHoldsEveryFileAsListed(t *testing.T) {
	tree := rendered(t, load(t))
	image, err := tree.Image(time.Unix(1780000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(`"artifactType":"application/vnd.imgctl.bundle.v1+json"`)) || m.Config.MediaType != content.MediaType {
		t.Errorf("got %s", raw)
	}
	if got := m.Annotations["org.opencontainers.image.created"]; got != "2026-05-28T20:26:40Z" {
		t.Errorf("created: got %s", got)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	list, err := content.Read(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckLayers(m.Config, m.Layers); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(tree.Images, list.Images); diff != "" {
		t.Errorf("images: -want +got:\n%s", diff)
	}
	for i, l := range m.Layers[1:] {
		if want := map[string]string{".yaml": "application/yaml"}[filepath.Ext(tree.Files[i].Path)]; want != "" && string(l.MediaType) != want {
			t.Errorf("%s: got %s, want %s", tree.Files[i].Path, l.MediaType, want)
		}
	}
}

// K12, N05, N08, N09: a tree made by hand is held to the same rules.
func TestImageRefusesWhatMayNotBePublished(t *testing.T) {
	key := "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA==\n-----END EC PRIVATE KEY-----\n"
	token := "abcdef.0123456789abcdef" // the example of Kubernetes' documentation
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	for name, text := range map[string]string{
		"private key":               key,
		"private key, indented":     "a: |\n  -----BEGIN PRIVATE KEY-----\n",
		"encrypted key":             "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
		"private key in base64":     "data:\n  tls.key: " + encoded + "\n",
		"kind: Secret":              "apiVersion: v1\nkind: Secret\n",
		"kind: Secret below":        "kind:\n  Secret\n",
		"kind: Secret in JSON":      `{"apiVersion":"v1", "kind": "Secret"}`,
		"kind: Secret after a line": "---\nkind:   'Secret'\n",
		"client-key-data":           "users:\n- user: {client-key-data: QQ==}\n",
		"token of a kubeconfig":     "users:\n- user:\n    token: x\n",
		"bootstrap token":           "a: " + token + "\n",
		"bootstrap token in a flag": "ExecStart=/x --token=" + token,
		"bootstrap token in base64": "a: " + base64.StdEncoding.EncodeToString([]byte("token "+token+"\n")),
		"authorization header":      "Authorization: Bearer 0123456789abcdef0123",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handmade("/etc/a.yaml", text).Image(time.Unix(1, 0))
			if err == nil || !strings.Contains(err.Error(), "/etc/a.yaml: ") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want one line that names the file", err)
			}
			for _, secret := range []string{token, "MHcCAQ", encoded, "0123456789abcdef0123"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error holds the secret: %v", err)
				}
			}
		})
	}
}

func TestImageRefusesPathsAndModes(t *testing.T) {
	twice := handmade("/etc/a", "")
	twice.Files = append(twice.Files, twice.Files[0])
	outOfOrder := handmade("/etc/b", "")
	outOfOrder.Files = append(outOfOrder.Files, handmade("/etc/a", "").Files...)
	setuid := handmade("/etc/a", "")
	setuid.Files[0].Mode = 0o4755
	for name, tree := range map[string]Tree{
		"twice (N09)":      twice,
		"out of order":     outOfOrder,
		"setuid (N08)":     setuid,
		"relative (N05)":   handmade("etc/a", ""),
		"up (N05)":         handmade("/etc/../a", ""),
		"white space":      handmade("/etc/a b", ""),
		"no files":         {Name: "hand", Version: "v1.36.2", Machine: content.Machine{Family: "fcos", Role: Worker}},
		"no name":          {Version: "v1.36.2", Machine: content.Machine{Family: "fcos", Role: Worker}, Files: handmade("/etc/a", "").Files},
		"no machine":       {Name: "hand", Version: "v1.36.2", Files: handmade("/etc/a", "").Files},
		"too large a file": handmade("/etc/a", strings.Repeat("a ", content.MaxFileSize/2+1)),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tree.Image(time.Unix(1, 0)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func handmade(path, text string) Tree {
	return Tree{
		Name: "hand", Version: "v1.36.2", Machine: content.Machine{Family: "fcos", Role: Worker}, Images: map[string]string{"own": "r.example.org:5000/own@" + digest},
		Files: []File{{Path: path, Mode: 0o644, Owner: "root", Group: "root", Type: typeEtc, Body: []byte(text)}},
	}
}

// A bundle.yaml has values and no language: what a template would run or read is
// a text that some rule refuses, and no template is there to run it.
func TestK13NothingIsEvaluated(t *testing.T) {
	t.Setenv("IMGCTL_K13", "evaluated")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("evaluated"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{{ env "IMGCTL_K13" }}`, `{{ readFile "` + secret + `" }}`, `{{ exec "id" }}`, "${IMGCTL_K13}", "$(cat " + secret + ")", "`id`", "!include " + secret, "file://" + secret,
	} {
		c := load(t)
		c.Kubelet.CredentialProviders = &CredentialProviders{Directory: "/opt/providers", Providers: []CredentialProvider{
			{Name: "a", MatchImages: []string{"*"}, CacheDuration: "12h", Args: []string{text}},
		}}
		tree, err := Render(c, pinned)
		if strings.ContainsAny(text, "{") != (err != nil) {
			t.Errorf("%s: got %v", text, err)
		}
		if err == nil && !strings.Contains(body(t, tree, credentialPath), text) {
			t.Errorf("%s: it is not there as it was written", text)
		}
		for _, f := range tree.Files {
			if bytes.Contains(f.Body, []byte("evaluated")) {
				t.Errorf("%s: %s was evaluated", f.Path, text)
			}
		}
	}
	for _, dir := range []string{".", "plane", "owners", "unit", "content"} {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if path == "text/template" || path == "html/template" || path == "os/exec" {
				t.Errorf("%s imports %s", dir, path)
			}
		}
	}
}

// A bundle is rendered without a network, and a node reads one without Kubernetes' types.
func TestThePackagesStayLight(t *testing.T) {
	for dir, forbidden := range map[string][]string{
		".":       {"net/http", "github.com/google/go-containerregistry/pkg/v1/remote", "github.com/sigstore", "k8s.io/client-go", "k8s.io/kubelet", "k8s.io/component-base"},
		"content": {"net/http", "github.com/google/go-containerregistry/pkg/v1/remote", "github.com/sigstore", "k8s.io/"},
	} {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			for _, f := range forbidden {
				if strings.HasPrefix(path, f) {
					t.Errorf("%s imports %s", dir, path)
				}
			}
		}
	}
}
