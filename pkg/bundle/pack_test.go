package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// severalYAML is a bundle for every kind of machine.
const severalYAML = `apiVersion: imgctl.dev/v1
kind: Bundle
name: several
kubernetes: v1.36.2
os: {families: [flatcar, fcos, debian]}
roles:
  worker: {nodeLabels: {example.org/rack: "7"}, taints: [{key: example.org/a, effect: NoSchedule}]}
  controller: {}
cluster:
  apiServers: [api.example.com]
  etcdServers: [etcd.example.com]
  podCIDRs: [10.2.0.0/16]
  serviceCIDRs: [10.3.0.0/16]
  dnsServiceIPs: [10.3.0.10]
  domain: cluster.local
kubelet: {nodeLabels: {example.org/rack: "1", example.org/site: a}}
controlPlane: {}
images:
  kubelet: quay.io/a/kubelet
  kube-apiserver: quay.io/a/kube-apiserver
  kube-controller-manager: quay.io/a/kube-controller-manager
  kube-scheduler: quay.io/a/kube-scheduler
  kube-proxy: quay.io/a/kube-proxy
  coredns: quay.io/a/coredns
`

func loadText(t testing.TB, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func several(t testing.TB) []Tree {
	t.Helper()
	c, err := loadText(t, severalYAML)
	if err != nil {
		t.Fatal(err)
	}
	trees, err := RenderAll(c, pinned)
	if err != nil {
		t.Fatal(err)
	}
	return trees
}

func TestABundleIsRenderedForEachKindOfMachine(t *testing.T) {
	var got []string
	for _, tree := range several(t) {
		got = append(got, tree.Machine.String())
		plane, rack := false, false
		for _, f := range tree.Files {
			plane = plane || f.Path == "/etc/kubernetes/manifests/kube-apiserver.yaml"
			rack = rack || f.Path == unitPath && strings.Contains(string(f.Body), "example.org/rack=7,example.org/site=a")
		}
		if controller := tree.Machine.Role == Controller; plane != controller || rack == controller {
			t.Errorf("%s: control plane %t, the worker's label %t", tree.Machine, plane, rack)
		}
	}
	want := []string{"debian-controller", "debian-worker", "fcos-controller", "fcos-worker", "flatcar-controller", "flatcar-worker"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	c, err := loadText(t, severalYAML)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Render(c, pinned); err == nil || !strings.Contains(err.Error(), "several kinds") {
		t.Errorf("rendered as one: got %v", err)
	}
}

// Each row changes one thing in the bundle that is accepted above.
func TestABundleForSeveralMachinesIsChecked(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"family besides families": {"os: {families:", "os: {family: fcos, families:", "got os.family as well"},
		"role besides roles":      {"roles:", "role: worker\nroles:", "got role as well"},
		"another family":          {"debian]", "arch]", `os.families[2]: got "arch"`},
		"a family twice":          {"debian]", "fcos]", "os.families[2]: got fcos twice"},
		"another role":            {"  controller: {}", "  master: {}", `roles.master: got "master"`},
		"nobody has the plane":    {"  controller: {}\n", "", "there is none among roles"},
		"a role's label":          {`example.org/rack: "7"`, `kubernetes.io/x: "7"`, "may not give itself"},
		"a role's taint":          {"effect: NoSchedule", "effect: Never", `got "Never"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadText(t, strings.Replace(severalYAML, tt.old, tt.new, 1))
			var se *strict.Error
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a *strict.Error with %q", err, tt.want)
			}
		})
	}
}

func TestTheIndexHasABundleAndOneForFluxForEachMachine(t *testing.T) {
	trees := several(t)
	a, err := Pack(trees, time.Unix(1780000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(a.Index); err != nil {
		t.Error(err)
	}
	m, err := a.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 2*len(trees) || len(a.Parts) != 2*len(trees) || m.ArtifactType != ArtifactType || a.Tag != "several-v1.36.2" {
		t.Fatalf("got %d manifests, %d parts, type %s, tag %s", len(m.Manifests), len(a.Parts), m.ArtifactType, a.Tag)
	}
	for i, tree := range trees {
		d, err := content.Pick(m, tree.Machine)
		if err != nil {
			t.Fatal(err)
		}
		if p := a.Parts[i]; d.Digest != p.Digest || a.TagOf(p) != "several-v1.36.2-"+tree.Machine.String() || d.Platform != nil {
			t.Errorf("%s: got %s, want %s under %s", tree.Machine, d.Digest, p.Digest, a.TagOf(p))
		}
		flux := m.Manifests[len(trees)+i]
		if p := a.Parts[len(trees)+i]; flux.Digest != p.Digest || p.Name != tree.Machine.String()+"-flux" || flux.ArtifactType != fluxConfig {
			t.Errorf("%s for Flux: got %s of type %s under %s", tree.Machine, flux.Digest, flux.ArtifactType, p.Name)
		}
	}
	if _, err := Pack(nil, time.Unix(0, 0)); err == nil {
		t.Error("packed nothing")
	}
}

// What Flux unpacks is what a node installs, and the list.
func TestFluxIsGivenTheSameFiles(t *testing.T) {
	tree := several(t)[0]
	image, err := tree.fluxImage(time.Unix(1780000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.MediaType != fluxConfig || len(m.Layers) != 1 || m.Layers[0].MediaType != fluxLayer {
		t.Fatalf("got config %s and layers %v", m.Config.MediaType, m.Layers)
	}
	want, err := tree.content().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got := unpacked(t, image)
	if got["bundle.lock"] != string(want) {
		t.Errorf("bundle.lock: got %s", got["bundle.lock"])
	}
	for _, f := range tree.Files {
		if got[f.Path[1:]] != string(f.Body) {
			t.Errorf("%s: got %q", f.Path, got[f.Path[1:]])
		}
	}
	if len(got) != len(tree.Files)+1 {
		t.Errorf("got %d files, want %d", len(got), len(tree.Files)+1)
	}
}

// unpacked reads the one layer as a tar of files, each once.
func unpacked(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := files[h.Name]; ok || h.Typeflag != tar.TypeReg || h.Mode != 0o644 || h.Uname != "root" || h.ModTime.Unix() != 1780000000 {
			t.Errorf("%s: got type %c, mode %o, owner %s, time %s", h.Name, h.Typeflag, h.Mode, h.Uname, h.ModTime)
		}
		files[h.Name] = string(body)
	}
}

// The list says of each file what the table of docs/files.md says, and a file
// that the table does not know is not rendered.
func TestTheListSaysWhoOwnsEachFile(t *testing.T) {
	seen := map[string]bool{}
	for _, tree := range several(t) {
		for _, f := range tree.content().Files {
			if f.Owner != "root" || f.Group != "root" || f.UID != 0 || f.GID != 0 || f.Mode != 0o644 || f.Type != typeOf(f.Path) {
				t.Errorf("%s: got %+v", f.Path, f)
			}
			seen[f.Type] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("got the types %v, want all three", seen)
	}
	if _, err := newFile(Files(), "/etc/motd", nil); err == nil {
		t.Error("a file that is in no row was rendered")
	}
	page := FilesPage()
	for _, r := range Files() {
		if r.Where == "" || r.Why == "" || !bytes.Contains(page, []byte(r.Why)) {
			t.Errorf("%s: want a reason on the page", r.Path)
		}
	}
}

// Every row of the table is of a file that some bundle has.
func TestEveryRowOfTheTableIsRendered(t *testing.T) {
	paths := map[string]bool{}
	add := func(c *Config, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		trees, err := RenderAll(c, func(ref string) (string, error) { return repositoryOf(ref) + "@" + digestIn(ref), nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, tree := range trees {
			for _, f := range tree.Files {
				for _, r := range Files() {
					if ok, _ := filepath.Match(r.Path, f.Path); ok {
						paths[r.Path] = true
						break
					}
				}
			}
		}
	}
	add(loadText(t, severalYAML))
	add(Load(controllerBundle))
	add(goldenTrees(t)["fcos-quadlet"], nil)
	add(loadText(t, strings.NewReplacer("controlPlane: {}", "options: {etcdMember: true}", "  coredns:", "  etcd: quay.io/a/etcd\n  coredns:",
		"site: a}", "site: a}, credentialProviders: {directory: /opt/p, providers: [{name: p, matchImages: [quay.io], cacheDuration: 1h}]}").Replace(severalYAML)))
	for _, r := range Files() {
		if !paths[r.Path] {
			t.Errorf("%s: no bundle has it", r.Path)
		}
	}
}

func digestIn(ref string) string {
	if _, d, ok := strings.Cut(ref, "@"); ok {
		return d
	}
	return digest
}
