//go:build e2e

package e2e

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/peers"
)

// fetchDebian fetches packages of one of Debian's suites, checked from the
// archive's signature down, and returns their files.
func fetchDebian(t *testing.T, suite, arch string, pick func(*deb.Index) ([]deb.Package, error)) []string {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := os.ReadFile(filepath.Join(root, "images/kubelet/debian-archive-keyring.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	archive := &deb.Archive{Download: &download.Client{}, Base: debianArchive(), Keyring: keyring}
	all, err := archive.Suite(t.Context(), suite, arch)
	if err != nil {
		t.Fatal(err)
	}
	packages, err := pick(all.Packages[arch])
	if err != nil {
		t.Fatal(err)
	}
	var files []deb.File
	for _, p := range packages {
		files = append(files, p.File())
	}
	paths, err := archive.FetchAll(t.Context(), 2, files...)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// debianArchive is the address of the archive that apt here is configured with.
func debianArchive() string {
	return cmp.Or(os.Getenv("IMGCTL_ARCHIVE"), deb.Configured("/")[deb.Main], deb.DefaultBase)
}

// unpackDebian unpacks packages into a directory, which is removed with the test.
// Nothing of them is run or installed.
func unpackDebian(t *testing.T, suite string, pick func(*deb.Index) ([]deb.Package, error)) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range fetchDebian(t, suite, "amd64", pick) {
		output(t, exec.Command("dpkg", "-x", file, dir))
	}
	return dir
}
