//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// A third opinion, from a program that knows nothing of imgctl: mmdebstrap and
// apt make a root file system of the same packages. In what it differs from the
// released image stands in testdata/mmdebstrap.yaml, each with its reason.
func TestMmdebstrapMakesTheSameFilesOfTheSamePackages(t *testing.T) {
	theirs := readImage(t, mmdebstrap(t))
	ours := readImage(t, releasedLayer(t))
	allow, err := inspect.LoadAllow("testdata/mmdebstrap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := inspect.Compare(inspect.Side{Name: "imgctl", FS: ours}, inspect.Side{Name: "mmdebstrap", FS: theirs}, allow)
	for _, d := range c.Differences {
		t.Error(d)
	}
	for _, a := range allow.Stale(c) {
		t.Errorf("testdata/mmdebstrap.yaml: %s: matches nothing any more", a.Path)
	}
	t.Logf("%d entries, %d differences, %d allowed", len(ours.Entries()), len(c.Differences), len(c.Allowed))
}

// releasedLayer is the layer of packages of the released image, alone in an image.
func releasedLayer(t *testing.T) v1.Image {
	t.Helper()
	dir := t.TempDir()
	output(t, shared.Command(t.Context(), "build", "images/kubelet", "--variant", "slim", "-o", dir))
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	images := imagesOf(t, index, "amd64")
	layers, err := images[0].Layers()
	if err != nil {
		t.Fatal(err)
	}
	return imageOf(t, layers[0])
}

// imagesOf returns the images for an architecture, wherever they are below an index.
func imagesOf(t *testing.T, index v1.ImageIndex, arch string) []v1.Image {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var images []v1.Image
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsIndex():
			below, err := index.ImageIndex(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, imagesOf(t, below, arch)...)
		case d.Platform != nil && d.Platform.Architecture == arch:
			img, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, img)
		}
	}
	if len(images) == 0 {
		t.Fatalf("no image for %s", arch)
	}
	return images
}

// mmdebstrap makes a root file system of the packages that are locked for slim on amd64.
func mmdebstrap(t *testing.T) v1.Image {
	t.Helper()
	dir := filepath.Join(shared.Lab.Dir, "images", "kubelet")
	spec, err := build.LoadSpec(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := build.LoadLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	var include []string
	for _, p := range lock.Debian.Packages["slim"]["linux/amd64"] {
		include = append(include, p.Name+"="+p.Version)
	}
	tar := filepath.Join(t.TempDir(), "root.tar")
	args := []string{"--variant=custom", "--architectures=amd64", "--include=" + strings.Join(include, ","), "--skip=output/dev",
		"--keyring=" + filepath.Join(dir, spec.Packages.Keyring), `--aptopt=Apt::Install-Recommends "false"`}
	for _, glob := range spec.Packages.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+glob)
	}
	for _, glob := range spec.Packages.Keep {
		args = append(args, "--dpkgopt=path-include="+glob)
	}
	args = append(args, lock.Debian.Suites[0].Codename, tar)
	bases := deb.Configured("/")
	for _, s := range lock.Debian.Suites {
		args = append(args, "deb "+bases[deb.ArchiveOf(s.Suite)]+" "+s.Suite+" main")
	}
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(lock.Created.Unix(), 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	layer, err := tarball.LayerFromFile(tar)
	if err != nil {
		t.Fatal(err)
	}
	return imageOf(t, layer)
}

// imageOf is an image of one layer, for amd64.
func imageOf(t *testing.T, layer v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	return img
}

func readImage(t *testing.T, img v1.Image) *inspect.FS {
	t.Helper()
	contents, err := inspect.Read(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	return contents
}
