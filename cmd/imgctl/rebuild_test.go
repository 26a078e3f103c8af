package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/rebuild"
	"github.com/imgctl/imgctl/pkg/sign"
)

// releasedWorld is a world of which the small project was released to one
// registry. The working directory is the project's.
type releasedWorld struct {
	*world
	registry *imgtest.Registry
	image    string // of the registry, without a tag
}

func newReleased(t *testing.T) *releasedWorld {
	t.Helper()
	w := &releasedWorld{world: newWorld(t), registry: imgtest.StartRegistry(t, imgtest.RegistryOptions{})}
	w.image = w.registry.Host() + "/kubelet"
	dir := t.TempDir()
	t.Chdir(dir)
	fill := strings.NewReplacer("VERSION", kubeVersion, "INSTALL", strings.Join(imgtest.SmallInstall(), ", "), "bundles: [typhoon]\n", "",
		"DESTINATIONS\n", "- repository: "+w.image+"\n", "REPOSITORIES", w.image, "BUNDLES", w.image+"-bundle", "IMAGE", w.image)
	files := map[string]string{"kubelet/keyring.gpg": string(w.debian.Keyring), "trusted_root.json": string(w.trusted)}
	for name, text := range projectFiles {
		files[name] = fill.Replace(text)
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range map[string]string{"CACHE": filepath.Join(dir, "cache"), "ARCHIVE": w.debian.URL, "SNAPSHOT": "http://127.0.0.1:1",
		"UPSTREAM": w.kube.URL, "REKOR": w.kube.URL, "TRUSTED_ROOT": filepath.Join(dir, "trusted_root.json"), "KEY_PASSWORD": "correct horse"} {
		t.Setenv("IMGCTL_"+key, value)
	}
	for _, command := range []string{"keygen release", "lock kubelet", "release"} {
		imgctl(t, exitOK, strings.Fields(command)...)
	}
	return w
}

// imgctl runs a command, which must end with the exit code.
func imgctl(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, strings.NewReader(""), &out, &errs); got != want {
		t.Fatalf("imgctl %s: got exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

// rebuilds rebuilds a tag with an empty cache.
func (w *releasedWorld) rebuilds(t *testing.T, want int, tag string, args ...string) (stdout, stderr string) {
	t.Helper()
	t.Setenv("IMGCTL_CACHE", t.TempDir())
	return imgctl(t, want, append([]string{"rebuild", w.image + ":" + tag, "--key", "release.pub"}, args...)...)
}

// index is what the tag points at.
func (w *releasedWorld) index(t *testing.T, tag string) v1.ImageIndex {
	t.Helper()
	ref, err := name.ParseReference(w.image + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// provenance is what was published about the released index.
func (w *releasedWorld) provenance(t *testing.T) string {
	t.Helper()
	index := w.index(t, kubeVersion)
	h, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := name.NewRepository(w.image)
	if err != nil {
		t.Fatal(err)
	}
	list, err := remote.Referrers(repo.Digest(h.String()))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if d.Annotations[sign.PredicateTypeAnnotation] != attest.PredicateProvenance {
			continue
		}
		img, err := remote.Image(repo.Digest(d.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		predicate, err := rebuild.UnsafePredicate(contentOf(t, layers[0].Compressed), h)
		if err != nil {
			t.Fatal(err)
		}
		return string(predicate)
	}
	t.Fatal("no provenance was published")
	return ""
}

func contentOf(t *testing.T, open func() (io.ReadCloser, error)) []byte {
	t.Helper()
	r, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// publish pushes an index that is signed with the release's own key, as somebody
// can who has taken over the machine that builds.
func (w *releasedWorld) publish(t *testing.T, tag string, index v1.ImageIndex, provenance string) {
	t.Helper()
	key := keyOfRelease(t)
	imgtest.Release{Repository: w.image, Content: index, Tags: []string{tag}, Signers: []sign.Signer{key},
		Attest: map[string]string{attest.PredicateProvenance: provenance}}.Push(t)
}

// keyOfRelease is the key that the project releases with.
func keyOfRelease(t *testing.T) *sign.Key {
	t.Helper()
	file, err := os.ReadFile("release.key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.LoadKey(file, sign.Secret("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// forged is the released index, with the first layer of linux/arm64 as change makes it.
func (w *releasedWorld) forged(t *testing.T, change func(tar []byte) []byte) v1.ImageIndex {
	t.Helper()
	released := w.index(t, kubeVersion)
	manifest, err := released.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.IndexMediaType(mutate.Annotations(empty.Index, manifest.Annotations).(v1.ImageIndex), types.OCIImageIndex)
	for _, d := range manifest.Manifests {
		img, err := released.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if d.Platform.Architecture == "arm64" {
			img = forgedImage(t, img, change)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: d.Platform}})
	}
	return index
}

func forgedImage(t *testing.T, img v1.Image, change func([]byte) []byte) v1.Image {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	history := config.History
	config.History, config.RootFS.DiffIDs = nil, nil
	layers[0] = gzipped(t, change(contentOf(t, layers[0].Uncompressed)))
	made := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		if made, err = mutate.Append(made, mutate.Addendum{Layer: l, History: history[i], MediaType: types.OCILayer}); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

func gzipped(t *testing.T, content []byte) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := partial.CompressedToLayer(static.NewLayer(b.Bytes(), types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// oneByte changes a byte of a file of the image.
func oneByte(tar []byte) []byte {
	return bytes.Replace(tar, []byte("what scripts name as their interpreter"), []byte("what scripts nbme as their interpreter"), 1)
}

// The builder was taken over: it signs an image that is not what its provenance
// says. What a rebuild finds is the file and the byte.
func TestRebuildNamesTheFirstFileThatDiffers(t *testing.T) {
	w := newReleased(t)
	provenance := w.provenance(t)

	// The same layers, published in the same way: equal. Without this the rest would mean nothing.
	w.publish(t, "honest", w.index(t, kubeVersion), provenance)
	out, _ := w.rebuilds(t, exitOK, "honest", "--spec", "kubelet")
	if !strings.Contains(out, "Equal: the ") {
		t.Errorf("got %s", out)
	}

	w.publish(t, "forged", w.forged(t, oneByte), provenance)
	out, errs := w.rebuilds(t, exitDiffers, "forged", "--spec", "kubelet")
	if want := `linux/arm64: layer 1: "usr/bin/sh": bytes 14 to 15 of the content: published 626d65206173207468656972, rebuilt 616d65206173207468656972`; !strings.Contains(
		regexp.MustCompile(`(published|rebuilt) ([0-9a-f]{24})[0-9a-f]*`).ReplaceAllString(errs, "$1 $2"), want) {
		t.Errorf("got %s, want %s", errs, want)
	}
	for _, row := range []string{`(?m)^index +\S+ +\S+ +differs$`, `(?m)^linux/amd64 layer 1 +\S+ +\S+ +equal$`, `(?m)^linux/arm64 layer 1 +\S+ +\S+ +differs$`, `(?m)^linux/arm64 layer 2 +\S+ +\S+ +equal$`} {
		if !regexp.MustCompile(row).MatchString(out) {
			t.Errorf("got %s, want a row %s", out, row)
		}
	}
	out, _ = w.rebuilds(t, exitDiffers, "forged", "--spec", "kubelet", "--json")
	var got rebuiltImage
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	d := got.Difference
	if got.Kind != "Rebuild" || got.Equal || d == nil || d.File != "usr/bin/sh" || *d.Range != (rebuild.Range{From: 14, To: 15}) || d.Served {
		t.Errorf("got %s", out)
	}
	w.rebuilds(t, exitDiffers, "forged", "--spec", "kubelet", "--quiet")
}

// Everything is as it was signed, but the registry serves other bytes for a layer.
func TestRebuildNoticesWhatTheRegistryServes(t *testing.T) {
	w := newReleased(t)
	index := w.index(t, kubeVersion)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	h, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	other := contentOf(t, gzipped(t, oneByte(contentOf(t, layers[0].Uncompressed))).Compressed)
	w.registry.On(imgtest.Fault{Method: "GET", Path: "/blobs/" + h.String(), Edit: func(a *imgtest.Answer) { a.Body = other }})
	_, errs := w.rebuilds(t, exitMismatch, kubeVersion)
	if want := `linux/amd64: layer 1 as it is served, not as its manifest names it: "usr/bin/sh": bytes 14 to 15 of the content`; !strings.Contains(errs, want) {
		t.Errorf("got %s, want %s", errs, want)
	}
	w.registry.Heal()
	w.rebuilds(t, exitOK, kubeVersion)
}

// An archive that serves another package is caught before anything is built of it.
func TestRebuildNamesAPackageThatIsAnother(t *testing.T) {
	w := newReleased(t)
	w.rebuilds(t, exitOK, kubeVersion)
	path := w.debian.Paths("/iptables_")[0]
	w.debian.Tamper(t, path)
	_, errs := w.rebuilds(t, exitMismatch, kubeVersion)
	if !strings.Contains(errs, filepath.Base(path)) || !regexp.MustCompile(`sha256 of \S+: got [0-9a-f]{64}, want [0-9a-f]{64}`).MatchString(errs) {
		t.Errorf("got %s, want %s named", errs, path)
	}
	w.debian.Drop(t, path)
	if _, errs := w.rebuilds(t, exitUnreachable, kubeVersion, "--snapshot", ""); !strings.Contains(errs, filepath.Base(path)) || !strings.Contains(errs, "hint: nothing is said about the image") {
		t.Errorf("got %s, want %s named", errs, path)
	}
}

// Provenance that is about something else, or of a builder that makes other bytes, says nothing.
func TestRebuildRefusesProvenanceThatDoesNotApply(t *testing.T) {
	w := newReleased(t)
	provenance := w.provenance(t)
	index := w.index(t, kubeVersion)
	for i, tt := range []struct {
		old, new string
		code     int
		want     string
	}{
		{`"rootfs":`, `"rootfs":1000`, exitFailure, "of the rules for packages, and makes other bytes of the same inputs"},
		{`"engine":"layers"`, `"engine":"buildkit"`, exitFailure, "with the engine buildkit; this imgctl has layers"},
		{`"builder":{"id":"https://github.com/imgctl/imgctl"`, `"builder":{"id":"https://evil.example"`, exitPolicy, `builder: got "https://evil.example"`},
		{`"variant":""`, `"variant":"full"`, exitFailure, `variant "full": no such image`},
	} {
		changed := strings.ReplaceAll(provenance, tt.old, tt.new)
		if changed == provenance {
			t.Fatalf("%s has no %s", provenance, tt.old)
		}
		// Annotations make it another index, which has no other provenance.
		other := mutate.Annotations(index, map[string]string{"n": fmt.Sprint(i)}).(v1.ImageIndex)
		w.publish(t, fmt.Sprint("other", i), other, changed)
		if _, errs := w.rebuilds(t, tt.code, fmt.Sprint("other", i), "--spec", "kubelet"); !strings.Contains(errs, tt.want) {
			t.Errorf("got %s, want %s", errs, tt.want)
		}
	}
}

// The statement is signed and about another digest: it is none of this image.
func TestRebuildRefusesProvenanceOfAnotherImage(t *testing.T) {
	w := newReleased(t)
	key := keyOfRelease(t)
	other := mutate.Annotations(w.index(t, kubeVersion), map[string]string{"another": "image"}).(v1.ImageIndex)
	imgtest.Release{Repository: w.image, Content: other, Tags: []string{"another"}, Signers: []sign.Signer{key}}.Push(t)
	attachForeign(t, w, key, other)
	if _, errs := w.rebuilds(t, exitPolicy, "another", "--spec", "kubelet"); !strings.Contains(errs, "no provenance that the policy's signers vouch for") {
		t.Errorf("got %s", errs)
	}
	t.Setenv("IMGCTL_CACHE", t.TempDir())
	if _, errs := imgctl(t, exitPolicy, "rebuild", w.image+":another", "--insecure-unsigned"); !strings.Contains(errs, "the statement is not about sha256:") {
		t.Errorf("got %s", errs)
	}
}

// attachForeign attaches the released index's provenance, a statement about that, to another index.
func attachForeign(t *testing.T, w *releasedWorld, key *sign.Key, to v1.ImageIndex) {
	t.Helper()
	about, err := partial.Descriptor(w.index(t, kubeVersion))
	if err != nil {
		t.Fatal(err)
	}
	a, err := sign.Attest(t.Context(), key, *about, "kubelet", attest.PredicateProvenance, []byte(w.provenance(t)), imgtest.ReleaseTime())
	if err != nil {
		t.Fatal(err)
	}
	statement, err := a.Image()
	if err != nil {
		t.Fatal(err)
	}
	subject, err := partial.Descriptor(to)
	if err != nil {
		t.Fatal(err)
	}
	foreign := mutate.Subject(statement, *subject).(v1.Image)
	h, err := foreign.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(w.image + "@" + h.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, foreign); err != nil {
		t.Fatal(err)
	}
}
