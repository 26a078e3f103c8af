package node

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

// published is a signed bundle on registries, and who accepts it.
type published struct {
	registries []*imgtest.Registry
	verifier   *verify.Verifier
	subject    verify.Subject
}

// publish puts an artifact, signed, on so many registries.
func publish(t *testing.T, registries int, image oci.Taggable) published {
	t.Helper()
	key := imgtest.SigningKey(t)
	var p published
	var names []string
	for range registries {
		r := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
		p.registries = append(p.registries, r)
		names = append(names, r.Host()+"/kubelet-bundle")
		digest := imgtest.Release{Repository: names[len(names)-1], Content: image, Signers: []sign.Signer{key}}.Push(t)
		p.subject = verify.Subject{Repository: names[0], Digest: digest}
	}
	policy, err := verify.LoadPolicy(imgtest.PolicyFile(t, t.TempDir(), names, key))
	if err != nil {
		t.Fatal(err)
	}
	p.verifier = &verify.Verifier{Policy: policy, Registry: &oci.Client{Retry: oci.Retry{Tries: 1}}, Now: imgtest.ReleaseTime}
	return p
}

func (p published) verify(t *testing.T) *verify.Verified {
	t.Helper()
	v, err := p.verifier.Verify(t.Context(), p.subject)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rendered is a kit as bundle.Tree makes it.
func (k kit) rendered(t *testing.T) v1.Image {
	t.Helper()
	tree := k.tree()
	image, err := tree.Image(imgtest.ReleaseTime())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func (k kit) tree() bundle.Tree {
	tree := bundle.Tree{Name: k.bundle.Name, Version: k.bundle.Version, Machine: content.Machine{Family: k.bundle.Family, Role: k.bundle.Role}}
	for _, f := range k.bundle.Files {
		tree.Files = append(tree.Files, bundle.File{Path: f.Path, Mode: os.FileMode(f.Mode), Owner: f.Owner, Group: f.Group, UID: f.UID, GID: f.GID, Type: f.Type, Body: []byte(k.bodies[f.Path])})
	}
	return tree
}

func TestArtifactTypeIsThatOfBundles(t *testing.T) {
	if content.ArtifactType != bundle.ArtifactType {
		t.Errorf("got %q, want %q", content.ArtifactType, bundle.ArtifactType)
	}
}

// The whole way: rendered, signed, published on two registries, verified,
// installed, upgraded and, with every registry dead, rolled back.
func TestVerifiedBundleIsInstalled(t *testing.T) {
	root := t.TempDir()
	s := &Store{Root: root} // with the real clock and real syncing
	first := publish(t, 2, oldKit().rendered(t))
	g, err := s.Install(t.Context(), first.verify(t))
	if err != nil {
		t.Fatal(err)
	}
	sees(t, root, oldKit())
	if g.Digest != first.subject.Digest.String() || g.Repository != first.subject.Repository || g.Source != first.subject.Repository || g.Bundle.Version != "v1.36.1" {
		t.Errorf("got %s of %s from %s, version %s", g.Digest, g.Repository, g.Source, g.Bundle.Version)
	}
	second := publish(t, 2, newKit().rendered(t))
	v := second.verify(t)
	if p, err := s.Plan(t.Context(), v); err != nil || p.Action != DoInstall || p.Generation != 2 {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := s.Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	sees(t, root, newKit())
	for _, r := range slices.Concat(first.registries, second.registries) {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Rollback(t.Context()); err != nil { // N17
		t.Fatal(err)
	}
	sees(t, root, oldKit())
	tidy(t, root)
}

// M03: the first registry answers everything but blobs.
func TestSecondRegistryGivesTheBytes(t *testing.T) {
	p := publish(t, 2, oldKit().rendered(t))
	v := p.verify(t)
	p.registries[0].On(imgtest.Fault{Method: http.MethodGet, Path: "/blobs/", Status: http.StatusServiceUnavailable})
	root := t.TempDir()
	if _, err := storeAt(root).Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	sees(t, root, oldKit())
}

func TestDeadRegistriesLeaveTheOldBundle(t *testing.T) {
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	before := listing(t, root)
	p := publish(t, 1, newKit().rendered(t))
	v := p.verify(t)
	p.registries[0].On(imgtest.Fault{Method: http.MethodGet, Path: "/blobs/", Skip: 2, Drop: true}) // list and one file arrive
	if _, err := storeAt(root).Install(t.Context(), v); !oci.Unreachable(err) {
		t.Errorf("got %v, want it unreachable", err)
	}
	if listing(t, root) != before {
		t.Error("something was left behind")
	}
}

// A registry that swaps bytes between verification and installation (S26).
func TestSwappedBytesAreNotInstalled(t *testing.T) {
	p := publish(t, 1, oldKit().rendered(t))
	v := p.verify(t)
	p.registries[0].On(imgtest.Fault{Method: http.MethodGet, Path: "/blobs/", Skip: 1, Edit: func(a *imgtest.Answer) { a.Body[0] ^= 1 }})
	root := t.TempDir()
	var d *oci.DigestError
	if _, err := storeAt(root).Install(t.Context(), v); !errors.As(err, &d) {
		t.Errorf("got %v, want a *oci.DigestError", err)
	}
	sees(t, root, nobody(), oldKit())
	if got := withoutLock(listing(t, root)); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// N20: signed, but nothing that this program can install.
func TestSignedNonsenseIsNotInstalled(t *testing.T) {
	good := oldKit()
	list, err := good.bundle.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	layers := func(config string, files []content.File) (all []artifact.Content) {
		all = append(all, artifact.Content{MediaType: content.MediaType, Annotations: map[string]string{content.TitleAnnotation: content.LockTitle}, Body: []byte(config)})
		for _, f := range files {
			all = append(all, artifact.Content{MediaType: "text/plain", Annotations: map[string]string{content.TitleAnnotation: f.Path[1:]}, Body: []byte(good.bodies[f.Path])})
		}
		return all
	}
	forge := func(kind, mediaType, config string, files []content.File) v1.Image {
		image, err := artifact.Artifact{ArtifactType: kind, Config: artifact.Content{MediaType: mediaType, Body: []byte(config)}, Layers: layers(config, files)}.Image()
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	files := good.bundle.Files
	for name, tt := range map[string]struct {
		image v1.Image
		want  string // "": must pass
	}{
		"the sibling that passes": {forge(content.ArtifactType, content.MediaType, string(list), files), ""},
		"an image":                {imgtest.SmallImage(t, "kubelet", "amd64"), "artifact type"},
		"another artifact":        {forge("application/x", content.MediaType, string(list), files), "artifact type"},
		"another list":            {forge(content.ArtifactType, "application/x", string(list), files), "artifact type"},
		"a newer version":         {forge(content.ArtifactType, content.MediaType, strings.Replace(string(list), "imgctl.dev/v1", "imgctl.dev/v2", 1), files), "imgctl.dev/v2"},
		"a climbing path":         {forge(content.ArtifactType, content.MediaType, strings.Replace(string(list), "/etc/kubernetes/kubelet.yaml", "/etc/../kubelet.yaml", 1), files), "/etc/../kubelet.yaml"},
		"a setuid file":           {forge(content.ArtifactType, content.MediaType, strings.Replace(string(list), `"0644"`, `"4755"`, 1), files), "4755"},
		"a layer too few":         {forge(content.ArtifactType, content.MediaType, string(list), files[1:]), "layers"},
		"layers in disorder":      {forge(content.ArtifactType, content.MediaType, string(list), slices.Concat(files[1:], files[:1])), "layer"},
		"files of the store":      {forge(content.ArtifactType, content.MediaType, strings.Replace(string(list), "/usr/local/bin/kubelet-delete", "/var/lib/imgctl/current/a", 1), files), "layer"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			_, err := storeAt(root).Install(t.Context(), publish(t, 1, tt.image).verify(t))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it refused for %q", err, tt.want)
			}
			if got := everything(t, root); got != "" {
				t.Errorf("a refused installation wrote %s", got)
			}
		})
	}
}

// Of an index each machine is given its own bundle, with the bytes and the digest
// of that one.
func TestAMachineIsGivenItsOwnBundleOfAnIndex(t *testing.T) {
	worker, controller := oldKit(), newKit()
	controller.bundle.Role, controller.bundle.Version = "controller", worker.bundle.Version
	packed, err := bundle.Pack([]bundle.Tree{controller.tree(), worker.tree()}, imgtest.ReleaseTime())
	if err != nil {
		t.Fatal(err)
	}
	v := publish(t, 1, packed.Index).verify(t)
	for i, k := range []kit{controller, worker} {
		root := t.TempDir()
		s := storeAt(root)
		s.Machine = content.Machine{Family: "fcos", Role: k.bundle.Role}
		g, err := s.Install(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if sees(t, root, k); g.Digest != packed.Parts[i].Digest.String() || g.Bundle.Role != k.bundle.Role {
			t.Errorf("got generation %s for %s", g.Digest, g.Bundle.Role)
		}
		if p, err := s.Plan(t.Context(), v); err != nil || p.Action != DoNothing {
			t.Errorf("a second time: got %+v, %v", p.Action, err)
		}
	}
}

// N20: what is not for this machine is refused before anything is written.
func TestABundleForAnotherMachineIsRefused(t *testing.T) {
	packed, err := bundle.Pack([]bundle.Tree{oldKit().tree()}, imgtest.ReleaseTime())
	if err != nil {
		t.Fatal(err)
	}
	index := publish(t, 1, packed.Index).verify(t)
	single := publish(t, 1, oldKit().rendered(t)).verify(t)
	for name, tt := range map[string]struct {
		from    *verify.Verified
		machine content.Machine
		refused bool
	}{
		"index, its machine":          {index, content.Machine{Family: "fcos", Role: "worker"}, false},
		"index, another role":         {index, content.Machine{Family: "fcos", Role: "controller"}, true},
		"index, another family":       {index, content.Machine{Family: "flatcar", Role: "worker"}, true},
		"index, no role":              {index, content.Machine{Family: "fcos"}, true},
		"index, nothing":              {index, content.Machine{}, true},
		"one bundle, nothing":         {single, content.Machine{}, false},
		"one bundle, its family":      {single, content.Machine{Family: "fcos"}, false},
		"one bundle, another role":    {single, content.Machine{Family: "fcos", Role: "controller"}, true},
		"one bundle, another family":  {single, content.Machine{Family: "debian"}, true},
		"one bundle, its own machine": {single, content.Machine{Family: "fcos", Role: "worker"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := storeAt(root)
			s.Machine = tt.machine
			_, err := s.Install(t.Context(), tt.from)
			var none *content.NoBundle
			if errors.As(err, &none) != tt.refused || !tt.refused && err != nil {
				t.Errorf("got %v, want it refused: %t", err, tt.refused)
			}
			if got := everything(t, root); tt.refused && got != "" {
				t.Errorf("a refused installation wrote %s", got)
			}
		})
	}
}
